"""Pending connections: those that the server has accepted and that have not been admitted yet.

A connection that sends nothing is closed after a timeout, but one client can open connections
faster than they time out. So their number is limited, in total and by address. Beyond the limit a
new connection replaces the oldest one: a handshake takes a moment, so the oldest is the least
likely to complete its own. An admitted connection is never replaced.

This module is pure: a connection is a number here.
"""

from __future__ import annotations

import sys

RESERVED_FILES = 12
"""How many of the process's file descriptors are kept for other files than connections."""


class PendingConnections:
    """The pending connections: at most *max_pending*, and *max_per_address* for each key.

    Together with the admitted connections they use at most *max_files* file descriptors, less
    `RESERVED_FILES`; None is no limit.
    """

    def __init__(self, max_pending: int, max_per_address: int, max_files: int | None) -> None:
        self._max_pending = max_pending
        self._max_per_address = max_per_address
        self._max_open = sys.maxsize if max_files is None else max(1, max_files - RESERVED_FILES)
        self._open = 0  # pending and admitted
        self._pending: dict[int, str | None] = {}  # the oldest first, with their keys
        self._by_key: dict[str, dict[int, None]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether no connection can be accepted until another one is closed."""
        return self._open > self._max_open

    def add(self, number: int, key: str | None) -> int | None:
        """Add a connection. Return the connection that has to be closed for it, if any.

        *key* stands for its address, see `client_key`; None has no limit by address.
        """
        self._open += 1
        self._pending[number] = key
        if key is not None:
            same_key = self._by_key.setdefault(key, {})
            same_key[number] = None
            if len(same_key) > self._max_per_address:
                return self._evict(next(iter(same_key)))
        if len(self) > self._max_pending or self.full:
            return self._evict(next(iter(self._pending)))
        return None

    def joined(self, number: int) -> None:
        """Note that a connection is no longer pending, because its client joined a room."""
        self._remove(number)

    def closed(self, number: int) -> None:
        """Note that a connection, pending or admitted, is closed."""
        self._remove(number)
        self._open -= 1

    def _evict(self, number: int) -> int:
        self._remove(number)
        return number

    def _remove(self, number: int) -> None:
        """Remove a connection from the pending ones, if it is one of them."""
        key = self._pending.pop(number, None)
        if key is not None:
            del self._by_key[key][number]
            if not self._by_key[key]:
                del self._by_key[key]
