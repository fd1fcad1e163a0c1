"""Events: what happens in a room, as a client and an embedded server give it to a program."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.protocol.sanitize import lines_to_print
from broadcast_server.protocol.timestamp import parse_rfc3339


@dataclass(frozen=True, slots=True)
class Message:
    """A message was published. It has its number in the room's log."""

    room: str
    seq: int
    """Its number. The messages of a room are numbered without gaps within an epoch."""
    name: str
    """The name of its author, when it was published."""
    text: str
    at: str
    """When it was published, in the form of RFC 3339 in UTC: `2026-11-24T13:00:00.123Z`."""
    own: bool
    """Whether this object published it, by `send` or `broadcast`. A bot that answers every message
    must skip its own: `if message.own: continue`."""
    epoch: str
    """A random string that identifies the log."""

    @property
    def cursor(self) -> str:
        """The position after this message: `connect(..., cursor=...)` continues there."""
        return f"{self.epoch}.{self.seq}"

    @property
    def time(self) -> datetime:
        """When it was published. Raises ValueError if *at* is no time."""
        return parse_rfc3339(self.at)

    def __str__(self) -> str:
        """Return the message as it is printed in a pipe: `name: text`, for each of its lines.

        There is nothing in it that a terminal would obey, as there may be in *name* and *text*.
        """
        return "\n".join(lines_to_print(self.name, self.text))


@dataclass(frozen=True, slots=True)
class MessageHidden:
    """A moderator has hidden message number *seq*: do not show it any more.

    In a replay it takes the place of the message.
    """

    room: str
    seq: int


@dataclass(frozen=True, slots=True)
class PrivateMessage:
    """A message from one member to one other. It is in no log, and only these two get it.

    It comes live or not at all: not again after a reconnect, and not if your program lets more
    events wait than are kept.
    """

    room: str
    name: str
    """The name of the sender."""
    to: str
    """The name of the recipient."""
    text: str
    at: str
    """When it was sent, as in `Message`."""
    own: bool
    """Whether this object sent it, by `send_private`."""

    def __str__(self) -> str:
        """Return the message as it is printed in a pipe, as that of a `Message`."""
        to_whom = f"you, in private to {self.to}" if self.own else f"{self.name} to you, in private"
        return "\n".join(lines_to_print(f"* {to_whom}", self.text))


@dataclass(frozen=True, slots=True)
class Joined:
    """A member joined. Clients are not told of their own join."""

    room: str
    name: str
    count: int
    """How many members are in the room now."""
    verified: bool
    """Whether the name belongs to an account of the Django deployment that is signed in."""
    quiet: bool = False
    """Whether it asked for a quiet join, which people are not to be told."""


@dataclass(frozen=True, slots=True)
class Left:
    """A member left."""

    room: str
    name: str
    count: int
    """How many members are in the room now."""
    quiet: bool = False
    """Whether its join was quiet."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """A member, perhaps this client, has the new name *to*."""

    room: str
    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Members:
    """The members of the room, after this client has connected or reconnected.

    It comes also where joins, leaves and renames may be missing: those that happened while the
    client was disconnected, or while more events waited than are kept.
    """

    room: str
    names: tuple[str, ...]
    """The first 100 of them; in a large room, another event with the first 1,000 follows."""
    count: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class OperatorAct:
    """The operator *by* has done something to the room. Only the fields of the act count."""

    room: str
    act: str
    """`kick`, `ban` or `mute` with *name*, `lock` or `announce` with *on*, `topic` with *text*,
    `slow` with *seconds*, or `hide` with *name*, *messages* and perhaps *seq*."""
    by: str
    name: str = ""
    """Who was kicked or banned, or muted if *on* is true, or whose messages were hidden."""
    on: bool = True
    """Whether the member is muted, the room is locked, or only operators write."""
    text: str = ""
    """The topic, which is empty if there is none any more."""
    seconds: int = 0
    """In how many seconds each member may publish one message; 0 is no limit."""
    seq: int = 0
    """The number of the message that was hidden, 0 if the last ones of its author were."""
    messages: int = 0
    """How many messages were hidden."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages are missing at this place, because the log does not reach back to them any more."""

    room: str
    missed: int | None
    """How many; None if that cannot be known, as after the restart of a server without a log
    file."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection broke. The client reconnects by itself, and continues where it was."""

    room: str
    reason: str
    """Why, and when the next attempt is made."""


@dataclass(frozen=True, slots=True)
class Notice:
    """The server has something to say that is not about a request of this client."""

    room: str
    code: str
    """For programs, as in docs/protocol.md: `not_recording`, for example."""
    text: str
    """For people."""


Event = (
    Message
    | MessageHidden
    | PrivateMessage
    | Joined
    | Left
    | Renamed
    | Members
    | OperatorAct
    | Gap
    | Disconnected
    | Notice
)


def act_of(room: str, event: OperatorEvent) -> OperatorAct:
    """Return what an operator did in *room*, as programs get it."""
    return OperatorAct(
        room=room,
        act=event.act,
        by=event.by,
        name=event.name,
        on=event.on,
        text=event.text,
        seconds=event.seconds,
        seq=event.seq,
        messages=event.messages,
    )
