"""The live room: when a batch is written, and to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from slow_receiver import WRITE_S, SlowReceiver

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Format
from broadcast_server.rooms.fanout import MAX_BATCH_EVENTS
from broadcast_server.rooms.live_room import MAX_JOINS_PER_BATCH, REST_RATIO
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant


def test_a_busy_room_rests_between_batches() -> None:
    """After a write, the next one waits for a share of the time it took, and has more messages."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
        bob = Participant(JoinRequest(format=Format.TEXT), "")
        receiver = SlowReceiver(bytes)
        room.join(bob, receiver)
        await asyncio.sleep(0)
        room.receive(bob, "a")
        await asyncio.sleep(0)
        _, _, end = receiver.written.get_nowait()  # at once: the room had rested
        room.receive(bob, "b")
        await asyncio.sleep(0)
        room.receive(bob, "c")
        assert receiver.written.empty()
        begin, frames, _ = await run_within(receiver.written.get(), 10)
        assert begin - end >= REST_RATIO * WRITE_S
        assert frames == [b"anonymous: b\nanonymous: c"]

    asyncio.run(scenario())


class RecordingReceiver:
    """A receiver that keeps the frames that are written to it."""

    paused = False
    encode = staticmethod(bytes)

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frames: Iterable[bytes]) -> None:
        self.frames += frames

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


def test_many_joins_at_once_are_written_in_common_frames() -> None:
    """A batch ends after `MAX_JOINS_PER_BATCH` joins: later ones are in frames for everyone."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
        receivers = [RecordingReceiver() for _ in range(3 * MAX_JOINS_PER_BATCH)]
        for receiver in receivers:
            room.join(Participant(JoinRequest(format=Format.TEXT), ""), receiver)
        await asyncio.sleep(0)
        first, second = receivers[:2]
        line_counts = [len(frame.split(b"\n")) for frame in first.frames]
        assert line_counts == [MAX_JOINS_PER_BATCH - 1, MAX_JOINS_PER_BATCH, MAX_JOINS_PER_BATCH]
        assert first.frames[1] is second.frames[1] and first.frames[2] is second.frames[2]

    asyncio.run(scenario())


def test_a_member_that_fills_the_batch_gets_its_welcome_first() -> None:
    """If the join of a member fills the batch, that batch is not written to the member."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
        bob = Participant(JoinRequest(format=Format.JSON), "")
        receiver = RecordingReceiver()
        room.join(bob, receiver)
        for _ in range(MAX_BATCH_EVENTS - 1 - 1):
            room.receive(bob, '{"type":"say","text":"x"}')
        assert not receiver.frames
        carol = RecordingReceiver()
        room.join(Participant(JoinRequest(format=Format.JSON), ""), carol)
        assert receiver.frames  # the batch was full
        await asyncio.sleep(0)
        assert b'"type":"welcome"' in carol.frames[0][:30]

    asyncio.run(scenario())
