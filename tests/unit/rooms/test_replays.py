"""Replays: past messages are sent a slice at a time, in rounds over the addresses of all rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Cursor, Format, LogEntry, Message
from broadcast_server.rooms.live_room import READ_CHUNK_BYTES, READ_CHUNK_MESSAGES
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import DEFAULT_MAX_BYTES, MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.replays import Replays

MESSAGES = 12_800


@dataclass
class Replayed:
    """A receiver that records in *chunks*, which it shares with others, when it was sent some."""

    name: str
    chunks: list[str]
    size: int = 0
    lines: int = 0
    is_closed: bool = False
    paused = False
    encode = staticmethod(bytes)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, at: Cursor) -> None:
        pass

    def write(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            self.chunks.append(self.name)
            self.size = max(self.size, len(frame))
            self.lines += frame.count(b"\n") + 1

    def close(self, code: int, reason: str) -> None:
        self.done.set()


class ReadLog(MessageLog):
    """A log that records in *sizes* how many bytes of text each reading returned."""

    sizes: list[int]

    def read_after(
        self, seq: int, limit: int, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> list[LogEntry]:
        entries = super().read_after(seq, limit, max_bytes)
        self.sizes.append(sum(len(each.text) for each in entries if isinstance(each, Message)))
        return entries


@dataclass
class Site:
    """Two rooms of one server, each with a long history."""

    replays: Replays = field(default_factory=Replays)
    chunks: list[str] = field(default_factory=list)

    def room(self, name: str, text: str = "x" * 50, count: int = MESSAGES) -> LocalRoom:
        """Return a room with a history."""
        log = ReadLog()
        log.sizes = []
        for _ in range(count):
            log.append("alice", text, "2026-11-30T21:00:00.000Z", None, "")
        return LocalRoom(name, log, 4096, lambda *_: None, replays=self.replays)

    def poll(self, room: LocalRoom, address: str, name: str, history: int = MESSAGES) -> Replayed:
        """Request a history, as `/stream?poll=1` does."""
        receiver = Replayed(name, self.chunks)
        join = JoinRequest(name="", room=room.room.name, history=history, format=Format.JSON)
        room.subscribe(Participant(join, name, address=address), receiver, poll=True)
        return receiver


def test_an_address_gets_its_share_however_many_ask_at_another_one() -> None:
    """Thirty requests of one address for whole histories are one turn of a round."""

    async def scenario() -> None:
        site = Site()
        big, small = site.room("big"), site.room("small")
        for number in range(30):
            site.poll(big, "192.0.2.1", f"loud {number}")
        one = site.poll(small, "192.0.2.2", "one")
        await run_within(one.done.wait(), 30)
        assert one.lines == MESSAGES + 1  # with the welcome
        places = [place for place, name in enumerate(site.chunks) if name == "one"]
        assert places[-1] - places[0] + 1 <= 2 * len(places)

    asyncio.run(scenario())


def test_other_work_goes_on_between_two_slices() -> None:
    """Everything else that the event loop has to do comes between any two slices."""

    async def scenario() -> None:
        site = Site()
        big = site.room("big")
        polls = [site.poll(big, "192.0.2.1", f"{number}") for number in range(10)]
        most, before = 0, 0
        while not all(poll.done.is_set() for poll in polls):
            await asyncio.sleep(0)
            most, before = max(most, len(site.chunks) - before), len(site.chunks)
        assert before >= 10 * MESSAGES / READ_CHUNK_MESSAGES
        assert most <= before / 4

    asyncio.run(scenario())


def test_a_busy_room_still_replays() -> None:
    """A room that publishes in each turn of the event loop sends its replays between batches."""

    async def scenario() -> None:
        site = Site()
        room = site.room("busy")
        member = Participant(JoinRequest(format=Format.JSON), "m")
        everything = Replayed("member", [])
        room.join(member, everything)
        poll = site.poll(room, "192.0.2.1", "poll")
        published = 0
        while not poll.done.is_set():
            room.receive(member, '{"type":"say","text":"new"}')
            published += 1
            await asyncio.sleep(0)
        assert MESSAGES < poll.lines <= 1 + MESSAGES + published

    asyncio.run(run_within(scenario(), 30))


@pytest.mark.parametrize("size", [1, 4096, 130_000])
def test_a_chunk_is_bounded_in_messages_and_bytes(size: int) -> None:
    """However long messages are, one turn sends a bounded part of them."""

    async def scenario() -> None:
        site = Site()
        room = site.room("long", "x" * size, 100)
        poll = site.poll(room, "192.0.2.1", "poll", 100)
        await run_within(poll.done.wait(), 10)
        assert isinstance(room.log, ReadLog)
        assert max(room.log.sizes) < READ_CHUNK_BYTES + size
        assert max(room.log.sizes) <= READ_CHUNK_MESSAGES * size
        assert poll.lines == 101

    asyncio.run(scenario())


def test_what_is_encoded_for_replays_is_bounded() -> None:
    """A room that is quiet does not keep what it has encoded for whole histories."""

    async def scenario() -> None:
        site = Site()
        room = site.room("big", "x" * 4000, 3000)
        polls = [site.poll(room, f"192.0.2.{number}", "poll", 3000) for number in range(2)]
        most = 0
        while not all(poll.done.is_set() for poll in polls):
            await asyncio.sleep(0)
            most = max(most, len(room._fanout._encoded_entries))
        assert 0 < most < 600

    asyncio.run(scenario())
