r"""The wire: what a line says, in text and in JSON, and how a connection ends.

A frame carries one or more lines separated by ``\n``. What a server sends are
*events*, what a client sends are *requests*; both are frozen values here, with
one function a direction and a format to turn them into lines and back. A line
that is no request becomes the `Error` that its sender is to get.

This module knows no room, socket, clock or framework. docs/protocol.md says the
same in prose.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring as quote
from typing import Any

SUBPROTOCOL = "broadcast.v1.json"  # by which a client asks for JSON lines
MAX_MESSAGE_BYTES = 4096  # default limit of one message, in UTF-8
BYTES_A_LINE = 16  # of that limit there are for each line of a message: see say_of
MAX_FRAME_BYTES = 2**20  # the WebSocket library ends a connection with 1009 for more
MAX_ID = 64  # characters
ROSTER = 100  # names in a welcome
ROSTER_ASKED = 1000  # names in an answer to /who: a request must stay cheap


class Format(enum.Enum):
    """How the lines of one connection are written."""

    TEXT = "text"
    JSON = "json"
    SSE = "sse"  # server-sent events, over HTTP


class CloseCode(enum.IntEnum):
    """Why we close. From 4500 on a client gives up; below, it comes back.

    All lie in 3000 to 4999, because Daphne sends no others.
    """

    STOPPING = 4001
    TOO_SLOW = 4008
    FULL = 4013
    REFUSED = 4500
    SIGN_IN = 4501
    FAULTS = 4502
    REMOVED = 4503
    REPLACED = 4504

    @staticmethod
    def final(code: int) -> bool:
        """Whether a client that was closed with *code* stays away."""
        # The library's codes for what a client sent: it would send the same again.
        return 4500 <= code <= 4999 or code in (1002, 1003, 1007, 1008, 1009, 1010)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a log: everything up to and with *seq* of *epoch* was seen."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


# `Message` and `Say` (and `Publish` and `Send` of the room) are as good as frozen, but are
# not declared so: there is one of each for every message, and to make all four took 5.9 us
# that way and takes 0.7 us this way, of 10 us that a message cost in all.

# -- events: what a server sends ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """You are in. *seq* is the number of the room's last message so far.

    *verified* are those of *members* whose names are accounts', None without any.
    """

    room: str
    name: str
    epoch: str
    seq: int
    recovered: bool
    missed: int | None
    count: int
    members: tuple[str, ...]
    verified: tuple[str, ...] | None = None


@dataclass(slots=True)
class Message:
    """Someone spoke. *at* is RFC 3339 in UTC, with milliseconds."""

    seq: int
    name: str
    text: str
    at: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Hidden:
    """A moderator took message *seq* away. In a replay it stands in the message's place."""

    seq: int
    id: str | None = None  # of the message, whose echo it then is


@dataclass(frozen=True, slots=True)
class Joined:
    """Someone else entered; *count* are here now. *verified* is true or None."""

    name: str
    count: int
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """Someone else left; *count* are here now."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """Someone is called *to* from now on, perhaps you. *verified* is true or None."""

    name: str
    to: str
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """You erred, or are about to be closed. *text* is for people, *code* for programs."""

    code: str
    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """Who is here: all of them in *count*, the first of them in *members*.

    *verified* are those of *members* whose names are accounts', None without any.
    """

    count: int
    members: tuple[str, ...]
    verified: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `Ping`, after everything that came before it."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Proof of life for JSON clients: the room's last message has this number."""

    seq: int


Numbered = Message | Hidden
"""What stands under a number of the log."""

Event = Welcome | Message | Hidden | Joined | Left | Renamed | Error | Members | Pong | Head

BAD_ID = Error("bad_id", f"id is not a string of 1 to {MAX_ID} characters")

# -- requests: what a client sends --------------------------------------------


