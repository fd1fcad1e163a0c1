"""The open room: when a turn ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from broadcast_server.entry import Entry
from broadcast_server.history import Log
from broadcast_server.openroom import NEWCOMERS, REST
from broadcast_server.protocol import Format
from broadcast_server.room import Peer
from broadcast_server.server import MemoryRoom

WRITE = 0.05


class SlowLine:
    """A connection on which writing takes a while, and which notes when it did."""

    paused = False

    def __init__(self) -> None:
        self.written: list[tuple[float, list[bytes], float]] = []
        self.twice = asyncio.Event()

    def write(self, frames: Iterable[bytes]) -> None:
        begin = time.monotonic()
        payloads = list(frames)
        if payloads:
            time.sleep(WRITE)  # it is what takes long
            self.written.append((begin, payloads, time.monotonic()))
            if len(self.written) == 2:
                self.twice.set()

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


def test_a_busy_room_rests_between_turns() -> None:
    """What is said while a turn is written waits for a share of that time, for more to come."""

    async def part() -> None:
        room = MemoryRoom("lobby", Log(), 4096, lambda *_: None)
        bob, line = Peer(Entry(format=Format.TEXT), ""), SlowLine()
        room.enter(bob, line)
        await asyncio.sleep(0)
        room.receive(bob, "a")
        await asyncio.sleep(0)
        assert len(line.written) == 1  # at once: it had rested
        room.receive(bob, "b")
        await asyncio.sleep(0)
        room.receive(bob, "c")
        assert len(line.written) == 1
        await asyncio.wait_for(line.twice.wait(), 10)
        (_, _, end), (begin, payloads, _) = line.written
        assert begin - end >= REST * WRITE
        assert [payload[2:] for payload in payloads] == [b"anonymous: b\nanonymous: c"]

    asyncio.run(part())


class PlainLine:
    """A connection that keeps what is written."""

    paused = False

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, frames: Iterable[bytes]) -> None:
        self.frames += frames

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


def test_many_who_come_at_once_are_told_of_each_other_in_frames_for_all() -> None:
    """A turn has an end when many have come in it, since each of those gets its own lines."""

    async def part() -> None:
        room = MemoryRoom("lobby", Log(), 4096, lambda *_: None)
        lines = [PlainLine() for _ in range(3 * NEWCOMERS)]
        for line in lines:
            room.enter(Peer(Entry(format=Format.TEXT), ""), line)
        await asyncio.sleep(0)
        first, second = lines[:2]
        told = [len(frame.split(b"\n")) for frame in first.frames]
        assert told == [NEWCOMERS - 1, NEWCOMERS, NEWCOMERS]
        assert first.frames[1] is second.frames[1] and first.frames[2] is second.frames[2]

    asyncio.run(part())
