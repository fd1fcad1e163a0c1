"""The connection counter: how many clients are connected, in total and by address."""

from __future__ import annotations


class ConnectionCounter:
    """Counts clients in total and by key, see `client_key`; None counts in the total only."""

    def __init__(self) -> None:
        self.total = 0
        self._by_key: dict[str, int] = {}

    def count(self, key: str | None) -> int:
        """Return the number of clients with *key*, 0 for None."""
        return 0 if key is None else self._by_key.get(key, 0)

    def add(self, key: str | None) -> None:
        """Count one client more."""
        self.total += 1
        if key is not None:
            self._by_key[key] = self._by_key.get(key, 0) + 1

    def remove(self, key: str | None) -> None:
        """Count one client less. Keys without a client are forgotten."""
        self.total -= 1
        if key is not None:
            remaining = self._by_key[key] - 1
            if remaining:
                self._by_key[key] = remaining
            else:
                del self._by_key[key]
