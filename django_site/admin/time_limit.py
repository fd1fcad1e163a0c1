"""The time limit of a search: a statement that takes longer is interrupted by the database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction

SQLITE_STEPS = 20_000
"""After how many steps of its virtual machine SQLite checks the time: a few milliseconds."""

QUERY_CANCELED = "57014"
"""PostgreSQL's code of the error with which a statement ends that took too long."""


class TimeLimitExceeded(Exception):
    """A statement took too long, and was interrupted."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt statements that take too long. Raises `TimeLimitExceeded`.

    With SQLite *seconds* is the limit of all statements together, with PostgreSQL of each of
    them. Any other database has no limit.
    """
    try:
        if connection.vendor == "sqlite":
            with _sqlite_limit(seconds):
                yield
        elif connection.vendor == "postgresql":
            with transaction.atomic(), connection.cursor() as cursor:
                value = f"{seconds * 1000:.0f}"
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [value])
                yield
        else:
            yield
    # With DEBUG, Django also asks SQLite to format the statement, and gets SQLite's own error.
    except (OperationalError, sqlite3.OperationalError) as error:
        if getattr(error.__cause__, "sqlstate", str(error)) in (QUERY_CANCELED, "interrupted"):
            raise TimeLimitExceeded from None
        raise


@contextmanager
def _sqlite_limit(seconds: float) -> Iterator[None]:
    # Not in a transaction: in this site's database, each of them may write and waits for others.
    connection.ensure_connection()
    deadline = time.monotonic() + seconds
    raw = connection.connection
    raw.set_progress_handler(lambda: time.monotonic() > deadline, SQLITE_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
