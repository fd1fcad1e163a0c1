"""The messages of the wire: events, requests, and the codes that close a connection.

A server sends *events*, a client sends *requests*. Each is a value here; `codec` writes it as
text, JSON or server-sent events, and reads it back. A line that is not a valid request becomes
the `Error` event that its sender gets. docs/protocol.md specifies the same in prose.

This module is pure: it knows no rooms, sockets, clocks or frameworks.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .bounds import BYTES_PER_LINE, MAX_TEXT_BYTES
from .operators import OperatorEvent, OperatorRequest

SUBPROTOCOL = "broadcast.v1.json"
"""The WebSocket subprotocol of clients that use JSON."""

LIMIT_REMEDY = "the server's --max-message-bytes or BROADCAST_MAX_MESSAGE_BYTES raises it"
"""What to do about a message that is too long, or has too many lines."""

MAX_ID_CHARS = 64

EPOCH_PATTERN = "[A-Za-z0-9_-]{1,64}"
"""What an epoch is made of, as a regular expression."""

MAX_WELCOME_MEMBERS = 100
"""How many names a `Welcome` lists."""

MAX_LISTED_MEMBERS = 1000
"""How many names the answer to a `MembersRequest` lists: a request must stay cheap."""


class Format(enum.Enum):
    """The format of the lines of one connection."""

    TEXT = "text"
    JSON = "json"
    SSE = "sse"  # server-sent events, over HTTP


class CloseCode(enum.IntEnum):
    """Why the server closes a connection.

    A client reconnects after the codes below 4500, and gives up after the others. All are in the
    range 3000 to 4999 because Daphne sends no others.
    """

    STOPPING = 4001
    TOO_SLOW = 4008
    FULL = 4013
    REJECTED = 4500
    SIGN_IN = 4501
    FAULTS = 4502
    REMOVED = 4503
    REPLACED = 4504

    @staticmethod
    def is_final(code: int) -> bool:
        """Return whether a client that was closed with *code* must not reconnect."""
        # These codes of RFC 6455 are about what the client sent, and it would send the same again.
        return 4500 <= code <= 4999 or code in (1002, 1003, 1007, 1008, 1009, 1010)


NORMAL_CLOSURE = 1000
"""The close code of a normal end (RFC 6455, section 7.4.1)."""

ABNORMAL_CLOSURE = 1006
"""The close code of a connection that ended without a closing handshake."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a log: the log is *epoch*, and messages up to number *seq* were received."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


# `Message` and `SayRequest`, and `Publish` and `Send` of the room, are never modified, but are not
# declared frozen. The server creates one of each for every message. Creating all four took 5.9 us
# when they were frozen, of 10 us for the whole message, and takes 0.7 us now. It is the same with
# `Welcome`, `Joined`, `Left`, `JoinRequest` and `Subscribe`, of which every client needs one: all
# five took 3.6 us, and take 1.3.

# -- events: what a server sends ----------------------------------------------


@dataclass(slots=True)
class Welcome:
    """The receiver has joined the room. *seq* is the number of the room's last message.

    *recovered* says whether it gets every message after its cursor. If not, *missed* is the number
    of messages that it does not get, or None if that is unknown. *count* is the number of members,
    and *members* are the first of them. *verified* are those of *members* whose names belong to
    accounts, or None if there are none. *max_bytes* is the limit of a message, None if it is the
    default, `MAX_MESSAGE_BYTES`.

    The rest is None unless an operator has done something: *operator* says that the receiver is
    one, *topic* is that of the room, *locked* and *announce* say that the room is in that mode, and
    *muted* that the receiver is. In *slow* seconds each member may publish one message.
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
    operator: bool | None = None
    topic: str | None = None
    locked: bool | None = None
    announce: bool | None = None
    muted: bool | None = None
    slow: int | None = None
    max_bytes: int | None = None


@dataclass(slots=True)
class Message:
    """A message was published. *at* is its time, see `rfc3339`."""

    seq: int
    name: str
    text: str
    at: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class MessageHidden:
    """A moderator hid message *seq*. When the log is replayed, this takes the message's place."""

    seq: int
    id: str | None = None  # the id of the message, so that this counts as its echo


@dataclass(slots=True)
class Joined:
    """Another member joined; *count* members are in the room. *verified* is true or None.

    *quiet* is true if people are not to be told, see `JoinRequest`, else None.
    """

    name: str
    count: int
    verified: bool | None = None
    quiet: bool | None = None


@dataclass(slots=True)
class Left:
    """Another member left; *count* members are in the room. *quiet* is as in `Joined`."""

    name: str
    count: int
    quiet: bool | None = None


