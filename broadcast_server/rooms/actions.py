"""Actions: what a room tells its caller to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from broadcast_server.protocol.messages import CloseCode, Event, Welcome
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest
from broadcast_server.protocol.rejection import Rejection

from .participant import Participant

# `Send`, `Publish` and `Subscribe` are not frozen, for the reason given in protocol/messages: one
# is made for every message or client, and making a frozen dataclass is slower.


@dataclass(slots=True)
class Subscribe:
    """Start to send *participant* the events of the room.

    It gets *welcome*, then every message with a number higher than *after* (from the log, as far
    as the messages are in it already), and every event for everyone from now on. `connect` returns
    this action for a member, and `subscribe` for a subscriber.
    """

    participant: Participant
    after: int
    welcome: Welcome


@dataclass(slots=True)
class Send:
    """Send *event* to the participant *to*, or to all participants if *to* is None.

    "All" are those whose `Subscribe` was carried out before this action.
    """

    to: Participant | None
    event: Event


@dataclass(slots=True)
class Publish:
    """Append *text* to the log, and pass the message with its number to `Room.deliver`.

    If the log already has a message with this *id* in the author's id scope, call
    `Room.acknowledge_duplicate` instead. *name* is the author's name at the time of publishing;
    by the time of `deliver` the author may have been renamed.
    """

    author: Participant
    text: str
    id: str | None
    name: str


@dataclass(slots=True)
class PublishLines:
    """Append each of *texts*, which have no ids, and pass the messages on as `Publish` does.

    They are the lines of one frame, or of several that a client sent meanwhile, see `plain_lines`.
    """

    author: Participant
    texts: list[str]
    name: str


@dataclass(frozen=True, slots=True)
class ClaimName:
    """Ask the store that keeps the names of all processes to rename *member* to *name*.

    Only the Django deployment uses this action. `Room` itself decides about names at once. *id*
    is that of the member's request.
    """

    member: Participant
    name: str
    id: str | None


class Operate(NamedTuple):
    """Carry out *request* of the operator *member* where the log is.

    In the Django deployment that is the store that all processes share. In the standalone server
    `Room` itself carries out at once what does not change the log.
    """

    member: Participant
    request: OperatorRequest


class NoteAct(NamedTuple):
    """Take note of what an operator did: log it, and keep the mode of the room, if that changed.

    The participants get *event* by another action.
    """

    event: OperatorEvent


@dataclass(frozen=True, slots=True)
class SendPrivate:
    """Hand *text* of *author* to *recipient*, if its connection takes it, and confirm that.

    *id* is that of the author's request.
    """

    author: Participant
    recipient: Participant
    text: str
    id: str | None


@dataclass(frozen=True, slots=True)
class RoutePrivate:
    """Find the member that is called *to*, in whatever process, and hand it *text* of *author*.

    Only the Django deployment uses this action, as `ClaimName`. The author gets an answer.
    """

    author: Participant
    to: str
    text: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection of *participant* after everything that it was sent, and forget it."""

    participant: Participant
    code: CloseCode
    reason: str


Action = (
    Subscribe
    | Send
    | Publish
    | PublishLines
    | ClaimName
    | SendPrivate
    | RoutePrivate
    | Operate
    | NoteAct
    | Close
)


def close_with(participant: Participant, rejection: Rejection) -> list[Action]:
    """Return the actions that send *participant* the error of *rejection* and then close it."""
    return [
        Send(participant, rejection.error),
        Close(participant, rejection.code, rejection.text),
    ]
