"""Quotas: how many of something there may be, in all, by place, and by second.

Pure: numbers in, yes or no out; it is told the time.
"""

from __future__ import annotations

PLACES = 4096
"""So many places' joins are remembered; those that have not joined lately go first."""

BURST = 10
"""Seconds' worth that may come at once: a hall comes back together after a restart."""


class Bucket:
    """So many a second, and *most* at once; it begins full."""

    __slots__ = ("_since", "left", "most", "rate")

    def __init__(self, rate: float, most: float, now: float) -> None:
        self.rate = rate
        self.most = most
        self.left = most
        self._since = now

    def fill(self, now: float) -> float:
        """Return what is left *now*."""
        self.left = min(self.most, self.left + (now - self._since) * self.rate)
        self._since = now
        return self.left

    def take(self, count: float) -> None:
        """Take *count*, perhaps more than there is: that is owed."""
        self.left -= count

    def wait(self) -> float:
        """Return in how many seconds there is one whole again."""
        return max(0.0, (1 - self.left) / self.rate)


class Tally:
    """How many there are, in all and by place; who has no place counts in all only."""

    def __init__(self) -> None:
        self.all = 0
        self._by: dict[str, int] = {}

    def at(self, place: str | None) -> int:
        """Count those at *place*."""
        return 0 if place is None else self._by.get(place, 0)

    def add(self, place: str | None) -> None:
        """Count one more."""
        self.all += 1
        if place is not None:
            self._by[place] = self._by.get(place, 0) + 1

    def drop(self, place: str | None) -> None:
        """Count one less."""
        self.all -= 1
        if place is not None:
            left = self._by[place] - 1
            if left:
                self._by[place] = left
            else:
                del self._by[place]


class Joins:
    """How many new ones a second each place may have."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._by: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._by)

    def take(self, place: str | None, now: float) -> bool:
        """Count one more at *place*, and tell whether it is not too many."""
        if place is None:
            return True
        bucket = self._by.pop(place, None) or Bucket(self._rate, self._rate * BURST, now)
        self._by[place] = bucket
        if len(self._by) > PLACES:
            del self._by[next(iter(self._by))]
        if bucket.fill(now) < 1:
            return False
        bucket.take(1)
        return True
