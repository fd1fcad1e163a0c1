"""Catching up: reads the log for participants that are behind, a page at a time.

A request for a whole history takes as much work as thousands of messages. So the participants of
all rooms of a process take turns (see `Turns`), and only one page is read at a time: whatever else
the database is asked meanwhile waits for one page at most. What one page brings further is served
from it, however many it is.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Sequence
from typing import Protocol

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from broadcast_server.protocol.messages import LogEntry, Message
from broadcast_server.protocol.rejection import TOO_SLOW, UNREADABLE, Rejection
from broadcast_server.rooms.live_room import READ_CHUNK_BYTES, READ_CHUNK_MESSAGES
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.replays import MIN_SLICE_S
from broadcast_server.rooms.turns import Turns
from django_site.store import message_log, outage
from django_site.store.damage import DamagedRow
from django_site.store.message_log import RoomState

MAX_PAGE_MESSAGES = 250
"""How many messages are read at once for participants that take what they get: more than are
published in the meantime, and a few milliseconds of work."""

RETRY_INTERVAL_S = 0.5
"""Seconds between two attempts to read from a database that does not answer."""


class CatchUpRoom(Protocol):
    """What catching up needs of a room."""

    key: int

    @property
    def known(self) -> RoomState:
        """What this process knows of the room, and has delivered."""

    def behind(self) -> list[tuple[Participant, int]]:
        """List the participants that can take more, and the last number that each has."""

    def place_of(self, participant: Participant) -> int | None:
        """Return the last number that *participant* has, None if it cannot take more."""

    def write_batch(self) -> None:
        """Write what was delivered so far, so that chunks follow it."""

    def send_chunk(self, participant: Participant, entries: Sequence[LogEntry]) -> None:
        """Send *participant* a chunk: the next *entries* of the log."""

    def kick(self, participant: Participant, rejection: Rejection) -> None:
        """Close *participant* with *rejection*."""

    def chunks_sent(self) -> None:
        """Take note of connections that the chunks paused, and of subscribers with everything."""


def close_outrun(
    room: CatchUpRoom,
    served: Sequence[tuple[Participant, int]],
    page: Sequence[LogEntry],
    after: int,
) -> None:
    """Close those of *served* that need messages which were deleted before they took them.

    *page* is what the log has after number *after*. They come back, and are told what they missed.
    """
    if page and page[0].seq == after + 1:
        return
    head = room.known.head
    first = page[0].seq if page else head + 1
    for participant, _ in served:
        seq = room.place_of(participant)
        if seq is not None and after <= seq < min(first - 1, head):
            room.kick(participant, TOO_SLOW)


class CatchUp:
    """Catches up the participants of all rooms of one process."""

    def __init__(self) -> None:
        self._turns: Turns[tuple[CatchUpRoom, Participant]] = Turns()
        self._page_sizes: dict[Participant, int] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, room: CatchUpRoom, participant: Participant) -> None:
        """Send *participant*, which is behind in *room*, what it lacks. It may wait already."""
        self._turns.add(participant.address, (room, participant))
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._read_for_all())

    def forget(self, participant: Participant) -> None:
        """Forget how much *participant* takes."""
        self._page_sizes.pop(participant, None)

    async def close(self) -> None:
        """End the task that reads."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _read_for_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._turns:
            room, participant = self._turns.take()
            after = room.place_of(participant)
            if after is None:
                continue
            begin = loop.time()
            # Only these: a message may be hidden while it is read, and who joins is not told.
            served = room.behind()
            size = self._page_size(participant)
            try:
                page = await database_sync_to_async(message_log.read)(room.key, after, size)
            except DamagedRow as error:
                outage.database.began(error)
                if room.place_of(participant) is not None:
                    room.kick(participant, UNREADABLE)
            except DatabaseError as error:
                outage.database.began(error)
                await asyncio.sleep(RETRY_INTERVAL_S)
                page = []
            else:
                close_outrun(room, served, page, after)
                await self._send(room, [each for each, _ in served], page, after)
            for each, _ in served:
                if room.place_of(each) is not None:
                    self._turns.add(each.address, (room, each))
            await asyncio.sleep(loop.time() - begin)

    async def _send(
        self,
        room: CatchUpRoom,
        served: Sequence[Participant],
        page: Sequence[LogEntry],
        after: int,
    ) -> None:
        """Send *page*, which follows number *after*, to those of *served* whom it brings further.

        Each gets as much of it as its connection takes.
        """
        loop = asyncio.get_running_loop()
        begin = 0.0
        numbers = [entry.seq for entry in page]
        for participant in served:
            if loop.time() - begin > MIN_SLICE_S:
                if begin:
                    room.chunks_sent()
                    await asyncio.sleep(0)
                begin = loop.time()
                room.write_batch()
            seq = room.place_of(participant)
            # What this process has not read yet is delivered to them as to everyone else.
            end = bisect(numbers, room.known.head)
            # Also those further on, so that many come to be at the same place.
            if seq is not None and (seq == after or (end and after < seq < numbers[end - 1])):
                self._send_rest(room, participant, page[bisect(numbers, seq) : end])
        room.chunks_sent()

    def _send_rest(
        self, room: CatchUpRoom, participant: Participant, page: Sequence[LogEntry]
    ) -> None:
        """Send as much of *page* as the connection takes, and note how much to read next time."""
        start = chunk_end(page, 0)
        room.send_chunk(participant, page[:start])
        while start < len(page):
            if room.place_of(participant) is None:
                # Most of a large page would be read in vain.
                self._page_sizes[participant] = min(2 * start, READ_CHUNK_MESSAGES)
                return
            end = chunk_end(page, start)
            room.send_chunk(participant, page[start:end])
            start = end
        self._page_sizes[participant] = min(2 * self._page_size(participant), MAX_PAGE_MESSAGES)

    def _page_size(self, participant: Participant) -> int:
        return self._page_sizes.get(participant, READ_CHUNK_MESSAGES)


def chunk_end(page: Sequence[LogEntry], start: int) -> int:
    """Return where the chunk of *page* from *start* on ends."""
    chars = 0
    for place in range(start, min(start + READ_CHUNK_MESSAGES, len(page))):
        entry = page[place]
        chars += len(entry.text) if isinstance(entry, Message) else 0
        if chars >= READ_CHUNK_BYTES:
            return place + 1
    return min(start + READ_CHUNK_MESSAGES, len(page))
