"""The logged room: a live room whose participants read what they have not received from the log.

The log is in the database, so they take turns with those of all other rooms of the process.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence

from broadcast_server.protocol.messages import LogEntry
from broadcast_server.rooms.live_room import LiveRoom
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room
from django_site.store.message_log import RoomState

from .catch_up import CatchUp


class LoggedRoom(LiveRoom):
    """A live room that has the key *key* in the database."""

    def __init__(self, room: Room, key: int, metrics: Metrics, catching_up: CatchUp) -> None:
        # A connection that the room closes leaves the roster by itself.
        super().__init__(room, lambda receiver, code: None, metrics)
        self.key = key
        self._catching_up = catching_up

    @property
    @abstractmethod
    def known(self) -> RoomState:
        """What this process knows of the room."""

    async def wait_written(self) -> None:
        """Wait until what was delivered is written to every connection that takes it."""
        written = asyncio.Event()
        self.call_after_batch(written.set)
        await written.wait()

    def _catch_up(self) -> list[Participant]:
        for participant, _ in self.behind():
            self._catching_up.add(self, participant)
        return []

    def behind(self) -> list[tuple[Participant, int]]:
        """List the participants that can take more, and the last number that each has."""
        return self._fanout.ready_to_read()

    def write_batch(self) -> None:
        """Write what was delivered so far."""
        self._write_batch()
        self._fanout.forget_encoded()  # a message may have been hidden since it was read

    def send_chunk(self, participant: Participant, entries: Sequence[LogEntry]) -> None:
        """Send *participant* a chunk: the next *entries* of the log."""
        self._write_to(participant, self._fanout.catch_up(participant, entries))

    def chunks_sent(self) -> None:
        """Take note of connections that the chunks paused, and of subscribers with everything."""
        self._apply_flow_changes()
        self._close_finished_polls()
