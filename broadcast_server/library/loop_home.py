"""The loop home: the event loop that an object of the library belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress


class LoopHome:
    """The event loop in which *owner* was made. Only there it can be used.

    Without this check, a call from another loop would wait for ever, or break what is under way.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Raise RuntimeError if this is another event loop."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"{self._owner} belongs to another event loop"
                " (call it there with asyncio.run_coroutine_threadsafe)"
            )

    def call(self, call: Callable[[], object]) -> None:
        """Call *call* in the loop, from any thread. Do nothing if the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)
