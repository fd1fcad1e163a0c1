"""The live room: when a batch is written, and to whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from log_files import read_messages
from slow_receiver import WRITE_S, SlowReceiver

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Event, Format, Joined
from broadcast_server.rooms.batch_timer import REST_RATIO
from broadcast_server.rooms.fanout import MAX_BATCH_EVENTS, MAX_PRIVATE_CHARS
from broadcast_server.rooms.live_room import MAX_JOINS_PER_BATCH
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.observed_room import ObservedRoom
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


async def batch_end(room: LocalRoom) -> None:
    """Wait until the batch of *room* has ended, without scheduling that."""
    for _ in range(10_000):
        if not room._timer.is_set:
            return
        await asyncio.sleep(0)
    raise AssertionError


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


def test_a_crowd_is_announced_in_few_frames() -> None:
    """Members that join one after the other are welcomed at once, and announced together."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
        receivers = [RecordingReceiver() for _ in range(60)]
        for receiver in receivers:
            room.join(Participant(JoinRequest(format=Format.JSON), ""), receiver)
            assert receiver.frames[0].startswith(b'{"type":"welcome"')
            await asyncio.sleep(0.002)  # longer than a turn, so that each could have a frame
        first, last = receivers[0], receivers[-1]
        for _ in range(200):
            if b"anonymous-60" in first.frames[-1]:
                break
            await asyncio.sleep(0.01)
        assert len(first.frames) < len(receivers) / 2
        names = [json.loads(line)["name"] for line in b"\n".join(first.frames).split(b"\n")]
        assert names == ["anonymous", *(f"anonymous-{number}" for number in range(2, 61))]
        # What is said, and the leave before it, do not wait for the next announcement.
        leaver = Participant(JoinRequest(format=Format.JSON), "")
        room.join(leaver, RecordingReceiver())
        room.leave(leaver)
        room.receive(next(iter(room.room.members())), '{"type":"say","text":"x"}')
        await batch_end(room)
        for receiver in (first, last):
            types = [json.loads(line)["type"] for line in receiver.frames[-1].split(b"\n")]
            assert types == ["joined", "left", "message"]

    asyncio.run(scenario())


def test_a_welcome_waits_for_the_messages_before_it() -> None:
    """The number in a welcome counts as received, so what has it is written with it or before."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None, persist=lambda: can_persist)
        can_persist = False
        bob = Participant(JoinRequest(format=Format.JSON), "")
        room.join(bob, RecordingReceiver())
        room.receive(bob, '{"type":"say","text":"x"}')
        late = RecordingReceiver()
        room.join(Participant(JoinRequest(format=Format.JSON), ""), late)
        await asyncio.sleep(0.01)
        assert not late.frames
        can_persist = True
        room.flush()
        assert json.loads(late.frames[0])["seq"] == 1

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
        assert len(receiver.frames) == 1  # its welcome
        carol = RecordingReceiver()
        room.join(Participant(JoinRequest(format=Format.JSON), ""), carol)
        assert len(receiver.frames) > 1  # the batch was full
        await asyncio.sleep(0)
        assert b'"type":"welcome"' in carol.frames[0][:30]

    asyncio.run(scenario())


def test_a_batch_of_several_frames_is_one_write() -> None:
    """Frames that are bytes are joined, so that each receiver needs one system call."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 2**17, lambda *_: None)
        bob, receiver = Participant(JoinRequest(format=Format.TEXT), ""), SlowReceiver(bytes)
        room.join(bob, receiver)
        await asyncio.sleep(0)
        room.receive(bob, "a" * 50_000 + "\n" + "b" * 50_000)
        room.flush()
        _, frames, _ = receiver.written.get_nowait()
        assert frames == [b"anonymous: " + b"a" * 50_000 + b"anonymous: " + b"b" * 50_000]

    asyncio.run(scenario())


def private(to: str, *texts: str) -> str:
    """Return a frame with private messages to *to*, each with its number as the id."""
    requests = [
        {"type": "private", "to": to, "text": text, "id": str(number)}
        for number, text in enumerate(texts)
    ]
    return "\n".join(map(json.dumps, requests))


