"""The codec: writes messages as lines of text, JSON and server-sent events, and reads them back.

A frame carries one or more lines separated by line feeds. Servers call the ``encode_`` functions,
`decode_text` and `decode_json`; clients call `encode_json` and `decode_event`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring as quote
from typing import Any

from .bounds import BYTES_PER_LINE, MAX_SEQ, MAX_SEQ_DIGITS
from .messages import (
    BAD_ID,
    EPOCH_PATTERN,
    Error,
    Event,
    Heartbeat,
    Joined,
    Left,
    Members,
    MembersRequest,
    Message,
    MessageHidden,
    PingRequest,
    Pong,
    PrivateMessage,
    PrivateRequest,
    Renamed,
    RenameRequest,
    Request,
    SayRequest,
    Welcome,
    is_valid_id,
    validate_message,
)
from .names import validate_room
from .operators import (
    ACT_OF_EVENT,
    ACTS,
    BAN,
    MAX_SLOW_S,
    OperatorEvent,
    OperatorRequest,
    act_text,
)
from .sanitize import escape_control, is_plain, replace_control

_EVENTS: dict[str, type[Any]] = {
    "welcome": Welcome,
    "message": Message,
    "hidden": MessageHidden,
    "private": PrivateMessage,
    "joined": Joined,
    "left": Left,
    "renamed": Renamed,
    "error": Error,
    "members": Members,
    "pong": Pong,
    "head": Heartbeat,
}

_TYPES: dict[type[Event | Request], str] = {
    **{event: type for type, event in _EVENTS.items()},
    SayRequest: "say",
    MembersRequest: "members",
    PingRequest: "ping",
    RenameRequest: "name",
    PrivateRequest: "private",
}


def encode_text(event: Event) -> str | None:
    """Write *event* as one or more lines of text, or return None if text clients do not get it."""
    if type(event) is Message and is_plain(event.text):  # nearly always
        return f"{event.name}: {event.text}"
    match event:
        case Message(name=name, text=text):
            # splitlines and not split("\n"): after everything that a terminal shows as a line
            # break the name is repeated, so that a message cannot forge a line of its own.
            lines = text.splitlines() or [""]
            return "\n".join([f"{name}: {replace_control(line)}" for line in lines])
        case PrivateMessage(text=text):
            # As above. No name begins with *, so no public message looks like this.
            lines = text.splitlines() or [""]
            return "\n".join(
                [f"* {private_heading(event)}: {replace_control(line)}" for line in lines]
            )
        case Joined(quiet=True) | Left(quiet=True):
            return None
        case Joined(name=name):
            return f"{name} joined the chat"
        case Left(name=name):
            return f"{name} left the chat"
        case Renamed(name=name, to=to):
            return f"{name} is now {to}"
        case Error(text=text):
            return f"* {replace_control(' '.join(text.splitlines()))}"
        case Members(count=count, members=members, verified=verified):
            more = f" and {count - len(members)} more" if count > len(members) else ""
            # A name cannot contain a colon, so it cannot imitate this mark.
            marked = f" (verified: {', '.join(verified)})" if verified else ""
            return f"* {count} here: {', '.join(members)}{more}{marked}"
        case OperatorEvent():
            return f"* {act_text(event)}"
        case _:
            return None


def private_heading(message: PrivateMessage) -> str:
    """Return what stands before each line of a private message: from whom it is, or to whom.

    A name has no comma, so no name makes one look like the other.
    """
    if message.id is None:
        return f"{message.name} to you, in private"
    return f"you, in private to {message.to}"


def encode_json(event: Event | Request) -> str:
    """Write *event*, or a client's request, as JSON on one line.

    Whatever a terminal could obey is escaped, since the line may be printed as it is.
    """
    if type(event) is Message:
        # Most lines are messages, and json.dumps takes 5 to 7 times as long as this.
        text, id = event.text, event.id
        tail = "" if id is None else f',"id":{quote(id)}'
        line = (
            f'{{"type":"message","seq":{event.seq},"name":{quote(event.name)},'
            f'"text":{quote(text)},"at":{quote(event.at)}{tail}}}'
        )
        # JSON escapes all control characters of ASCII but one. Nothing unsafe is in a name.
        if line.isascii() and "\x7f" not in line:
            return line
        is_safe = text.isprintable() and (id is None or id.isprintable())
        return line if is_safe else escape_control(line)
    if type(event) is Joined and event.verified is event.quiet is None:
        # Who comes back after a restart comes with thousands.
        name = quote(event.name)
        return escape_control(f'{{"type":"joined","name":{name},"count":{event.count}}}')
    if isinstance(event, OperatorEvent | OperatorRequest):
        fields = _act_fields(event)
    else:
        fields = {"type": _TYPES[type(event)]}
        for field in event.__slots__:
            value = getattr(event, field)
            if value is not None or field == "missed":
                fields[field] = value
    return escape_control(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))


def _act_fields(act: OperatorEvent | OperatorRequest) -> dict[str, object]:
    kind = ACTS[act.act]
    is_event = isinstance(act, OperatorEvent)
    fields: dict[str, object] = {"type": kind.event if is_event else act.act}
    fields |= {each: getattr(act, each) for each in (kind.fields if is_event else kind.requested)}
    if fields.get("seq") == 0:
        del fields["seq"]
    elif "seq" in fields and not is_event:
        del fields["name"]  # it is that of the author
    if isinstance(act, OperatorEvent):
        fields["by"] = act.by
    return fields if act.id is None else fields | {"id": act.id}


def encode_sse(event: Event, epoch: str) -> str:
    """Write *event* as a server-sent event of the log *epoch*, without the line break that ends it.

    A browser reconnects with the last id that it received, as its cursor. So only messages have
    an id: a `MessageHidden` may be about a message further back.
    """
    id = f"id: {epoch}.{event.seq}\n" if type(event) is Message else ""
    return f"{id}data: {encode_json(event)}\n"


def decode_text(frame: str, limit: int) -> Iterator[Request | Error]:
    """Read the frame of a text client: each line that is not empty is one request.

    *limit* is the longest message, in bytes of UTF-8.
    """
    # A message of ASCII breaks no rule of `validate_message` if it has fewer characters than lines
    # are allowed, as a short line has. To say so here saves half of the time of decoding it.
    max_sure_chars = min(limit, limit // BYTES_PER_LINE) if frame.isascii() else 0
    for raw_line in frame.split("\n"):
        line = raw_line.rstrip("\r")
        if line == "/who":
            yield MembersRequest()
        elif 0 < len(line) <= max_sure_chars:
            yield SayRequest(line)
        elif line:
            yield validate_message(line, None, limit)


def plain_lines(frame: str, limit: int) -> list[str] | None:
    """Return the lines of a text client's *frame* if each is sure to be a valid, short message.

    Otherwise, and if there is only one line, return None: `decode_text` tells what each line is. A
    command begins with a slash, so no line here does.
    """
    if "\n" not in frame or not frame.isascii() or frame[0] == "/" or "\n/" in frame:
        return None
    lines = frame.split("\n")
    is_short = len(max(lines, key=len)) <= min(limit, limit // BYTES_PER_LINE)
    return lines if is_short and all(lines) and "".join(lines).isprintable() else None


def decode_json(frame: str, limit: int) -> Iterator[Request | Error]:
    """Read the frame of a JSON client: each line that is not empty is one request.

    *limit* is the longest message, in bytes of UTF-8.
    """
    for line in frame.split("\n"):
        if line and not line.isspace():
            yield _decode_request(line, limit)


def _decode_request(line: str, limit: int) -> Request | Error:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Error("bad_json", "line is not JSON")
    if not isinstance(value, dict):
        return Error("bad_json", "line is not a JSON object")
    id = value.get("id")
    if id is not None and not (isinstance(id, str) and is_valid_id(id)):
        return BAD_ID
    match value.get("type"):
        case "say":
            text = value.get("text")
            if not isinstance(text, str):
                return Error("bad_text", "text is not a string", id)
            return validate_message(text, id, limit)
        case "members":
            return MembersRequest()
        case "ping":
            return PingRequest(id)
        case "name":
            name = value.get("name")
            if not isinstance(name, str):
                return Error("bad_name", "name is not a string", id)
            return RenameRequest(name, id)
        case "private":
            return _decode_private(value, id, limit)
        case str() as act if act in ACTS:
            return _decode_act(act, value, id)
        case _:
            known = "say, members, name, private and ping"
            return Error("bad_type", f"type is unknown, known are {known}", id)


def _decode_private(value: dict[str, Any], id: str | None, limit: int) -> PrivateRequest | Error:
    to, text = value.get("to"), value.get("text")
    if not isinstance(to, str):
        return Error("bad_name", "to is not a string", id)
    if not isinstance(text, str):
        return Error("bad_text", "text is not a string", id)
    checked = validate_message(text, id, limit)
    return checked if isinstance(checked, Error) else PrivateRequest(to, text, id)


def _decode_act(act: str, value: dict[str, Any], id: str | None) -> OperatorRequest | Error:
    fields: dict[str, Any] = {field: value.get(field) for field in ACTS[act].requested}
    if "on" in fields and "on" not in value:
        fields["on"] = True
    if "seq" in fields:
        del fields["seq" if fields["seq"] is None else "name"]
    if act == BAN and "text" not in value:
        del fields["text"]
    for field, content in fields.items():
        if field == "on":
            if not isinstance(content, bool):
                return Error("bad_on", "on is not true or false", id)
        elif field == "seq":
            if not _is_number(content) or content == 0:
                return Error("bad_seq", "seq is not the number of a message", id)
        elif field == "seconds":
            if type(content) is not int or not 0 <= content <= MAX_SLOW_S:
                text = f"seconds is not a whole number from 0 to {MAX_SLOW_S}"
                return Error("bad_seconds", text, id)
        elif not _is_text(content):
            return Error(f"bad_{field}", f"{field} is not a string", id)
    return OperatorRequest(act, id=id, **fields)


def decode_event(line: str) -> Event | None:
    """Read a JSON line from a server. None if its type is unknown, from a later version.

    Raises ValueError if the line is not JSON, or a field is missing or invalid. Whoever sent such a
    line is no server of this protocol, so nothing that a client keeps or shows may depend on it.
    """
    try:
        value = _EVENT_DECODER.decode(line)
        event = _EVENTS.get(value["type"])
        act = ACT_OF_EVENT.get(value["type"])
    except (RecursionError, TypeError, KeyError):
        raise ValueError("line is not an event") from None
    if event is None and act is None:
        return None
    names = event.__slots__ if event else (*ACTS[act or ""].fields, "by", "id")
    fields: dict[str, Any] = {field: value.get(field) for field in names}
    for field, content in fields.items():
        is_valid = _CHECKS.get(f"{value['type']}.{field}") or _CHECKS.get(field, _is_text)
        if not is_valid(content):
            raise ValueError(f"{field} of {value['type']} is missing or invalid")
        if isinstance(content, list):
            fields[field] = tuple(content)
    if event is None:
        return OperatorEvent(act or "", **{**fields, "seq": fields.get("seq") or 0})
    decoded: Event = event(**fields)
    return decoded


def _parse_int(digits: str) -> int:
    # Without this, Python before 3.10.7 takes minutes to read a number of a million digits.
    return int(digits) if len(digits) <= MAX_SEQ_DIGITS else MAX_SEQ + 1


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_EVENT_DECODER = json.JSONDecoder(parse_int=_parse_int, parse_constant=_reject_constant)

MAX_EVENT_NAME_CHARS = 64
"""How long a name of an event may be: more than any version allows for the name of a member."""

_EPOCH = re.compile(EPOCH_PATTERN)


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_EVENT_NAME_CHARS and _is_text(value)


def _is_room(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(validate_room(value))
    except ValueError:
        return False


def _is_epoch(value: object) -> bool:
    return isinstance(value, str) and bool(_EPOCH.fullmatch(value))


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEQ


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value))


# The checks by field, or by type and field where that is an exception. All other fields are text.
_CHECKS: dict[str, Callable[[object], bool]] = {
    "seq": _is_number,
    "count": _is_number,
    "name": _is_name,
    "to": _is_name,
    "room": _is_room,
    "epoch": _is_epoch,
    "missed": lambda value: value is None or _is_number(value),
    "recovered": lambda value: isinstance(value, bool),
    "members": _are_names,
    "verified": lambda value: value is None or _are_names(value),
    "max_bytes": lambda value: value is None or (_is_number(value) and value != 0),
    "joined.verified": lambda value: value is None or value is True,
    "renamed.verified": lambda value: value is None or value is True,
    "quiet": lambda value: value is None or value is True,
    "id": lambda value: value is None or _is_text(value),
    "by": _is_name,
    "on": lambda value: isinstance(value, bool),
    "seconds": _is_number,
    "messages": _is_number,
    **dict.fromkeys(("hid.seq", "reported.seq"), lambda value: value is None or _is_number(value)),
    **dict.fromkeys(
        ("welcome.operator", "welcome.locked", "welcome.announce", "welcome.muted"),
        lambda value: value is None or value is True,
    ),
    "welcome.topic": lambda value: value is None or _is_text(value),
    "welcome.slow": lambda value: value is None or _is_number(value),
    # In an event stream, the welcome of a subscriber has no name.
    "welcome.name": lambda value: value == "" or _is_name(value),
}
