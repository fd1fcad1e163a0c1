"""The member names: who is in a room, as far as its client was told. Pure."""

from __future__ import annotations

from itertools import count as count_up
from itertools import islice

from broadcast_server.protocol.messages import Event, Joined, Left, Members, Renamed, Welcome

MAX_NAMES = 2**16
"""Names that are known at most: more than a room has, so that only a server that lies goes on."""


class MemberNames:
    """The names of the members of one room, in the order in which they joined.

    Of a room with more than 1,000 members it has the first 1,000, and those that joined later, but
    no more than `MAX_NAMES`.
    """

    def __init__(self) -> None:
        self._places = count_up()
        self._place_of: dict[str, int] = {}
        self._names: dict[int, str] = {}  # by place: so a new name takes the place of the old one
        self.count = 0
        """How many members there are."""

    @property
    def names(self) -> tuple[str, ...]:
        """The known names."""
        return tuple(self._names.values())

    @property
    def is_complete(self) -> bool:
        """Whether all names are known."""
        return len(self._names) >= self.count

    def apply(self, event: Event) -> None:
        """Update the names by *event*."""
        match event:
            case Welcome(members=names, count=count, name=name):
                self._replace((*islice(names, MAX_NAMES - 1), name))
                self.count = count
            case Members(members=names, count=count):
                self._replace(names)
                self.count = count
            case Joined(name=name, count=count):
                self._add(name)
                self.count = count
            case Left(name=name, count=count):
                self._remove(name)
                self.count = count
            case Renamed(name=name, to=to) if name != to:
                self._remove(to)
                if (place := self._place_of.pop(name, None)) is None:
                    self._add(to)
                else:
                    self._names[place], self._place_of[to] = to, place

    def _replace(self, names: tuple[str, ...]) -> None:
        self._place_of.clear()
        self._names.clear()
        for name in names:
            self._add(name)

    def _add(self, name: str) -> None:
        if name not in self._place_of and len(self._names) < MAX_NAMES:
            place = next(self._places)
            self._names[place], self._place_of[name] = name, place

    def _remove(self, name: str) -> None:
        if (place := self._place_of.pop(name, None)) is not None:
            del self._names[place]
