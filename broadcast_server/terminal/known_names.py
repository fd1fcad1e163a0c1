"""The known names: who is in the room, who was, and who has written. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from broadcast_server.protocol.messages import (
    Event,
    Joined,
    Left,
    Members,
    Message,
    PrivateMessage,
    Renamed,
    Welcome,
)
from broadcast_server.protocol.sanitize import strip_control

MAX_NAMES = 1000
"""Names that are known at most; the ones seen longest ago are forgotten first."""


class KnownNames:
    """The names that can be meant in a room. It iterates over those to offer, the newest last."""

    def __init__(self) -> None:
        self._here: dict[str, None] = {}  # the one seen last comes last
        self._gone: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._here)

    @property
    def all(self) -> tuple[str, ...]:
        """All names, with those of members that have left or have another name by now."""
        return (*self._here, *self._gone)

    @property
    def latest_first(self) -> tuple[str, ...]:
        """All names as they are offered to a command: who is here, and then who has left."""
        return (*reversed(self._here), *reversed(self._gone))

    def clear(self) -> None:
        """Forget all names: they are of another room."""
        self._here.clear()
        self._gone.clear()

    def apply(self, event: Event) -> None:
        """Update the names by *event*."""
        match event:
            case Welcome(members=members):
                for name in [*self._here]:
                    self._remove(name)
                for name in members:
                    self._add(name)
            case Members(members=members):
                for name in members:
                    self._add(name)
            case Joined(name=name) | Message(name=name) | PrivateMessage(name=name):
                self._add(name)
            case Left(name=name):
                self._remove(name)
            case Renamed(name=name, to=to):
                self._remove(name)
                self._add(to)

    def _add(self, name: str) -> None:
        name = strip_control(name)
        self._gone.pop(name, None)
        _put(self._here, name)

    def _remove(self, name: str) -> None:
        name = strip_control(name)
        self._here.pop(name, None)
        _put(self._gone, name)


def _put(names: dict[str, None], name: str) -> None:
    names.pop(name, None)
    names[name] = None
    if len(names) > MAX_NAMES:
        del names[next(iter(names))]
