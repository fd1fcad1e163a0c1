"""Handshake slots: how many TLS handshakes are under way at the same time, and whose turn it is.

A TLS session takes some 50 KiB until its handshake is complete, many times the memory of a
connection that waits. So a handshake needs a slot. There are slots for *max_total* of them, and for
*max_per_address* of one address. A handshake has its slot until the first request is complete.

If none is free, a connection waits. The newest goes first: a client that waits for long has most
likely given up, and strangers who fill the queue delay nobody who comes after them. A slot whose
owner has taken longer than *patience* seconds is given to one that waits: whoever holds all slots
keeps nobody out.

This module is pure: a connection is a number here, and callers pass the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_TOTAL = 400
"""Slots of a server: 30 MiB of memory, and as many handshakes as take half a second of computing.
A client that answers at once therefore keeps its slot for less than `PATIENCE_S`."""

MAX_PER_ADDRESS = 100
"""Slots of one address. It takes four addresses to use up all of them."""

PATIENCE_S = 2.0
"""How long a client keeps its slot although others wait. A handshake and a request take two to
three times the round trip, which is at most half a second on earth."""


class Turn(NamedTuple):
    """What to do now: end the handshakes *end*, then start *start*.

    Ask again at the time *again_at* if nothing happens before; None if that is not necessary.
    """

    end: tuple[int, ...]
    start: tuple[int, ...]
    again_at: float | None


class HandshakeSlots:
    """The handshakes that are under way, and the connections that wait for a slot."""

    def __init__(
        self,
        max_total: int = MAX_TOTAL,
        max_per_address: int = MAX_PER_ADDRESS,
        patience: float = PATIENCE_S,
    ) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._patience = patience
        self._waiting: dict[int, str | None] = {}  # the oldest first, with their addresses
        self._started: dict[int, tuple[str | None, float]] = {}  # the oldest first
        self._by_key: dict[str, dict[int, None]] = {}  # those that are started, the oldest first

    def __len__(self) -> int:
        return len(self._started)

    def add(self, number: int, key: str | None) -> None:
        """Let a connection wait for a slot.

        *key* stands for its address, see `client_key`; None has no limit by address.
        """
        self._waiting[number] = key

    def remove(self, number: int) -> None:
        """Note that a connection needs no slot any more, if it had one or waited for it."""
        self._waiting.pop(number, None)
        key, _ = self._started.pop(number, (None, 0.0))
        if key is not None:
            del self._by_key[key][number]
            if not self._by_key[key]:
                del self._by_key[key]

    def next_turn(self, now: float, at_most: int) -> Turn:
        """Return whose turn it is, *at_most* so many connections. They have their slots then."""
        end: list[int] = []
        start: list[int] = []
        again_at: float | None = None
        for number, key in self._newest_first():
            if len(start) == at_most:
                again_at = now
                break
            oldest = self._in_the_way(key)
            if oldest is not None:
                expires = self._started[oldest][1] + self._patience
                if expires > now:
                    again_at = expires if again_at is None else min(again_at, expires)
                    if len(self._started) >= self._max_total:
                        break
                    continue  # only this address has to wait
                self.remove(oldest)
                end.append(oldest)
            self._start(number, key, now)
            start.append(number)
        return Turn(tuple(end), tuple(start), again_at)

    def _newest_first(self) -> Iterator[tuple[int, str | None]]:
        yield from reversed(tuple(self._waiting.items()))

    def _in_the_way(self, key: str | None) -> int | None:
        """Return the oldest handshake of those that leave no slot for *key*; None if there is one.

        An address that has used up its own slots waits for one of them, and for no other.
        """
        own = self._by_key.get(key, {}) if key is not None else {}
        if len(own) >= self._max_per_address:
            return next(iter(own))
        return next(iter(self._started)) if len(self._started) >= self._max_total else None

    def _start(self, number: int, key: str | None, now: float) -> None:
        del self._waiting[number]
        self._started[number] = key, now
        if key is not None:
            self._by_key.setdefault(key, {})[number] = None
