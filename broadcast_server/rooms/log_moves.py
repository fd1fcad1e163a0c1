"""Log moves: closes a log file that is not at its path any more, or has another content there."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from .log_state import COPY, LogState, write_state
from .log_watch import delete_journal


def complete_moved_file(base: sqlite3.Connection, state: LogState) -> None:
    """Move what is in the journal of *base* to its file, wherever that is by now: a copy."""
    with suppress(sqlite3.Error):
        base.execute("BEGIN")
        write_state(base, state._replace(phase=COPY))
        base.execute("COMMIT")
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def close_without_journal(base: sqlite3.Connection, path: Path) -> None:
    """Close *base*, and leave what is at its *path* as it is.

    SQLite moves the journal to the file when the last connection is closed. So there is another one
    until the journal is deleted.
    """
    guard = sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=0, uri=True)
    with suppress(sqlite3.Error):
        guard.execute("BEGIN")
        guard.execute("SELECT count(*) FROM sqlite_master").fetchone()
    base.close()
    guard.close()
    delete_journal(path)
