"""Join requests: the name, room and position that a client asks for in its query string.

The parameters are the same in a WebSocket handshake, a POST and an event stream, and this module
does not know which of them a query came with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from .bounds import MAX_SEQ_DIGITS
from .messages import EPOCH_PATTERN, Cursor, Error, Format
from .names import validate_name, validate_room
from .session_key import SessionKey, find_session

DEFAULT_NAME = "anonymous"
DEFAULT_ROOM = "lobby"

MAX_PARAMETERS = 64
"""How many parameters a query string has at most."""

_CURSOR = re.compile(rf"({EPOCH_PATTERN})\.([0-9]{{1,{MAX_SEQ_DIGITS}}})")
_COUNT = re.compile(rf"[0-9]{{1,{MAX_SEQ_DIGITS}}}")


@dataclass(slots=True)  # not frozen, for the reason given in .messages
class JoinRequest:
    """What a client asks for when it joins a room, or subscribes to it without a *name*.

    It first gets the messages after the cursor *since* or, without one, the last *history*
    messages. *session* is the digest of the secret by which it can take over its own stale
    connection. The join and the leave of a *quiet* member are for lists of members, and are not
    told to people. *operator* says that it is an operator or wants to be one: admission rejects it
    if it is not.
    """

    name: str = DEFAULT_NAME
    room: str = DEFAULT_ROOM
    history: int = 0
    since: Cursor | None = None
    session: str | None = None
    format: Format = Format.TEXT
    quiet: bool = False
    operator: bool = False


def parse_query(query: str) -> dict[str, str] | Error:
    """Read the parameters of a query string. If one is given twice, the first one counts."""
    if "%" not in query and "+" not in query and query.count("&") < MAX_PARAMETERS:
        # The usual case, for which parse_qsl takes six times as long.
        plain = [pair.partition("=") for pair in query.split("&") if pair]
        return {name: value for name, _, value in reversed(plain)}
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        text = f"query is not percent-encoded UTF-8 of at most {MAX_PARAMETERS} parameters"
        return Error("bad_query", text)
    return dict(reversed(pairs))


def parse_join(
    query: str,
    format: Format,
    key: SessionKey,
    *,
    headers: Sequence[str] = (),
    subprotocols: Iterable[str] = (),
    operator: bool = False,
) -> JoinRequest | Error:
    """Read a join request from a query string, and its session from where the client sent it.

    Args:
        query: The query string.
        format: The format of the client's frames.
        key: The key for the digest of the session.
        headers: The values of all headers that carry a session.
        subprotocols: The subprotocols that the client offers.
        operator: Whether the client wants to be an operator.

    """
    parameters = parse_query(query)
    if isinstance(parameters, Error):
        return parameters
    session = session_from(parameters, key, headers=headers, subprotocols=subprotocols)
    return join_from_parameters(parameters, format, session, operator=operator)


def session_from(
    parameters: Mapping[str, str],
    key: SessionKey,
    *,
    headers: Sequence[str],
    subprotocols: Iterable[str] = (),
) -> str | Error | None:
    """Return the digest of the session that a client sent, None if it sent none.

    The arguments are those of `parse_join`, with parsed *parameters*.
    """
    session = find_session(headers, subprotocols, parameters.get("session"))
    try:
        return None if session is None else key.digest_sent(session)
    except ValueError as error:
        return Error("bad_session", str(error))


def parse_count(parameters: Mapping[str, str], name: str) -> int | Error:
    """Read the parameter *name* as a number; it is 0 if it is absent."""
    count = parameters.get(name, "0")
    if not _COUNT.fullmatch(count):
        return Error(f"bad_{name}", f"{name} is not a number of 1 to 18 digits")
    return int(count)


def parse_cursor(text: str) -> Cursor | None:
    """Read a cursor ``EPOCH.SEQ``. None if *text* is not a cursor."""
    match = _CURSOR.fullmatch(text)
    return Cursor(match[1], int(match[2])) if match else None


def join_from_parameters(
    parameters: Mapping[str, str],
    format: Format,
    session: str | Error | None = None,
    *,
    operator: bool = False,
) -> JoinRequest | Error:
    """Read a join request from parsed parameters. Unknown parameters are ignored.

    *session* is what `session_from` returns, and *operator* says whether the client wants to be an
    operator.
    """
    try:
        name = validate_name(parameters.get("name", DEFAULT_NAME))
    except ValueError as error:
        return Error("bad_name", str(error))
    try:
        room = validate_room(parameters.get("room", DEFAULT_ROOM))
    except ValueError as error:
        return Error("bad_room", str(error))
    history = parse_count(parameters, "history")
    if isinstance(history, Error):
        return history
    since = parameters.get("since")
    cursor = None if since is None else parse_cursor(since)
    if since is not None and cursor is None:
        return Error("bad_cursor", "since is not a cursor EPOCH.SEQ")
    quiet = parameters.get("quiet", "0")
    if quiet not in ("0", "1"):
        return Error("bad_quiet", "quiet is not 0 or 1")
    if isinstance(session, Error):
        return session
    return JoinRequest(
        name=name,
        room=room,
        history=history,
        since=cursor,
        session=session,
        format=format,
        quiet=quiet == "1",
        operator=operator,
    )
