"""Kept names: the names of members whose connections broke, kept for their sessions for a while.

A client whose connection breaks is back in a moment, and is to find its name free even if somebody
else asks for it first. So nobody but its session gets the name until then. Nobody can keep a name
that they did not have, or keep it for longer than `KEEP_S` without coming back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, CloseCode
from broadcast_server.protocol.names import name_key

KEEP_S = 30.0
"""Seconds for which a name is kept: twice the longest time between two attempts of our clients."""

MAX_KEPT_NAMES = 1000
"""How many names are kept in all rooms together. Beyond that the oldest one of the address that has
most of them is free at once: whoever fills this up with many clients loses only their own."""

KEEPING_CODES = frozenset((ABNORMAL_CLOSURE, 1011, CloseCode.TOO_SLOW, CloseCode.STOPPING))
"""The close codes after which a client comes back: it did not want to leave. 1011 is the code of a
client, or a server, that got no answer to its ping."""


class KeptName(NamedTuple):
    """A name in a room, and the digest of the session that it is kept for.

    *address* stands for that of its client, as in `Participant`.
    """

    room: str
    session: str
    name: str
    address: str = ""


class KeptNames:
    """The kept names of all rooms. *clock* tells the time in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[KeptName, float]] = {}  # by room and session
        self._sessions: dict[tuple[str, str], str] = {}  # by room and name_key
        self._by_address: dict[str, dict[tuple[str, str], None]] = {}  # by room and session

    def __len__(self) -> int:
        """Count the kept names, with those whose time may be over."""
        return len(self._kept)

    def __iter__(self) -> Iterator[KeptName]:
        """Iterate over the kept names, the oldest first."""
        self._expire()
        return iter([kept for kept, _ in self._kept.values()])

    def keep(self, kept: KeptName) -> None:
        """Keep a name from now on for `KEEP_S`."""
        self.take(kept.room, kept.session)
        key = kept.room, kept.session
        self._kept[key] = kept, self._clock() + KEEP_S
        self._sessions[kept.room, name_key(kept.name)] = kept.session
        self._by_address.setdefault(kept.address, {})[key] = None
        if len(self._kept) > MAX_KEPT_NAMES:
            most = max(self._by_address, key=lambda address: len(self._by_address[address]))
            self._forget(*next(iter(self._by_address[most])))

    def find(self, room: str, session: str | None) -> str | None:
        """Return the name that is kept for *session*, None if there is none."""
        self._expire()
        kept = self._kept.get((room, session or ""))
        return kept[0].name if kept else None

    def take(self, room: str, session: str | None) -> str | None:
        """Return the name that is kept for *session*, and keep it no longer."""
        name = self.find(room, session)
        if name is not None and session is not None:
            self._forget(room, session)
        return name

    def of_name(self, room: str, name: str) -> KeptName | None:
        """Return what is kept as *name*, in whatever spelling, None if that name is not kept."""
        self._expire()
        session = self._sessions.get((room, name_key(name)))
        return None if session is None else self._kept[room, session][0]

    def at_address(self, address: str) -> list[KeptName]:
        """Return what is kept for the clients of *address*, in all rooms."""
        self._expire()
        return [self._kept[key][0] for key in self._by_address.get(address, ())]

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Return whether a name is kept, by its room and its `name_key`."""
        self._expire()
        return key in self._sessions

    def _expire(self) -> None:
        if not self._kept:
            return
        now = self._clock()
        while self._kept:
            first = next(iter(self._kept))
            if self._kept[first][1] > now:
                return
            self._forget(*first)

    def _forget(self, room: str, session: str) -> None:
        kept, _ = self._kept.pop((room, session))
        of_address = self._by_address[kept.address]
        del of_address[room, session]
        if not of_address:
            del self._by_address[kept.address]
        key = room, name_key(kept.name)
        if self._sessions.get(key) == session:
            del self._sessions[key]
