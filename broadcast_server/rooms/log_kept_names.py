"""The kept names in a log file: written when the server stops, and read by its next start."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress

from broadcast_server.protocol.names import validate_name, validate_room

from .kept_names import KeptName
from .log_rows import fetch_rows


def take_kept_names(base: sqlite3.Connection) -> list[KeptName]:
    """Return the names in the file, and delete them. What cannot be a name is left out.

    If the names are damaged, there are none: that is no reason not to start.
    """
    columns = "room TEXT NOT NULL, session TEXT NOT NULL, name TEXT NOT NULL"
    rows = []
    with suppress(sqlite3.DatabaseError):
        base.execute(f"CREATE TABLE IF NOT EXISTS kept_name ({columns})")
        rows = fetch_rows(base, "SELECT room, session, name FROM kept_name")
        base.execute("DELETE FROM kept_name")
    # No address is in the file. As one of its own, each name is among the last to be pushed out.
    return [
        KeptName(room, session, name, address=session)
        for room, session, name in rows
        if _is_valid(room, session, name)
    ]


def write_kept_names(base: sqlite3.Connection, kept_names: Iterable[KeptName]) -> None:
    """Write *kept_names* to the file, for the next start, unless their table is damaged."""
    with suppress(sqlite3.DatabaseError):
        base.executemany(
            "INSERT INTO kept_name VALUES (?, ?, ?)", [each[:3] for each in kept_names]
        )


def _is_valid(room: object, session: object, name: object) -> bool:
    if not (isinstance(room, str) and isinstance(session, str) and isinstance(name, str)):
        return False
    try:
        return bool(validate_room(room) and validate_name(name) == name)
    except ValueError:
        return False