def test_private_messages_to_a_client_that_does_not_read_are_bounded() -> None:
    """A connection that takes nothing gets none, and the sender is told so for each of them."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 2**20, lambda *_: None)
        receivers = {name: RecordingReceiver() for name in ("alice", "bob")}
        members = {
            name: Participant(JoinRequest(name, format=Format.JSON), "") for name in receivers
        }
        for name, receiver in receivers.items():
            room.join(members[name], receiver)
        await batch_end(room)

        def events(name: str) -> list[dict[str, object]]:
            frames = receivers[name].frames
            found = [json.loads(line) for frame in frames for line in frame.split(b"\n")]
            frames.clear()
            return found

        # In one batch, up to MAX_PRIVATE_CHARS and one message.
        text = "x" * (MAX_PRIVATE_CHARS // 4)
        room.receive(members["alice"], private("bob", *[text] * 8))
        await batch_end(room)
        codes = [each.get("code") for each in events("alice") if "id" in each]
        assert codes == [None] * 4 + ["not_delivered"] * 4
        assert [each["type"] for each in events("bob")].count("private") == 4
        # Short ones are bounded as well: many events would be the end of a slow connection.
        room.receive(members["alice"], private("bob", *["x"] * 1000))
        await batch_end(room)
        assert len([each for each in events("bob") if each["type"] == "private"]) < 300
        events("alice")
        # Afterwards it takes more; paused, nothing, even before the room was told.
        receivers["bob"].paused = True
        room.receive(members["alice"], private("bob", "no"))
        room.flow_changed(members["bob"])
        await batch_end(room)
        room.receive(members["alice"], private("bob", "no"))
        await batch_end(room)
        assert [each["code"] for each in events("alice")] == ["not_delivered"] * 2
        receivers["bob"].paused = False
        room.flow_changed(members["bob"])
        await batch_end(room)
        room.receive(members["alice"], private("bob", "yes"))
        await batch_end(room)
        assert [each["text"] for each in events("bob")] == ["yes"]
        # A sender that reads nothing sends nothing, to itself neither.
        events("alice")
        receivers["alice"].paused = True
        room.receive(members["alice"], private("bob", "no") + "\n" + private("alice", "no"))
        await batch_end(room)
        assert [each["code"] for each in events("alice")] == ["not_delivered"] * 2
        assert events("bob") == []

    asyncio.run(scenario())


def test_private_messages_to_a_client_that_catches_up_are_bounded() -> None:
    """They wait for their place behind the messages before them, up to a bound, in order."""

    async def scenario() -> None:
        log = MessageLog()
        for number in range(5000):
            log.append("old", f"m{number}", "2026-11-25T09:00:00.000Z", None, "")
        room = LocalRoom("lobby", log, 2**20, lambda *_: None)
        alice, late = RecordingReceiver(), RecordingReceiver()
        member = Participant(JoinRequest("alice", format=Format.JSON), "")
        room.join(member, alice)
        room.join(Participant(JoinRequest("late", history=5000, format=Format.JSON), ""), late)
        text = "x" * (MAX_PRIVATE_CHARS // 4)
        for _ in range(3):
            room.receive(member, private("late", *[text] * 3))
        await room.wait_caught_up()
        room.receive(member, private("late", "at last"))
        await batch_end(room)
        lines = [json.loads(line) for frame in late.frames for line in frame.split(b"\n")]
        texts = [each["text"] for each in lines if each["type"] == "private"]
        assert texts == [text] * 4 + ["at last"]
        assert [each["type"] for each in lines].count("message") == 5000
        answers = [json.loads(line) for frame in alice.frames for line in frame.split(b"\n")]
        assert [each.get("code") for each in answers if "id" in each] == (
            [None] * 4 + ["not_delivered"] * 5 + [None]
        )

    asyncio.run(scenario())


@pytest.mark.parametrize("observed", [False, True])
def test_several_lines_are_one_batch(observed: bool) -> None:
    """They are numbered, sent, counted and observed as single messages are, in order."""
    seen: list[Event] = []

    async def scenario() -> None:
        metrics, log = Metrics(), MessageLog()
        options = ("lobby", log, 4096, lambda *_: None)
        room = (
            ObservedRoom(lambda _, event: seen.append(event), *options, metrics=metrics)
            if observed
            else LocalRoom(*options, metrics=metrics)
        )
        bob = Participant(JoinRequest("bob", format=Format.TEXT), "#bob")
        receiver = RecordingReceiver()
        room.join(bob, receiver)
        bob.faults = 3
        room.receive(bob, "a\nb\nc")
        await batch_end(room)
        assert receiver.frames == [b"bob: a\nbob: b\nbob: c"]
        assert (log.head, metrics.messages, metrics.deliveries, bob.faults) == (3, 3, 3, 0)
        messages = read_messages(log, 0, 9)
        assert [(each.seq, each.text) for each in messages] == [(1, "a"), (2, "b"), (3, "c")]
        if observed:
            assert seen == [Joined("bob", 1), *messages]

    asyncio.run(scenario())


def test_several_lines_fill_a_batch() -> None:
    """A batch that is full with them is written before the turn ends."""

    async def scenario() -> None:
        room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
        bob = Participant(JoinRequest("bob", format=Format.TEXT), "#bob")
        receiver = RecordingReceiver()
        room.join(bob, receiver)
        room.receive(bob, "\n".join(["a"] * MAX_BATCH_EVENTS))
        assert b"\n".join(receiver.frames).count(b"bob: a") == MAX_BATCH_EVENTS
        room.flush()

    asyncio.run(scenario())
