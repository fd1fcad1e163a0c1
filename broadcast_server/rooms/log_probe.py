"""The log probe: whether a file may be a log file, found out before anything about it is changed.

To make a file private, and to open it for writing, changes it. The file that somebody names by
mistake, or that a symbolic link leads to, may be another program's.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from broadcast_server.console.private_file import check_regular, check_sqlite_files

from .log_tables import check_tables
from .message_log import LogFileError

SQLITE_HEADER = b"SQLite format 3\0"
"""How a database of SQLite begins: https://www.sqlite.org/fileformat.html, section 1.3."""


def check_program(path: Path, application_id: int, shown: Path) -> None:
    """Check that *path* is empty, or a database of SQLite that has *application_id*.

    Raises `LogFileError` with the name *shown* if it is another one, `NotAFileError`, OSError,
    sqlite3.Error.
    """
    check_regular(path.stat())
    check_sqlite_files(path)
    with path.open("rb") as file:
        head = file.read(len(SQLITE_HEADER))
    if not head:
        return
    if head != SQLITE_HEADER:
        raise LogFileError(f"log file {shown} is not a log file, or is damaged: name another file")
    database = connect_to_read(path)
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != application_id:
            raise LogFileError(f"log file {shown} belongs to another program: name another file")
        check_tables(database, shown)
    finally:
        database.close()


def connect_to_read(path: Path, timeout: float = 0) -> sqlite3.Connection:
    """Connect to the database *path* for reading, so that neither it nor its folder is changed.

    A connection that may only read leaves files beside a database that was closed. One that may
    write moves to the database what a process that was killed has left beside it.
    """
    is_closed = not any(os.path.lexists(f"{path}{suffix}") for suffix in ("-wal", "-journal"))
    mode = "rw" if is_closed else "ro"
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", timeout=timeout, uri=True)
