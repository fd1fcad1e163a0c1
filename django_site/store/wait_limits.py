"""Wait limits: how long a process that serves clients waits for PostgreSQL, and PostgreSQL for it.

A process that stands still in a transaction holds the row of a room locked, and a database that
stands still answers nothing, while the connection between them is intact. Neither may stop those
that run. SQLite needs no such limits, except that nothing ends the transaction of a process that
stands still.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import transaction
from django.db.backends.signals import connection_created

IDLE_IN_TRANSACTION_S = 5
"""Seconds after which PostgreSQL ends the session of a process that does nothing in a transaction.
What the process wanted to write is tried again, when it runs again."""

LOCK_S = 2
"""Seconds for which a statement waits for a lock. All rooms of a process share a connection: the
others have their turn before it is tried again."""

STATEMENT_S = 20
"""Seconds that a statement may take."""

ANSWER_S = 25.0
"""Seconds without the end of a statement after which the process gives the connection up. It is
more than `STATEMENT_S`: a database that runs says why a statement has ended."""

SESSION_SETTINGS = {
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    "lock_timeout": f"{LOCK_S}s",
    "statement_timeout": f"{STATEMENT_S}s",
    # For an answer that a process which stands still does not take; nothing on a Unix socket.
    "tcp_user_timeout": "20s",
}

READ_LIMITS = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
SET_LIMITS = (
    "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)"
)
SET_IDLE_LIMIT = (
    "SELECT set_config(name, %s, true) FROM pg_settings"
    " WHERE name = 'idle_in_transaction_session_timeout' AND setting::int NOT BETWEEN 1 AND %s"
)
"""Statements that apply to the current transaction only."""

Steps = Generator[int, int, Any]
"""A step by step operation of psycopg: it yields what it waits for, and is sent what is ready."""


def limit_waits() -> None:
    """Apply the limits to every connection that this process opens from now on."""
    connection_created.connect(_limit_connection)


def _limit_connection(connection: Any, **_: Any) -> None:
    if connection.vendor != "postgresql":
        return
    raw = connection.connection
    if hasattr(raw, "wait"):  # psycopg 2 waits in its library
        raw.wait = _limit_wait(raw.wait, raw.close, connection.Database.OperationalError)
    calls = ", ".join(["set_config(%s, %s, false)"] * len(SESSION_SETTINGS))
    values = [each for pair in SESSION_SETTINGS.items() for each in pair]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", values)


@contextmanager
def limited_waits(connection: Any, seconds: float) -> Iterator[None]:
    """Do what is in the ``with`` block in a transaction, and wait for *seconds* at most.

    That is for the locks of others, and for answers of the database. *connection* is Django's. If
    the caller is in a transaction already, its own limits hold again after the block, except that
    PostgreSQL ends it after `IDLE_IN_TRANSACTION_S`: it may have locked what others need.
    """
    connection.ensure_connection()
    limited = {"sqlite": _limit_sqlite, "postgresql": _limit_postgresql}
    with limited[connection.vendor](connection, seconds):
        yield


@contextmanager
def _limit_sqlite(connection: Any, seconds: float) -> Iterator[None]:
    raw = connection.connection
    (before,) = raw.execute("PRAGMA busy_timeout").fetchone()
    raw.execute(f"PRAGMA busy_timeout = {math.ceil(seconds * 1000)}")
    try:
        with transaction.atomic():
            yield
    finally:
        with suppress(connection.Database.Error):  # it was closed
            raw.execute(f"PRAGMA busy_timeout = {before}")


@contextmanager
def _limit_postgresql(connection: Any, seconds: float) -> Iterator[None]:
    raw, attributes = connection.connection, vars(connection.connection)
    wait = attributes.get("wait")
    if hasattr(raw, "wait"):  # psycopg 2 waits in its library
        # A second more: a database that runs says why a statement has ended.
        end = time.monotonic() + seconds + 1
        error = connection.Database.OperationalError
        raw.wait = _limit_wait(raw.wait, raw.close, error, lambda: end - time.monotonic())
    is_inside = connection.in_atomic_block
    limit = f"{math.ceil(seconds * 1000)}ms"
    before: Any = None
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            if is_inside:
                cursor.execute(READ_LIMITS)
                before = cursor.fetchone()
            cursor.execute(SET_LIMITS, (limit, limit))
            cursor.execute(
                SET_IDLE_LIMIT, (f"{IDLE_IN_TRANSACTION_S}s", IDLE_IN_TRANSACTION_S * 1000)
            )
            yield
            if is_inside:
                cursor.execute(SET_LIMITS, before)
    finally:
        attributes.pop("wait", None)
        if wait is not None:
            raw.wait = wait


def _limit_wait(
    wait: Callable[..., Any],
    close: Callable[[], object],
    error: type[Exception],
    time_left: Callable[[], float] = lambda: ANSWER_S,
) -> Callable[..., Any]:
    """Return psycopg's *wait* with a limit, beyond which it closes the connection and fails.

    *time_left* returns how many seconds a wait that begins may take.
    """

    def until(seconds: float, steps: Steps) -> Steps:
        deadline = time.monotonic() + seconds
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    close()
                    raise error(f"no answer for {seconds:.3g} seconds")
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value

    def wait_within_limit(steps: Steps, *arguments: Any, **options: Any) -> Any:
        return wait(until(max(time_left(), 0), steps), *arguments, **options)

    return wait_within_limit
