"""Catching up: reads the log for participants that are behind, a page for all at the same place."""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Sequence
from typing import Protocol

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from broadcast_server.protocol.messages import LogEntry
from broadcast_server.rooms.live_room import READ_CHUNK_MESSAGES
from broadcast_server.rooms.participant import Participant
from django_site.store import message_log, outage

MAX_PAGE_MESSAGES = 2000
"""How many messages are read at once for participants that take what they get: more than are
published in the meantime."""

RETRY_INTERVAL_S = 0.5
"""Seconds between two attempts to read from a database that does not answer."""


class CatchUpRoom(Protocol):
    """What catching up needs of the room."""

    key: int

    @property
    def head(self) -> int:
        """The number of the last message that the room has delivered."""

    def behind(self) -> list[tuple[Participant, int]]:
        """List the participants that can take more, and the last number that each has."""

    def is_paused(self, participant: Participant) -> bool:
        """Tell whether the connection of *participant* takes no more for now."""

    def write_batch(self) -> None:
        """Write what was delivered so far, so that chunks follow it."""

    def send_chunk(self, participant: Participant, entries: Sequence[LogEntry]) -> None:
        """Send *participant* a chunk: the next *entries* of the log."""

    def chunks_sent(self) -> None:
        """Take note of connections that the chunks paused, and of subscribers with everything."""


class CatchUp:
    """Catches up the participants of one room in one process."""

    def __init__(self, room: CatchUpRoom) -> None:
        self._room = room
        self._page_sizes: dict[Participant, int] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that reads, which the owner cancels in the end."""
        return self._task

    def start(self) -> None:
        """Start reading, if anyone is behind and it is not being done already."""
        if self._room.behind() and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._read_for_all())

    def forget(self, participant: Participant) -> None:
        """Forget how much *participant* takes."""
        self._page_sizes.pop(participant, None)

    async def _read_for_all(self) -> None:
        while behind := self._room.behind():
            for after in sorted({seq for _, seq in behind}):
                if all(seq != after for _, seq in self._room.behind()):
                    continue  # an earlier page has brought them further
                size = max(self._page_size(each) for each, seq in behind if seq == after)
                try:
                    page = await database_sync_to_async(message_log.read)(
                        self._room.key, after, size
                    )
                except DatabaseError as error:
                    outage.database.began(error)
                    await asyncio.sleep(RETRY_INTERVAL_S)
                    continue
                self._send(page, after)

    def _send(self, page: Sequence[LogEntry], after: int) -> None:
        """Send *page*, which follows number *after*, to everyone whom it brings further."""
        room = self._room
        room.write_batch()
        # What this process has not read yet is delivered to them as to everyone else.
        page = [entry for entry in page if entry.seq <= room.head]
        numbers = [entry.seq for entry in page]
        for participant, seq in room.behind():
            # Also those further on, so that many come to be at the same place.
            if seq == after or (numbers and after < seq < numbers[-1]):
                self._send_rest(participant, page[bisect(numbers, seq) :])
        room.chunks_sent()

    def _send_rest(self, participant: Participant, page: Sequence[LogEntry]) -> None:
        """Send as much of *page* as the connection takes, and note how much to read next time."""
        room = self._room
        room.send_chunk(participant, page[:READ_CHUNK_MESSAGES])
        for start in range(READ_CHUNK_MESSAGES, len(page), READ_CHUNK_MESSAGES):
            if room.is_paused(participant):
                # Most of a large page would be read in vain.
                self._page_sizes[participant] = READ_CHUNK_MESSAGES
                return
            room.send_chunk(participant, page[start : start + READ_CHUNK_MESSAGES])
        self._page_sizes[participant] = min(2 * self._page_size(participant), MAX_PAGE_MESSAGES)

    def _page_size(self, participant: Participant) -> int:
        return self._page_sizes.get(participant, READ_CHUNK_MESSAGES)
