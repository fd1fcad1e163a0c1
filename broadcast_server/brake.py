"""The brake: who guesses at the token waits, and the longer the more often.

An attempt from an address with failures waits whether its token is right or wrong: if
only the wrong ones waited, who guesses would take silence for "wrong", hang up, and try
the next. The wait depends on the failures of that address alone and never exceeds
`LONGEST`, however many others try from there at the same time. Only when more attempts
than `WAITING` wait already is a further one turned away, as it could not be slowed. A
missing token is no guess, and costs nothing.

Pure: it is told the time.
"""

from __future__ import annotations

FREE = 1
"""So many failures cost nothing: people mistype."""

FIRST = 0.25
"""Seconds that an attempt waits after one failure more; it doubles with each."""

LONGEST = 8.0
"""Seconds that it waits at the most: a client has patience for ten."""

MEMORY = 600.0
"""Seconds without a failure after which an address is forgotten."""

ADDRESSES = 4096
"""So many addresses are remembered, then the one that was quiet longest is forgotten."""

WAITING = 16
"""So many attempts of one address wait at the same time: at most two guesses a second."""


class _Failures:
    __slots__ = ("count", "last", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.waiting = 0


class Brake:
    """What is remembered of failures, by address."""

    def __init__(self) -> None:
        self._by: dict[str, _Failures] = {}  # the one that failed last is last

    def __len__(self) -> int:
        return len(self._by)

    def wait(self, address: str, now: float) -> float | None:
        """Return how long an attempt from *address* waits, None if too many wait already."""
        failures = self._by.get(address)
        if failures is None or (now - failures.last > MEMORY and not failures.waiting):
            return 0.0
        if failures.waiting >= WAITING:
            return None
        if failures.count <= FREE:
            return 0.0
        return min(LONGEST, FIRST * 2.0 ** min(failures.count - FREE - 1, 30))

    def begin(self, address: str) -> None:
        """Note that an attempt from *address* waits, until `end`."""
        self._by.setdefault(address, _Failures()).waiting += 1

    def end(self, address: str) -> None:
        """Note that an attempt from *address* waits no more, however it came out."""
        failures = self._by.get(address)
        if failures is not None:
            failures.waiting = max(0, failures.waiting - 1)

    def failed(self, address: str, now: float) -> None:
        """Note a wrong token from *address*: at once, so that those beside it wait longer."""
        failures = self._by.pop(address, None) or _Failures()
        if now - failures.last > MEMORY:
            failures.count = 0
        failures.count += 1
        failures.last = now
        self._by[address] = failures
        while len(self._by) > ADDRESSES:
            del self._by[next(iter(self._by))]
