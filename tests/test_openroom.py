"""The open room: when a turn ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from broadcast_server.entry import Entry
from broadcast_server.fanout import EVENTS
from broadcast_server.history import Log
from broadcast_server.memoryroom import MemoryRoom
from broadcast_server.openroom import NEWCOMERS, REST
from broadcast_server.protocol import Format
from broadcast_server.room import Peer

WRITE = 0.05

Frame = TypeVar("Frame")


class SlowLine(Generic[Frame]):
    """A connection on which writing takes a while, and which notes when it did."""

    paused = False

    def __init__(self, encode: Callable[[bytes], Frame]) -> None:
        self.encode = encode
        self.written: asyncio.Queue[tuple[float, list[Frame], float]] = asyncio.Queue()

    def write(self, frames: Iterable[Frame]) -> None:
        begin = time.monotonic()
        payloads = list(frames)
        if payloads:
            time.sleep(WRITE)  # it is what takes long
            self.written.put_nowait((begin, payloads, time.monotonic()))

    def close(self, code: int, reason: str) -> None:
        raise AssertionError


def test_a_busy_room_rests_between_turns() -> None:
    """What is said while a turn is written waits for a share of that time, for more to come."""

    async def part() -> None:
        room = MemoryRoom("lobby", Log(), 4096, lambda *_: None)
        bob, line = Peer(Entry(format=Format.TEXT), ""), SlowLine(bytes)
        room.enter(bob, line)
        await asyncio.sleep(0)
        room.receive(bob, "a")
        await asyncio.sleep(0)
        _, _, end = line.written.get_nowait()  # at once: it had rested
        room.receive(bob, "b")
        await asyncio.sleep(0)
        room.receive(bob, "c")
        assert line.written.empty()
        begin, payloads, _ = await asyncio.wait_for(line.written.get(), 10)
        assert begin - end >= REST * WRITE
        assert payloads == [b"anonymous: b\nanonymous: c"]

    asyncio.run(part())


class PlainLine:
    """A connection that keeps what is written."""

    paused = False
    encode = staticmethod(bytes)

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


def test_who_comes_as_a_turn_is_full_begins_with_its_welcome() -> None:
    """A turn that ends because someone came is not for who came."""

    async def part() -> None:
        room = MemoryRoom("lobby", Log(), 4096, lambda *_: None)
        bob, line = Peer(Entry(format=Format.JSON), ""), PlainLine()
        room.enter(bob, line)
        for _ in range(EVENTS - 1 - 1):
            room.receive(bob, '{"type":"say","text":"x"}')
        assert not line.frames
        carol = PlainLine()
        room.enter(Peer(Entry(format=Format.JSON), ""), carol)
        assert line.frames  # the turn has ended
        await asyncio.sleep(0)
        assert b'"type":"welcome"' in carol.frames[0][:30]

    asyncio.run(part())
