"""Publishing one message without joining: the request, and its results."""

from __future__ import annotations

from dataclasses import dataclass

from .join import JoinRequest


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A message to publish, if at least *require* members and subscribers are in the room.

    *join* has the name and the room. *id* makes a repeated request harmless.
    """

    join: JoinRequest
    text: str
    id: str | None
    require: int


@dataclass(frozen=True, slots=True)
class Published:
    """The message is in the log as number *seq*, under *name*.

    *count* members and subscribers were in the room. *repeated* says that the message was already
    in the log.
    """

    seq: int
    name: str
    count: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class NotEnoughReceivers:
    """The message was not published, because only *count* receivers were in the room."""

    count: int
