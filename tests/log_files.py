"""Log files in tests: those of a server that is killed, and those that cannot be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from broadcast_server.protocol.messages import Message
from broadcast_server.rooms.log_marker import LogMarker
from broadcast_server.rooms.message_log import MessageLog
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


UNDELETABLE = Path("/proc/version")
"""A regular file that nobody can delete or write, root included."""


def fail(file: SQLiteLog) -> LogMarker:
    """Let every write fail, and the deletion of the marker as well. Return the marker."""
    (pages,) = file._database.execute("PRAGMA page_count").fetchone()
    file._database.execute(f"PRAGMA max_page_count={pages}")
    marker, file._marker = file._marker, LogMarker(UNDELETABLE)
    return marker


def read_messages(log: MessageLog, seq: int, limit: int) -> list[Message]:
    """Return what follows number *seq* in *log*, of which nothing is hidden."""
    entries = log.read_after(seq, limit)
    messages = [each for each in entries if isinstance(each, Message)]
    assert messages == entries
    return messages