@dataclass(frozen=True, slots=True)
class Renamed:
    """A member, perhaps the receiver, has the new name *to*. *verified* is true or None."""

    name: str
    to: str
    verified: bool | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """A request failed, or the connection is about to be closed.

    *code* is for programs, *text* for people.
    """

    code: str
    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """The members of the room: their number in *count*, and the first of them in *members*.

    *verified* are those of *members* whose names belong to accounts, None if there are none.
    """

    count: int
    members: tuple[str, ...]
    verified: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a `PingRequest`, sent after the answers to everything before it."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The server is alive, and *seq* is the number of the room's last message.

    Text clients do not get it.
    """

    seq: int


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """A member has sent *text* to the member *to* alone, at the time *at*, see `rfc3339`.

    Only these two get it. It has no number, and is in no log. The sender gets it with the *id* of
    its request, as the confirmation that it was handed to the connection of the other.
    """

    name: str
    to: str
    text: str
    at: str
    id: str | None = None


LogEntry = Message | MessageHidden
"""What the log holds for one number."""

Event = (
    Welcome
    | Message
    | MessageHidden
    | PrivateMessage
    | Joined
    | Left
    | Renamed
    | Error
    | Members
    | Pong
    | Heartbeat
    | OperatorEvent
)

BAD_ID = Error("bad_id", f"id is not a string of 1 to {MAX_ID_CHARS} characters")

# -- requests: what a client sends --------------------------------------------


@dataclass(slots=True)
class SayRequest:
    """Publish *text*. If it is sent again with the same *id*, it is published once."""

    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class MembersRequest:
    """Ask for the members of the room."""


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Ask for a `Pong`."""

    id: str | None = None


@dataclass(frozen=True, slots=True)
class RenameRequest:
    """Ask for another name."""

    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class PrivateRequest:
    """Send *text* to the member *to* alone."""

    to: str
    text: str
    id: str | None = None


Request = (
    SayRequest | MembersRequest | PingRequest | RenameRequest | PrivateRequest | OperatorRequest
)


def not_here(name: str, id: str | None) -> Error:
    """Return the answer to a private message to *name*, which nobody has."""
    return Error("not_here", f"{name} is not here, the message was not sent", id)


def not_delivered(name: str, reason: str, id: str | None) -> Error:
    """Return the answer to a private message that was certainly not handed to *name*."""
    return Error("not_delivered", f"{name} did not get the message: {reason}", id)


RECIPIENT_BEHIND = "its connection takes nothing just now, try again in a moment"
SENDER_BEHIND = "your own connection takes no copy just now, try again in a moment"
"""Reasons for `not_delivered`."""

# -- validation ---------------------------------------------------------------


def is_valid_id(id: str) -> bool:
    """Return whether *id* can be the id of a message."""
    return 1 <= len(id) <= MAX_ID_CHARS and bool(_utf8_size(id))


def validate_message(text: str, id: str | None, limit: int) -> SayRequest | Error:
    """Return *text* as a request to publish it, or the rule that it breaks.

    *limit* is the longest message, in bytes of UTF-8.
    """
    size = _utf8_size(text)
    if size is None:
        return Error("bad_text", "text holds half a surrogate pair", id)
    if size > limit:
        return Error("too_long", f"message is {size} bytes, {limit_text(limit)}", id)
    if not size:
        return Error("empty", "message is empty", id)
    # A text client gets the author's name in front of each line. Without this limit, a message
    # of nothing but line breaks would grow a hundredfold. `encode_text` counts lines in this way.
    max_lines = max(1, limit // BYTES_PER_LINE)
    if len(text) > max_lines and (lines := len(text.splitlines())) > max_lines:
        return Error("too_many_lines", f"message is {lines} lines, {limit_text(max_lines)}", id)
    return SayRequest(text, id)


def limit_text(limit: int) -> str:
    """Return what to say of the limit that a message exceeds: it, and what raises it."""
    return f"limit is {limit} ({LIMIT_REMEDY})"


def fit_text(text: str) -> str:
    """Return the *text* of a stored message, or a note in its place if no frame has room for it.

    No server of ours logs such a message, but a log can be written by other programs.
    """
    if 4 * len(text) <= MAX_TEXT_BYTES:
        return text
    size = len(text.encode(errors="replace"))
    if size <= MAX_TEXT_BYTES:
        return text
    return f"(message of {size} bytes is not shown, the limit is {MAX_TEXT_BYTES})"


def _utf8_size(text: str) -> int | None:
    """Return the size in bytes of UTF-8, or None for a lone surrogate, which JSON can escape."""
    try:
        return len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        return None
