"""Turns: which item is next, in rounds over addresses, and then over what waits at an address.

So an address gets no more than another one, however many clients it has. This module is pure.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Items that wait for their turn, each at an address. An item waits once at a time."""

    def __init__(self) -> None:
        self._addresses: deque[str] = deque()  # the next one first; none without an item
        self._items: dict[str, deque[Item]] = {}
        self._waiting: set[Item] = set()

    def __len__(self) -> int:
        """Count the items that wait."""
        return len(self._waiting)

    def add(self, address: str, item: Item) -> None:
        """Let *item* wait behind the others at *address*, unless it waits already."""
        if item in self._waiting:
            return
        self._waiting.add(item)
        if address not in self._items:
            self._addresses.append(address)
            self._items[address] = deque()
        self._items[address].append(item)

    def take(self) -> Item:
        """Return the next item, which waits no longer. Raises IndexError if there is none.

        Its address is the last one from now on.
        """
        address = self._addresses.popleft()
        items = self._items[address]
        item = items.popleft()
        self._waiting.remove(item)
        if items:
            self._addresses.append(address)
        else:
            del self._items[address]
        return item
