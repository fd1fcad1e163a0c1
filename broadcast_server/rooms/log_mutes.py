"""The mutes in a log file, so that whoever is muted still is after a restart.

Each row of the table is one mute: its number, the room, the digest of the session of who is muted
(empty without one), the keys of its names with line ends between them, and the second of the Unix
time at which it ends. No address is in the file. The table is made when it is missing, as in a file
of an earlier program.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

from broadcast_server.protocol.bounds import MAX_SEQ
from broadcast_server.protocol.names import validate_room

from .log_rows import MAX_ID_SCOPE_CHARS, fetch_rows
from .restrictions import MAX_NAMES, MUTE_S, Mute

MAX_KEY_CHARS = 1024
"""The longest key of a name that is read, generously: see `protocol.names.name_key`."""

_COLUMNS = (
    "number INTEGER PRIMARY KEY, room TEXT NOT NULL, session TEXT NOT NULL, names TEXT NOT NULL,"
    " until INTEGER NOT NULL"
)


def read_mutes(base: sqlite3.Connection) -> tuple[list[Mute], int]:
    """Return the mutes in the file that have not ended, and how many rows are damaged.

    Rows of either kind are deleted, in a transaction of the caller. Raises sqlite3.Error.
    """
    mutes, damaged, now = list[Mute](), 0, time.time()
    query = "SELECT number, room, session, names, until FROM mute ORDER BY number"
    base.execute(f"CREATE TABLE IF NOT EXISTS mute ({_COLUMNS})")
    try:
        rows = fetch_rows(base, query)
        (count,) = base.execute("SELECT count(*) FROM mute").fetchone()
        damaged = count - len(rows)
    except sqlite3.DatabaseError:
        base.execute("DROP TABLE mute")
        base.execute(f"CREATE TABLE mute ({_COLUMNS})")
        return [], 1
    for row in rows:
        match row:
            case [int() as number, str() as room, str() as session, str() as names, int() as until]:
                mute = Mute(number, room, session, tuple(names.split("\n")), until - now)
                is_valid = _is_valid(mute)
            case _:
                is_valid = False
        if is_valid and mute.seconds_left > 0:
            mutes.append(mute._replace(names=tuple(filter(None, mute.names))))
        damaged += not is_valid
    kept = {mute.number for mute in mutes}
    gone = [(row[0],) for row in rows if row[0] not in kept]
    if len(rows) < count:  # a text that is not UTF-8 hides all rows
        base.execute("DELETE FROM mute")
    base.executemany("DELETE FROM mute WHERE number = ?", gone)
    return mutes, damaged


def write_mutes(base: sqlite3.Connection, mutes: Mapping[int, Mute | None]) -> None:
    """Write *mutes* by their numbers, or delete those that are None. Raises sqlite3.Error."""
    now = time.time()
    base.executemany("DELETE FROM mute WHERE number = ?", [(number,) for number in mutes])
    base.executemany(
        "INSERT INTO mute VALUES (?, ?, ?, ?, ?)",
        [
            (*mute[:3], "\n".join(mute.names), round(now + mute.seconds_left))
            for mute in mutes.values()
            if mute is not None
        ],
    )


def _is_valid(mute: Mute) -> bool:
    try:
        is_room = validate_room(mute.room) == mute.room
    except ValueError:
        return False
    has_names = len(mute.names) <= MAX_NAMES and max(map(len, mute.names)) <= MAX_KEY_CHARS
    # The clock may have been put back meanwhile, but not by more than a mute lasts.
    is_timely = mute.seconds_left <= 2 * MUTE_S
    is_known = bool(mute.session or any(mute.names)) and len(mute.session) <= MAX_ID_SCOPE_CHARS
    return is_room and has_names and is_timely and is_known and 0 < mute.number <= MAX_SEQ
