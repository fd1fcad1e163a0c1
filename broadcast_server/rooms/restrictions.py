"""Restrictions: who was kicked from a room, and who is muted in it.

A member that was kicked could connect again at once, and one that is muted could take another name.
So a restriction holds for everything that the member is known by: its session or, without one, this
very connection, its name and its look-alikes, and perhaps its address. This module is pure.

A kick is of the moment, and ends with the server. A mute can be kept in a log file, as a `Mute`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from broadcast_server.protocol.join import DEFAULT_NAME
from broadcast_server.protocol.names import name_key, without_number

KICK_S = 600.0
"""Seconds for which somebody who was kicked must stay out."""

MUTE_S = 86_400.0
"""Seconds after which a mute ends by itself."""

MAX_RESTRICTIONS = 1000
"""How many restrictions there are in all rooms together. Beyond that the oldest one ends."""

MAX_NAMES = 8
"""How many names of one member a restriction holds for: the first, and the last of the others."""

Kind = Literal["kick", "mute"]
_Key = tuple[Kind, str, str, str]  # the kind, the room, what is known, and its value
_KEPT = ("scope", "name")  # what of that outlives the server


class Mute(NamedTuple):
    """What outlives the server of one mute: not an address, which is nowhere in a log file."""

    number: int
    """From 1; no two mutes of a log file have the same."""
    room: str
    session: str
    """The digest of the session, empty if the member had none."""
    names: tuple[str, ...]
    """The keys of the names, see `held_name`."""
    seconds_left: float


class Restriction:
    """One member that was kicked or muted, in the order of the *number*."""

    __slots__ = ("keys", "kind", "number", "room", "until")

    def __init__(self, number: int, kind: Kind, room: str, until: float) -> None:
        self.number = number
        self.kind = kind
        self.room = room
        self.until = until
        self.keys: list[_Key] = []


class Identity:
    """What a client is known by: its id scope, its name, and the key of its address.

    An id scope is a session or stands for one connection. All may be empty.
    """

    __slots__ = ("address", "id_scope", "name")

    def __init__(self, id_scope: str = "", name: str = "", address: str = "") -> None:
        self.id_scope = id_scope
        self.name = name
        self.address = address

    def keys(self, kind: Kind, room: str) -> list[_Key]:
        """Return the keys of a restriction of this client."""
        known = {"scope": self.id_scope, "name": held_name(self.name), "address": self.address}
        return [(kind, room, what, value) for what, value in known.items() if value]


class Restrictions:
    """The restrictions in all rooms of a server. *clock* tells the time in seconds.

    *mutes* go on, from an earlier run. *on_mute* is called when one changes, with its number and
    what is to be kept of it, None if that is nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        mutes: Iterable[Mute] = (),
        on_mute: Callable[[int, Mute | None], None] | None = None,
    ) -> None:
        self._clock = clock
        self._by_key: dict[_Key, Restriction] = {}
        self._all: dict[Restriction, None] = {}  # the oldest first
        self._on_mute = on_mute
        self._last_number = 0
        for mute in mutes:
            until = clock() + min(mute.seconds_left, MUTE_S)
            restriction = Restriction(mute.number, "mute", mute.room, until)
            self._last_number = max(self._last_number, mute.number)
            known = [("scope", mute.session), *(("name", key) for key in mute.names)]
            self._add_all(restriction, [("mute", mute.room, *each) for each in known if each[1]])

    def __len__(self) -> int:
        """Count the restrictions, with those whose time may be over."""
        return len(self._all)

    def now(self) -> float:
        """Return the time of the clock."""
        return self._clock()

    def add(self, kind: Kind, room: str, client: Identity) -> None:
        """Restrict *client* from now on, instead of what it was restricted by before."""
        self.remove(kind, room, client)
        self._last_number += 1
        until = self._clock() + (KICK_S if kind == "kick" else MUTE_S)
        restriction = Restriction(self._last_number, kind, room, until)
        self._add_all(restriction, client.keys(kind, room))
        self._note(restriction)

    def remove(self, kind: Kind, room: str, client: Identity) -> bool:
        """End what restricts *client*. Return whether there was anything.

        If it is known by its address only, the restriction goes on for who was restricted first.
        """
        found = False
        for key in client.keys(kind, room):
            restriction = self._by_key.get(key)
            if restriction is None:
                continue
            found |= restriction.until > self._clock()
            if key[2] == "address":
                restriction.keys.remove(key)
                del self._by_key[key]
            else:
                self._end(restriction)
        return found

    def time_left(self, kind: Kind, room: str, client: Identity) -> float:
        """Return for how many seconds *client* is restricted, 0 if it is not."""
        restriction = self._find(kind, room, client) if self._all else None
        return 0.0 if restriction is None else restriction.until - self._clock()

    def add_name(self, kind: Kind, room: str, client: Identity, name: str) -> None:
        """Let what restricts *client* hold for *name* as well, which is its new name."""
        restriction = self._find(kind, room, client)
        if restriction is None:
            return
        for key in Identity(name=name).keys(kind, room):
            if key not in restriction.keys:
                self._add_key(restriction, key)
        names = [key for key in restriction.keys if key[2] == "name"]
        for key in names[1 : 1 - MAX_NAMES]:
            restriction.keys.remove(key)
            self._by_key.pop(key, None)
        self._note(restriction)

    def _add_all(self, restriction: Restriction, keys: Iterable[_Key]) -> None:
        self._all[restriction] = None
        for key in keys:
            self._add_key(restriction, key)
        if len(self._all) > MAX_RESTRICTIONS:
            self._end(next(iter(self._all)))

    def _note(self, restriction: Restriction) -> None:
        """Tell `on_mute` of a *restriction* that has changed or ended."""
        if self._on_mute is None or restriction.kind != "mute":
            return
        values = {what: [key[3] for key in restriction.keys if key[2] == what] for what in _KEPT}
        # "#": random, without a session; the client cannot show it again
        (session,) = [each for each in values["scope"] if each[0] != "#"] or [""]
        is_kept = restriction in self._all and bool(session or values["name"])
        left = restriction.until - self._clock()
        mute = Mute(restriction.number, restriction.room, session, (*values["name"],), left)
        self._on_mute(restriction.number, mute if is_kept else None)

    def _add_key(self, restriction: Restriction, key: _Key) -> None:
        other = self._by_key.get(key)
        if other is not None:
            other.keys.remove(key)
            self._note(other)
        restriction.keys.append(key)
        self._by_key[key] = restriction

    def _find(self, kind: Kind, room: str, client: Identity) -> Restriction | None:
        for key in client.keys(kind, room):
            restriction = self._by_key.get(key)
            if restriction is not None:
                if restriction.until > self._clock():
                    return restriction
                self._end(restriction)
        return None

    def _end(self, restriction: Restriction) -> None:
        del self._all[restriction]
        for key in restriction.keys:
            del self._by_key[key]
        self._note(restriction)


def held_name(name: str) -> str:
    """Return the key of *name* by which a member is known, "" for a name that is nobody's own.

    The name that everyone gets who asks for none would keep all of them out.
    """
    is_default = name_key(without_number(name)) == name_key(DEFAULT_NAME)
    return "" if is_default else name_key(name)
