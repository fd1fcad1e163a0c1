"""The modes of rooms in a log file, so that a locked room is still locked after a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from broadcast_server.protocol.names import validate_room
from broadcast_server.protocol.operators import validate_topic

from .log_rows import fetch_rows
from .room_mode import NO_MODE, RoomMode, RoomModes

_COLUMNS = (
    "room TEXT PRIMARY KEY, topic TEXT NOT NULL, locked INTEGER NOT NULL, announce INTEGER NOT NULL"
)


def create_room_modes(base: sqlite3.Connection) -> None:
    """Make the table, if it does not exist. Raises sqlite3.Error."""
    base.execute(f"CREATE TABLE IF NOT EXISTS room_mode ({_COLUMNS}) WITHOUT ROWID")


def read_room_modes(base: sqlite3.Connection) -> tuple[RoomModes, int]:
    """Return the modes in the file, and how many rows are damaged.

    That is no reason not to start: whoever runs the server is told.
    """
    modes, damaged = RoomModes(), 0
    try:
        rows = fetch_rows(base, "SELECT room, topic, locked, announce FROM room_mode")
    except sqlite3.DatabaseError:
        rows, damaged = [], 1
        create_room_modes(base)
    for row in rows:
        match row:
            case [str() as room, str() as topic, 0 | 1 as locked, 0 | 1 as announce]:
                mode = RoomMode(topic, bool(locked), bool(announce))
                is_valid = _is_valid(room, topic) and modes.set(room, mode)
            case _:
                is_valid = False
        damaged += not is_valid
    return modes, damaged


def write_room_modes(base: sqlite3.Connection, modes: Mapping[str, RoomMode]) -> None:
    """Write the *modes* of some rooms to the file, in a transaction of the caller."""
    base.executemany("DELETE FROM room_mode WHERE room = ?", [(room,) for room in modes])
    base.executemany(
        "INSERT INTO room_mode VALUES (?, ?, ?, ?)",
        [(room, *mode) for room, mode in modes.items() if mode != NO_MODE],
    )


def _is_valid(room: str, topic: str) -> bool:
    try:
        return validate_room(room) == room and validate_topic(topic) == topic
    except ValueError:
        return False
