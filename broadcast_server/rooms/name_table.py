"""The name table: which member of a room has which name, and the next name that is free."""

from __future__ import annotations

from broadcast_server.protocol.names import name_key, with_suffix, without_number

from .kept_names import KeptName, KeptNames
from .participant import Participant

_DIGITS = str.maketrans("lo", "10")  # as they look in a key, and as they are


class NameTable:
    """The names of the members of *room*. Names that people would take for one have one owner.

    A name in *kept_names* is free for its session only.
    """

    def __init__(self, room: str, kept_names: KeptNames | None = None) -> None:
        self._room = room
        self._kept_names = kept_names
        self._owners: dict[str, Participant] = {}  # by name_key
        self._next_suffix: dict[str, int] = {}  # by name_key of a base, where to search on

    def owner(self, name: str) -> Participant | None:
        """Return the member that has *name*, in whatever spelling."""
        return self._owners.get(name_key(name))

    def add(self, member: Participant) -> None:
        """Enter the name that *member* has now."""
        self._owners[name_key(member.name)] = member

    def release(self, name: str) -> None:
        """Free *name*, which somebody has."""
        key = name_key(name)
        del self._owners[key]
        self._next_suffix.pop(key, None)
        # If the name ends in a suffix, the next search for its base may begin at that suffix.
        base, _, suffix = key.rpartition("-")
        digits = suffix.translate(_DIGITS)
        if base in self._next_suffix and digits.isdecimal():
            self._next_suffix[base] = max(2, min(self._next_suffix[base], int(digits)))

    def keep_all(self) -> None:
        """Free all names, and keep them for the members that come back."""
        for member in self._owners.values():
            self.keep(member)
        self._owners.clear()
        self._next_suffix.clear()

    def keep(self, member: Participant) -> None:
        """Keep the name of *member*, which comes back, if it has a session to be known by."""
        if self._kept_names is not None and member.join.session is not None:
            kept = KeptName(self._room, member.join.session, member.name, member.address)
            self._kept_names.keep(kept)

    def take_kept(self, session: str | None) -> str | None:
        """Return the name that is kept for *session*, if any, and keep it no longer."""
        return self._kept_names.take(self._room, session) if self._kept_names else None

    def find_kept(self, session: str | None) -> str | None:
        """Return the name that is kept for *session*, None if there is none."""
        return self._kept_names.find(self._room, session) if self._kept_names else None

    def kept(self, name: str) -> KeptName | None:
        """Return for whom *name* is kept, in whatever spelling, None if it is not."""
        return self._kept_names.of_name(self._room, name) if self._kept_names else None

    def is_kept_at(self, address: str, but: str) -> bool:
        """Return whether a name is kept at *address* for a session other than *but*."""
        kept = self._kept_names.at_address(address) if self._kept_names else ()
        return any(each.room == self._room and each.session != but for each in kept)

    def next_free(self, name: str) -> str:
        """Return *name* if it is free, else its base with the next free suffix: ``bob-2``."""
        key = name_key(name)
        if not (key in self._owners or self._is_kept(key)):
            return name
        base = without_number(name)
        key = name_key(base)
        # Begin where the last search ended. Otherwise a thousand members who ask for the same name
        # would cost half a million look-ups.
        suffix = self._next_suffix.get(key, 2)
        while name_key(with_suffix(base, suffix)) in self._owners:
            suffix += 1
        self._next_suffix[key] = suffix  # a kept name may be free for the next search
        while (key := name_key(with_suffix(base, suffix))) in self._owners or self._is_kept(key):
            suffix += 1
        return with_suffix(base, suffix)

    def _is_kept(self, key: str) -> bool:
        kept = self._kept_names
        return bool(kept) and kept is not None and (self._room, key) in kept
