"""The roster: gives the members of a room their names where they are in several processes."""

from __future__ import annotations

from typing import Protocol


class Roster(Protocol):
    """Who is present in a room whose members are in several processes.

    The roster gives members their names and announces who joined, left or was renamed. With a
    roster, the room does none of this.
    """

    def __len__(self) -> int:
        """Count the members in all processes."""

    def names(self, limit: int) -> tuple[str, ...]:
        """Return the names of the first *limit* members."""

    def verified_names(self, limit: int) -> tuple[str, ...] | None:
        """Return those of the same names that belong to accounts, None if none does."""
