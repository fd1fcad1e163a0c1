"""The migration lock: only one process at a time changes the tables of a database.

Two that start at the same time would both find the same tables missing, and one of them would fail
when the other had created them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from django.db import connection

try:
    import fcntl
except ImportError:  # Windows, where several processes must not start on a new database at once
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

ADVISORY_KEY = 0x62726F6164636173
"""The key of PostgreSQL's lock, which is 64 bits long: "broadcas"."""

WAITING = "another process prepares the database, waiting for it"


@contextmanager
def migration_lock() -> Iterator[None]:
    """Wait until no other process is in this context. It ends with its process in any case."""
    if connection.vendor == "postgresql":
        with _advisory_lock():
            yield
    elif fcntl is None or connection.vendor != "sqlite" or _is_in_memory():
        yield
    else:
        with _folder_lock(Path(connection.settings_dict["NAME"]).resolve().parent):
            yield


def _is_in_memory() -> bool:
    return bool(cast(Any, connection).is_in_memory_db())


@contextmanager
def _advisory_lock() -> Iterator[None]:
    # In a connection and a transaction of its own: a pooler in transaction mode gives each
    # transaction another connection, and a lock of a session would stay with one of them.
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [ADVISORY_KEY])
            if not cursor.fetchone()[0]:
                logger.info(WAITING)
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_KEY])
        yield
    finally:
        other.close()


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    # The folder itself, so that there is no file of a lock, which nobody could ever delete.
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info(WAITING)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # a network file system without locks
            logger.warning("%s cannot be locked: start one process at a time (%s)", folder, error)
        yield
    finally:
        os.close(handle)