@dataclass(slots=True)
class Say:
    """Tell everyone *text*; *id* makes a repeat harmless."""

    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """Ask who is here."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a `Pong`."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Rename:
    """Ask for another name."""

    name: str
    id: str | None = None


Request = Say | Who | Ping | Rename

# -- writing ------------------------------------------------------------------

_EVENTS: dict[str, type[Event]] = {
    "welcome": Welcome,
    "message": Message,
    "hidden": Hidden,
    "joined": Joined,
    "left": Left,
    "renamed": Renamed,
    "error": Error,
    "members": Members,
    "pong": Pong,
    "head": Head,
}
_TYPES: dict[type[Event | Request], str] = {
    **{event: type for type, event in _EVENTS.items()},
    Say: "say",
    Who: "members",
    Ping: "ping",
    Rename: "name",
}


def text_line(event: Event) -> str | None:
    """Write *event* for a text client: one line, several, or None for nothing."""
    match event:
        case Message(name=name, text=text):
            # splitlines and not split("\n"): whatever a terminal takes for a line
            # break gets a name in front, so that nobody can forge a line.
            lines = text.splitlines()
            if len(lines) == 1:  # nearly always: without a list 0.7 us less
                return f"{name}: {lines[0]}"
            return "\n".join([f"{name}: {line}" for line in lines or [""]])
        case Joined(name=name):
            return f"{name} joined the chat"
        case Left(name=name):
            return f"{name} left the chat"
        case Renamed(name=name, to=to):
            return f"{name} is now {to}"
        case Error(text=text):
            return f"* {text}"
        case Members(count=count, members=members, verified=verified):
            more = f" and {count - len(members)} more" if count > len(members) else ""
            # No name has a colon in it, so none can pass for this.
            marked = f" (verified: {', '.join(verified)})" if verified else ""
            return f"* {count} here: {', '.join(members)}{more}{marked}"
        case _:
            return None


def json_line(event: Event | Request) -> str:
    """Write *event* (or, for a client, a request) as JSON: one line, unbroken."""
    if type(event) is Message:
        # By hand, as it is the line that there are many of: json.dumps takes 5 to 7 times as long.
        tail = "" if event.id is None else f',"id":{quote(event.id)}'
        return (
            f'{{"type":"message","seq":{event.seq},"name":{quote(event.name)},'
            f'"text":{quote(event.text)},"at":{quote(event.at)}{tail}}}'
        )
    fields: dict[str, object] = {"type": _TYPES[type(event)]}
    for field in event.__slots__:
        value = getattr(event, field)
        if value is not None or field == "missed":
            fields[field] = value
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def sse_line(event: Event, epoch: str) -> str:
    """Write *event* as a server-sent event, but for the line break that follows every line.

    A browser comes back with the last id that it saw, so only what moves a cursor on has
    one: a `Hidden` may be about the past.
    """
    id = f"id: {epoch}.{event.seq}\n" if type(event) is Message else ""
    return f"{id}data: {json_line(event)}\n"


# -- reading, for a server ----------------------------------------------------


def parse_text(frame: str, limit: int) -> Iterator[Request | Error]:
    """Read a text client's frame: each line that is not empty is one request."""
    for each in frame.split("\n"):
        line = each.rstrip("\r")
        if line == "/who":
            yield Who()
        elif line:
            yield say_of(line, None, limit)


def parse_json(frame: str, limit: int) -> Iterator[Request | Error]:
    """Read a JSON client's frame: each line that is not empty is one request."""
    for line in frame.split("\n"):
        if line and not line.isspace():
            yield _parse_request(line, limit)


def _parse_request(line: str, limit: int) -> Request | Error:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Error("bad_json", "line is not JSON")
    if not isinstance(value, dict):
        return Error("bad_json", "line is not a JSON object")
    id = value.get("id")
    if id is not None and not (isinstance(id, str) and is_id(id)):
        return BAD_ID
    match value.get("type"):
        case "say":
            text = value.get("text")
            if not isinstance(text, str):
                return Error("bad_text", "text is not a string", id)
            return say_of(text, id, limit)
        case "members":
            return Who()
        case "ping":
            return Ping(id)
        case "name":
            name = value.get("name")
            if not isinstance(name, str):
                return Error("bad_name", "name is not a string", id)
            return Rename(name, id)
        case _:
            known = "say, members, name and ping"
            return Error("bad_type", f"type is unknown, known are {known}", id)


def is_id(id: str) -> bool:
    """Tell whether a message can have *id*."""
    return 1 <= len(id) <= MAX_ID and bool(_bytes(id))


def say_of(text: str, id: str | None, limit: int) -> Say | Error:
    """Return what *text* is as a message of at most *limit* bytes."""
    size = _bytes(text)
    if size is None:
        return Error("bad_text", "text holds half a surrogate pair", id)
    if size > limit:
        return Error("too_long", f"message is {size} bytes, limit is {limit}", id)
    if not size:
        return Error("empty", "message is empty", id)
    # A text client gets the name in front of each line: of line breaks alone a message would
    # reach it a hundred times as long as it was sent. Counted as they are written there.
    most = max(1, limit // BYTES_A_LINE)
    if len(text) > most and (lines := len(text.splitlines())) > most:
        return Error("too_many_lines", f"message is {lines} lines, limit is {most}", id)
    return Say(text, id)


def _bytes(text: str) -> int | None:
    """Count *text* in bytes of UTF-8, or None: JSON can escape lone surrogates."""
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return None


# -- reading, for a client ----------------------------------------------------


def parse_event(line: str) -> Event | None:
    """Read a line that a server sent, None for a type of a later version.

    Raises ValueError for what no server of ours sends.
    """
    try:
        value = json.loads(line)
        event = _EVENTS.get(value["type"])
    except (RecursionError, TypeError, KeyError):
        raise ValueError("line is not an event") from None
    if event is None:
        return None
    fields: dict[str, Any] = {field: value.get(field) for field in event.__slots__}
    for field, content in fields.items():
        check = _CHECKS.get(f"{value['type']}.{field}") or _CHECKS.get(field, _is_text)
        if not check(content):
            raise ValueError(f"{field} of {value['type']} is not what it should be")
        if isinstance(content, list):
            fields[field] = tuple(content)
    return event(**fields)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return type(value) is int and value >= 0


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


# A field is the same in every event that has it, but for two; what is not here is text.
_CHECKS: dict[str, Callable[[object], bool]] = {
    "seq": _is_number,
    "count": _is_number,
    "missed": lambda value: value is None or _is_number(value),
    "recovered": lambda value: isinstance(value, bool),
    "members": _are_texts,
    "verified": lambda value: value is None or _are_texts(value),
    "joined.verified": lambda value: value is None or value is True,
    "renamed.verified": lambda value: value is None or value is True,
    "id": lambda value: value is None or _is_text(value),
}
