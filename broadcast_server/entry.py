"""The entry: what a newcomer asks for, read from the query of its request.

The same parameters come over a WebSocket's handshake, a POST and a stream, so
this module knows of none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from .names import check_name
from .protocol import Cursor, Error, Format

_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SESSION = re.compile(r"[A-Za-z0-9_-]{16,64}")
_CURSOR = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,18})")
_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a newcomer asks for."""

    name: str = "anonymous"
    room: str = "lobby"
    history: int = 0
    since: Cursor | None = None
    session: str | None = None
    format: Format = Format.TEXT


def parse_query(query: str) -> dict[str, str] | Error:
    """Read a request's query string; of a parameter given twice the first counts."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError:
        return Error("bad_query", "query is not percent-encoded UTF-8 of at most 64 parameters")
    return dict(reversed(pairs))


def parse_entry(query: str, format: Format) -> Entry | Error:
    """Read from a request's query string what a newcomer asks for."""
    given = parse_query(query)
    return given if isinstance(given, Error) else entry_of(given, format)


def parse_count(given: Mapping[str, str], name: str) -> int | Error:
    """Read a parameter that is a number, 0 if it is not there."""
    count = given.get(name, "0")
    if not _COUNT.fullmatch(count):
        return Error(f"bad_{name}", f"{name} is not a number of 1 to 18 digits")
    return int(count)


def parse_cursor(text: str) -> Cursor | None:
    """Read a cursor, None if it is none."""
    found = _CURSOR.fullmatch(text)
    return Cursor(found[1], int(found[2])) if found else None


def entry_of(given: Mapping[str, str], format: Format) -> Entry | Error:
    """Read from a request's parameters what a newcomer asks for."""
    try:
        name = check_name(given.get("name", "anonymous"))
    except ValueError as error:
        return Error("bad_name", str(error))
    room = given.get("room", "lobby")
    if not _ROOM.fullmatch(room):
        return Error("bad_room", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9")
    history = parse_count(given, "history")
    if isinstance(history, Error):
        return history
    since = given.get("since")
    cursor = None if since is None else parse_cursor(since)
    if since is not None and cursor is None:
        return Error("bad_cursor", "since is not a cursor EPOCH.SEQ")
    session = given.get("session")
    if session is not None and not _SESSION.fullmatch(session):
        return Error("bad_session", "session is not 16 to 64 of A-Z a-z 0-9 _ -")
    return Entry(
        name=name,
        room=room,
        history=history,
        since=cursor,
        session=session,
        format=format,
    )
