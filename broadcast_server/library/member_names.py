"""The member names: who is in a room, as far as its client was told. Pure."""

from __future__ import annotations

from broadcast_server.protocol.messages import Event, Joined, Left, Members, Renamed, Welcome


class MemberNames:
    """The names of the members of one room, in the order in which they joined.

    Of a room with more than 1,000 members it has the first 1,000, and those that joined later.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self.count = 0
        """How many members there are."""

    @property
    def names(self) -> tuple[str, ...]:
        """The known names."""
        return tuple(self._names)

    @property
    def is_complete(self) -> bool:
        """Whether all names are known."""
        return len(self._names) >= self.count

    def apply(self, event: Event) -> None:
        """Update the names by *event*."""
        match event:
            case Welcome(members=names, count=count, name=name):
                self._names, self.count = dict.fromkeys((*names, name)), count
            case Members(members=names, count=count):
                self._names, self.count = dict.fromkeys(names), count
            case Joined(name=name, count=count):
                self._names[name], self.count = None, count
            case Left(name=name, count=count):
                self._names.pop(name, None)
                self.count = count
            case Renamed(name=name, to=to):
                self._names = {to if each == name else each: None for each in self._names}
                self._names[to] = None
