"""The slow mode of one room: who has published when, and who has to wait. Pure.

A client could come back with a new session for each message. So the address of whoever has just
come counts as well. Where many have one address, as a class behind one router does, each of them is
to have its message: as many as there are members with the address are let through in the time. Who
has been here for longer does not come back each time, and is not held up by those who do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from broadcast_server.protocol.messages import Error

MAX_AUTHORS = 10_000
"""How many keys of authors are remembered. Beyond that, the oldest is forgotten."""


class SlowMode:
    """When those have published who may have to wait, by the keys of what they are known by."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, str]] = {}  # time and address, the oldest first
        self._by_address: dict[str, dict[str, float]] = {}  # times by key, the oldest first

    def note(self, at: float, keys: Sequence[str], address: str = "") -> None:
        """Note that the author with *keys* has published at the time *at*, from *address*.

        Of all keys the first stands for the author; *address* is empty if it does not count.
        """
        for key in keys:
            self._forget(key)
            self._last[key] = at, address
            if address:
                self._by_address.setdefault(address, {})[key] = at
            address = ""
        while len(self._last) > MAX_AUTHORS:
            self._forget(next(iter(self._last)))

    def wait(
        self,
        keys: Sequence[str],
        address: str,
        *,
        seconds: int,
        now: float,
        count_members: Callable[[], int],
    ) -> float:
        """Return for how many seconds the author must wait, 0 if a message may be published now.

        *count_members* returns how many members have *address*. The caller notes the message.
        """
        end = now - seconds
        while self._last and self._last[first := next(iter(self._last))][0] <= end:
            self._forget(first)
        until = max((self._last[key][0] for key in keys if key in self._last), default=end)
        recent = self._by_address.get(address)
        if until <= end and recent is not None:
            excess = len(recent) - max(1, count_members())
            if excess >= 0:
                until = sorted(recent.values())[excess]
        return min(max(until - end, 0.0), seconds)

    def clear(self) -> None:
        """Let everyone publish at once."""
        self._last.clear()
        self._by_address.clear()

    def _forget(self, key: str) -> None:
        _, address = self._last.pop(key, (0.0, ""))
        if address:
            del self._by_address[address][key]
            if not self._by_address[address]:
                del self._by_address[address]


def too_soon(seconds: int, wait: float) -> Error:
    """Return the error for an author who must *wait*, in a room with one message in *seconds*."""
    text = f"slow mode: one message in {seconds} s here, wait {ceil(wait)} s"
    return Error("slow_mode", text)
