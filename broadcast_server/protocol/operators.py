"""Operators: what the hosts of a room can do, as requests and as events, and the rules for a topic.

An *operator* is a client that has shown the operator key of the server, or a moderator's account in
the Django deployment. What an operator does is an *act*. Each is a request of the operator and then
an event for everyone. So there is one class for all requests and one for all events: each dataclass
adds 2 ms to the start of the single file.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from .sanitize import strip_control

OPERATOR_HEADER = "Broadcast-Operator"
"""The header in which a program shows the operator key."""

OPERATOR_PREFIX = "operator."
"""The prefix of the subprotocol that carries the operator key, for pages: a browser lets them set
no header on a WebSocket."""

MAX_TOPIC_CHARS = 200
"""The longest topic, in code points after normalisation to NFC."""

MAX_SLOW_S = 86_400
"""The longest time of slow mode, in seconds."""


class ActKind(NamedTuple):
    """How an act is written: the type of its event, its fields, and those of its request.

    A request that *asks* for nothing else has the fields of the event. One with `seq`, the number
    of a message, needs no `name`: the author of the message is meant.
    """

    event: str
    fields: tuple[str, ...]
    asks: tuple[str, ...] = ()

    @property
    def requested(self) -> tuple[str, ...]:
        """The fields of the request."""
        return self.asks or self.fields


ACTS = {
    "kick": ActKind("kicked", ("name",)),
    "mute": ActKind("muted", ("name", "on")),
    "lock": ActKind("locked", ("on",)),
    "announce": ActKind("announce", ("on",)),
    "topic": ActKind("topic", ("text",)),
    "slow": ActKind("slow", ("seconds",)),
    "hide": ActKind("hid", ("name", "seq", "messages"), ("name", "seq")),
    "ban": ActKind("banned", ("name",), ("name", "seq", "text")),
    "report": ActKind("reported", ("name", "seq", "text")),
}
"""All acts, by the type of their requests. A report is everyone's: see `REPORT`."""

HIDE = "hide"
"""The act that takes messages out of the log and out of view."""

BAN = "ban"
"""The act that keeps somebody out of a room for long, in the Django deployment."""

REPORT = "report"
"""The act with which a member reports another one to the moderators, who alone are told of it."""

ACT_OF_EVENT = {kind.event: act for act, kind in ACTS.items()}
"""The acts by the type of their events."""


class OperatorRequest(NamedTuple):
    """Do *act*, one of `ACTS`. Only the fields of that act count, as in an `OperatorEvent`."""

    act: str
    name: str = ""
    on: bool = True
    text: str = ""
    id: str | None = None
    seconds: int = 0
    seq: int = 0
    messages: int = 0


class OperatorEvent(NamedTuple):
    """The operator *by* has done *act*, one of `ACTS`. *id* is that of the request.

    Only the fields of that act count: *name* is the member that was kicked, or muted if *on* is
    true. The room is locked, or in announce mode, while *on* is true. *text* is the topic, which is
    empty if there is none now. In *seconds* each member may publish one message, 0 is no limit.
    *seq* is the number of the message that the act is about, 0 if it is not about one message. Of
    the author *name*, so many *messages* were hidden.
    """

    act: str
    by: str
    name: str = ""
    on: bool = True
    text: str = ""
    id: str | None = None
    seconds: int = 0
    seq: int = 0
    messages: int = 0


def event_of(request: OperatorRequest, by: str) -> OperatorEvent:
    """Return the event that tells that the operator *by* has done what *request* asks for."""
    return OperatorEvent(by=by, **request._asdict())


def act_text(event: OperatorEvent) -> str:
    """Return what *event* says, as one line that is safe to print."""
    by, on = event.by, event.on
    match event.act:
        case "kick":
            text = f"{by} kicked {event.name}"
        case "mute":
            text = f"{by} {'muted' if on else 'unmuted'} {event.name}"
        case "lock":
            text = f"{by} {'locked' if on else 'unlocked'} the room"
        case "hide":
            what = "a message" if event.messages == 1 else f"{event.messages} messages"
            text = f"{by} hid {what} of {event.name}"
        case "ban":
            text = f"{by} banned {event.name}"
        case "report":
            reason = f": {event.text}" if event.text else ""
            text = f"{by} reported {event.name} to the moderators alone{reason}"
        case "announce" if on:
            text = f"{by} turned announce mode on, so only operators write"
        case "announce":
            text = f"{by} turned announce mode off"
        case "slow" if event.seconds:
            text = f"{by} turned slow mode on: one message in {event.seconds} s"
        case "slow":
            text = f"{by} turned slow mode off"
        case _:
            text = f"{by} set the topic: {event.text}" if event.text else f"{by} removed the topic"
    return strip_control(text)


def validate_topic(text: str) -> str:
    """Return *text* as a topic: one line in NFC without anything that a terminal would obey.

    White space at the ends is removed, and a run of it inside becomes one space. The topic is empty
    if nothing is left. Raises ValueError if it is too long.
    """
    # NFC composes at most four characters into one, and is slow for a long run of marks.
    topic = strip_control(" ".join(text.split()))
    if len(topic) <= 4 * MAX_TOPIC_CHARS:
        topic = " ".join(unicodedata.normalize("NFC", topic).split())
    if len(topic) > MAX_TOPIC_CHARS:
        raise ValueError(f"topic is {len(topic)} characters, limit is {MAX_TOPIC_CHARS}")
    return topic
