"""The event queue: what a client has received and its program has not taken yet. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from broadcast_server.protocol.messages import Cursor

from .events import Event, Members, Message

MAX_WAITING_EVENTS = 4096
MAX_WAITING_CHARS = 2**20
"""Events, and characters in them, that may wait for the program. What comes in one frame
of the server is never divided, so it can be more by one frame: at most as much once again."""


class Item(NamedTuple):
    """An event, and the position in the log after it; None if it does not change the position."""

    event: Event
    cursor: Cursor | None = None


class EventQueue:
    """A queue of events that knows when it is full. It is up to its user to add no more then."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._chars = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether nothing should be added."""
        return len(self._items) >= MAX_WAITING_EVENTS or self._chars >= MAX_WAITING_CHARS

    @property
    def nearly_empty(self) -> bool:
        """Whether it is time to fetch more."""
        return len(self._items) <= MAX_WAITING_EVENTS // 8 and self._chars <= MAX_WAITING_CHARS // 8

    def put(self, item: Item) -> None:
        """Add *item* at the end."""
        self._items.append(item)
        self._chars += _size(item)

    def put_back(self, item: Item) -> None:
        """Add *item*, which was taken last, at the front again."""
        self._items.appendleft(item)
        self._chars += _size(item)

    def take(self) -> Item:
        """Remove the first item, and return it. Raises IndexError if there is none."""
        item = self._items.popleft()
        self._chars -= _size(item)
        return item

    def clear(self) -> None:
        """Remove all items."""
        self._items.clear()
        self._chars = 0


def _size(item: Item) -> int:
    """Return the characters of an event, in whichever field a server has put them."""
    event = item.event
    if isinstance(event, Message):  # the same, faster
        return len(event.text) + len(event.at)
    fields = (getattr(event, field) for field in event.__slots__)
    return sum(len(each) for each in fields if isinstance(each, str)) + (
        sum(map(len, event.names)) if isinstance(event, Members) else 0
    )
