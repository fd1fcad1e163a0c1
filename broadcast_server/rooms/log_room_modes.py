"""The modes of rooms in a log file, so that a locked room is still locked after a restart.

Slow mode has a table of its own, which is made when it is missing: version 3 began without it, and
a program that does not know it leaves it alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from broadcast_server.protocol.names import validate_room
from broadcast_server.protocol.operators import MAX_SLOW_S, validate_topic

from .log_rows import fetch_rows
from .room_mode import NO_MODE, RoomMode, RoomModes

_COLUMNS = (
    "room TEXT PRIMARY KEY, topic TEXT NOT NULL, locked INTEGER NOT NULL, announce INTEGER NOT NULL"
)

_SLOW_COLUMNS = "room TEXT PRIMARY KEY, seconds INTEGER NOT NULL"


def create_room_modes(base: sqlite3.Connection) -> None:
    """Make the tables, as far as they do not exist. Raises sqlite3.Error."""
    base.execute(f"CREATE TABLE IF NOT EXISTS room_mode ({_COLUMNS}) WITHOUT ROWID")
    _create_slow_mode(base)


def _create_slow_mode(base: sqlite3.Connection) -> None:
    base.execute(f"CREATE TABLE IF NOT EXISTS slow_mode ({_SLOW_COLUMNS}) WITHOUT ROWID")


def read_room_modes(base: sqlite3.Connection) -> tuple[RoomModes, int]:
    """Return the modes in the file, and how many rows are damaged.

    That is no reason not to start: whoever runs the server is told.
    """
    modes, damaged = RoomModes(), 0
    _create_slow_mode(base)
    for row in _read(base, "room_mode", "room, topic, locked, announce"):
        match row:
            case [str() as room, str() as topic, 0 | 1 as locked, 0 | 1 as announce]:
                mode = RoomMode(topic, bool(locked), bool(announce))
                is_valid = _is_valid(room, topic) and modes.set(room, mode)
            case _:
                is_valid = False
        damaged += not is_valid
    for row in _read(base, "slow_mode", "room, seconds"):
        match row:
            case [str() as room, int() as seconds] if 0 < seconds <= MAX_SLOW_S:
                mode = modes[room]._replace(slow=seconds)
                is_valid = _is_valid(room, "") and modes.set(room, mode)
            case _:
                is_valid = False
        damaged += not is_valid
    return modes, damaged


def _read(base: sqlite3.Connection, table: str, columns: str) -> list[tuple[Any, ...]]:
    """Return the rows of *table*, with one that is no valid row if the table is damaged."""
    try:
        return fetch_rows(base, f"SELECT {columns} FROM {table}")  # noqa: S608  # our own names
    except sqlite3.DatabaseError:
        create_room_modes(base)
        return [()]


def write_room_modes(base: sqlite3.Connection, modes: Mapping[str, RoomMode]) -> None:
    """Write the *modes* of some rooms to the file, in a transaction of the caller."""
    base.executemany("DELETE FROM room_mode WHERE room = ?", [(room,) for room in modes])
    base.executemany(
        "INSERT INTO room_mode VALUES (?, ?, ?, ?)",
        [(room, *mode[:3]) for room, mode in modes.items() if mode._replace(slow=0) != NO_MODE],
    )
    base.executemany("DELETE FROM slow_mode WHERE room = ?", [(room,) for room in modes])
    base.executemany(
        "INSERT INTO slow_mode VALUES (?, ?)",
        [(room, mode.slow) for room, mode in modes.items() if mode.slow],
    )


def _is_valid(room: str, topic: str) -> bool:
    try:
        return validate_room(room) == room and validate_topic(topic) == topic
    except ValueError:
        return False
