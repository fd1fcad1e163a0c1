"""The name table: which member of a room has which name, and the next name that is free."""

from __future__ import annotations

from broadcast_server.protocol.names import name_key, with_suffix, without_number

from .participant import Participant

_DIGITS = str.maketrans("lo", "10")  # as they look in a key, and as they are


class NameTable:
    """The names of one room's members. Names that people would take for one have one owner."""

    def __init__(self) -> None:
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

    def clear(self) -> None:
        """Free all names."""
        self._owners.clear()
        self._next_suffix.clear()

    def next_free(self, name: str) -> str:
        """Return *name* if it is free, else its base with the next free suffix: ``bob-2``."""
        if name_key(name) not in self._owners:
            return name
        base = without_number(name)
        key = name_key(base)
        # Begin where the last search ended. Otherwise a thousand members who ask for the same name
        # would cost half a million look-ups.
        suffix = self._next_suffix.get(key, 2)
        while name_key(with_suffix(base, suffix)) in self._owners:
            suffix += 1
        self._next_suffix[key] = suffix
        return with_suffix(base, suffix)
