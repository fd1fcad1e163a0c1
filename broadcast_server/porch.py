"""The porch: where those stand who have connected and are in no room yet.

Whoever asks for nothing is cut after a while, but could come faster than that. So there is
only so much place, in all and for each address, and whoever comes when it is used up gets
that of the one who stood there longest: to come in takes a moment, so it is not likely that
this one still will. Who is in stays. Pure: connections are numbers here.
"""

from __future__ import annotations

import sys

OURS = 12
"""So many files may be open that are no connections."""


class Porch:
    """Those who are not in yet: at most *most*, and *each* of one place.

    With those who are in they are so few that they fit into so many *files*.
    """

    def __init__(self, most: int, each: int, files: int | None) -> None:
        self._most = most
        self._each = each
        self._files = sys.maxsize if files is None else max(1, files - OURS)
        self._open = 0
        self._places: dict[int, str | None] = {}  # of those who stand here, the first came first
        self._by: dict[str, dict[int, None]] = {}  # the same

    def __len__(self) -> int:
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether nobody can be let onto it before someone is gone."""
        return self._open > self._files

    def come(self, number: int, place: str | None) -> int | None:
        """Let someone onto it, and return who has to go for that, if anyone."""
        self._open += 1
        self._places[number] = place
        if place is not None:
            here = self._by.setdefault(place, {})
            here[number] = None
            if len(here) > self._each:
                return self._send(next(iter(here)))
        if len(self) > self._most or self.full:
            return self._send(next(iter(self._places)))
        return None

    def leave(self, number: int) -> None:
        """Note that someone went in, or away."""
        place = self._places.pop(number, None)
        if place is not None:
            del self._by[place][number]
            if not self._by[place]:
                del self._by[place]

    def gone(self, number: int) -> None:
        """Note that a connection is closed."""
        self.leave(number)
        self._open -= 1

    def _send(self, number: int) -> int:
        self.leave(number)
        return number
