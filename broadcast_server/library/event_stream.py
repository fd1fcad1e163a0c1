"""The event stream: what happens in the rooms of an embedded server, for one iteration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from .event_queue import EventQueue, Item
from .events import Event, Gap, Members, Message
from .loop_home import LoopHome


class EventStream(AsyncIterator[Event]):
    """Iterates over events until the server has stopped. What it cannot hold, it drops and counts.

    *members_of* returns the members of a room as they are now.
    """

    def __init__(self, members_of: Callable[[str], Members]) -> None:
        self._members_of = members_of
        self._queue = EventQueue()
        self._missed: dict[str, int] = {}  # dropped messages, by room
        self._ended = False
        self._arrived = asyncio.Event()
        self._home = LoopHome("this server")

    def put(self, events: list[Event]) -> None:
        """Add the *events* of one batch, or drop them if as much waits as may."""
        is_dropping = bool(self._missed) or self._queue.full
        for event in events:
            if is_dropping:
                is_message = isinstance(event, Message)
                self._missed[event.room] = self._missed.get(event.room, 0) + is_message
            else:
                self._queue.put(Item(event))
        self._arrived.set()

    def end(self) -> None:
        """End the iteration after what is waiting."""
        self._ended = True
        self._arrived.set()

    async def __anext__(self) -> Event:
        self._home.check()
        while not len(self._queue):
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        event = self._queue.take().event
        if self._missed and self._queue.nearly_empty:
            missed, self._missed = self._missed, {}
            for room, count in missed.items():
                if count:
                    self._queue.put(Item(Gap(room, count)))
                self._queue.put(Item(self._members_of(room)))
        return event
