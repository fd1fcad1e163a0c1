"""Log rows: what may stand in the tables of a log file, and what is damage.

The bytes of a disk can change. A row that this server cannot have written is an error here, so
that it can neither be sent to anyone nor make a number be given twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from broadcast_server.protocol.bounds import MAX_FRAME_BYTES, MAX_SEQ
from broadcast_server.protocol.messages import Message, fit_text, is_valid_id
from broadcast_server.protocol.sanitize import strip_control

from .message_log import MessageLog

MAX_NAME_CHARS = 64
MAX_TIME_CHARS = 64
MAX_ID_SCOPE_CHARS = 256
"""Generous limits, so that what a later version writes is not taken for damage."""


def fetch_rows(base: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a *query*, none if a text in them is not UTF-8: that is damage, too."""
    try:
        return base.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "decode" in str(error):
            return []
        raise


def read_room_head(base: sqlite3.Connection, room: str) -> int:
    """Return the number of the newest message of *room*, 0 without any.

    Raises ValueError if it cannot be one, sqlite3.Error.
    """
    rows = base.execute("SELECT head FROM room WHERE name = ?", (room,)).fetchall()
    if not rows:
        of_room = "SELECT seq FROM message WHERE room = ? LIMIT 1"
        if base.execute(of_room, (room,)).fetchall():
            raise ValueError("the number of its last message is missing")
        return 0
    head = rows[0][0]
    if not isinstance(head, int) or not 0 <= head <= MAX_SEQ:
        raise ValueError("the number of its last message is invalid")
    return head


def write_messages(
    base: sqlite3.Connection,
    messages: Iterable[tuple[str, Message, str]],
    logs: Mapping[str, MessageLog],
) -> None:
    """Write *messages*, each with its room and id scope, and what else is new in their *logs*.

    Raises sqlite3.Error.
    """
    base.executemany(
        # A row that is there already is damage: the log in memory gives each number once.
        "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((room, m.seq, m.name, m.text, m.at, m.id, id_scope) for room, m, id_scope in messages),
    )
    base.executemany(
        "INSERT OR REPLACE INTO room VALUES (?, ?, ?)",
        ((room, log.epoch, log.head) for room, log in logs.items()),
    )
    base.executemany(
        "DELETE FROM message WHERE room = ? AND seq < ?",
        ((room, log.first) for room, log in logs.items()),
    )


def read_message(row: Sequence[object]) -> tuple[Message, str]:
    """Return the message in *row* and its id scope. Raises ValueError if it cannot be one."""
    match row:
        case [
            int() as seq,
            str() as name,
            str() as text,
            str() as at,
            (None | str()) as id,
            str() as id_scope,
        ]:
            pass
        case _:
            raise ValueError("a message has a value of the wrong type")
    if not 1 <= seq <= MAX_SEQ:
        raise ValueError("the number of a message is invalid")
    if not _is_line(name, MAX_NAME_CHARS) or ":" in name:
        raise ValueError(f"the name of message {seq} is invalid")
    if len(text) > MAX_FRAME_BYTES:  # a message that was hidden has none
        raise ValueError(f"the text of message {seq} is {len(text)} characters")
    if not _is_line(at, MAX_TIME_CHARS) or not (id is None or is_valid_id(id)):
        raise ValueError(f"the time or the id of message {seq} is invalid")
    if len(id_scope) > MAX_ID_SCOPE_CHARS:
        raise ValueError(f"the id scope of message {seq} is invalid")
    return Message(seq, name, fit_text(text), at, id), id_scope


def _is_line(text: str, max_chars: int) -> bool:
    return 1 <= len(text) <= max_chars and strip_control(text) == text and "\t" not in text
