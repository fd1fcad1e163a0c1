"""Log files in tests: how they are left by a server that is killed."""

from __future__ import annotations

import sqlite3

from broadcast_server.rooms.sqlite_log import SQLiteLog


def kill(file: SQLiteLog) -> None:
    """Close the file without notice, as when the process is killed: its journal stays.

    The last connection that is closed would move the journal to the file, unless it may only read.
    """
    guard = sqlite3.connect(f"{file.path.absolute().as_uri()}?mode=ro", uri=True)
    guard.execute("BEGIN")
    guard.execute("SELECT count(*) FROM state").fetchone()
    file._database.close()
    guard.close()
    file._marker.close()
