"""The log probe: whether a file may be a log file, found out before anything about it is changed.

To make a file private, and to open it for writing, changes it. The file that somebody names by
mistake, or that a symbolic link leads to, may be another program's.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from broadcast_server.console.private_file import check_regular, check_sqlite_files

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
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=0, uri=True)
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        database.close()
    if tables and application != application_id:
        raise LogFileError(f"log file {shown} belongs to another program: name another file")
