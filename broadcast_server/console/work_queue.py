"""The work queue: items that one task works off, and whether it has caught up."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class WorkQueue(ABC, Generic[Item]):
    """Items, and the task that works them off.

    The owner starts `run` as a task. To keep the queue short, wait for `wait_idle` before you add
    more. A subclass adds items with `_put` and implements `run` with `_wait_for_items`.
    """

    def __init__(self) -> None:
        self.open = True
        """Whether items are still accepted and worked off."""
        self._items: deque[Item] = deque()
        self._changed = asyncio.Event()  # an item was added, or the queue was closed
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        """Whether no item waits or is being worked on, or the queue is closed."""
        return self._idle.is_set()

    async def wait_idle(self) -> None:
        """Wait until no item waits or is being worked on, or the queue is closed."""
        await self._idle.wait()

    def close(self) -> None:
        """Drop the waiting items, and let `wait_idle` return even if one is being worked on."""
        self._stop()
        self._idle.set()

    @abstractmethod
    async def run(self) -> None:
        """Work off items until the queue is closed. It is closed when this returns or raises."""

    def _put(self, item: Item) -> None:
        if self.open:
            self._items.append(item)
            self._idle.clear()
            self._changed.set()

    def _stop(self) -> None:
        """Accept no more items and end `run` after the current one, which `wait_idle` waits for."""
        self.open = False
        self._items.clear()
        self._changed.set()

    async def _wait_for_items(self) -> bool:
        """Wait until there are items in `_items`; return False once the queue is closed."""
        while self.open and not self._items:
            self._idle.set()
            self._changed.clear()
            await self._changed.wait()
        return self.open
