"""What a fan-out and a room keep: nothing of a batch that ended, or of a participant that left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from container_sizes import container_sizes

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import (
    Cursor,
    Format,
    Joined,
    Members,
    Message,
    Pong,
    Welcome,
)
from broadcast_server.protocol.rejection import BINARY
from broadcast_server.rooms.fanout import MAX_WAITING_EVENTS, Fanout
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant

WELCOME = Welcome("lobby", "bob", "e", 0, True, 0, 1, ("bob",))
MEMBERS = Members(1, ("bob",))
RENAME = '{"type":"name","name":"carol"}'


def participant(format: Format = Format.TEXT) -> Participant:
    """Return a new participant."""
    return Participant(JoinRequest(format=format), "")


def message(seq: int) -> Message:
    """Return message number *seq*."""
    return Message(seq, "bob", "x", "")


# -- the fan-out --


def test_a_participant_that_has_caught_up_gets_its_next_list_of_members() -> None:
    """Once a participant has its answer to /who, it gets one to the next /who of the same batch."""
    fanout = Fanout()
    bob = participant()
    fanout.subscribe(bob, 0, WELCOME)
    fanout.end_batch()
    for _ in range(3):
        fanout.pause(bob)
        fanout.send_to(bob, MEMBERS)
        fanout.end_batch()
        fanout.resume(bob)
        assert fanout.catch_up(bob, []) == [b"* 1 here: bob"]
        fanout.send_to(bob, MEMBERS)
        assert fanout.end_batch().private[bob] == [b"* 1 here: bob"]


def test_a_participant_that_is_behind_gets_an_answer_after_the_one_that_it_was_sent() -> None:
    """A /who is answered even if the answer to the one before was sent during the same replay."""
    fanout = Fanout(head=2)
    bob = participant()
    fanout.subscribe(bob, 0, WELCOME)
    fanout.end_batch()
    fanout.catch_up(bob, [message(1)])
    fanout.pause(bob)
    fanout.send_to(bob, MEMBERS)
    fanout.send_to(bob, MEMBERS)
    fanout.broadcast(message(3))
    fanout.broadcast(message(4))
    fanout.end_batch()
    fanout.resume(bob)
    first = b"\n".join(fanout.catch_up(bob, [message(2), message(3)]))
    assert first.count(b"* 1 here: bob") == 1
    fanout.send_to(bob, MEMBERS)
    fanout.end_batch()
    rest = b"\n".join(fanout.catch_up(bob, [message(4)]))
    assert rest.count(b"* 1 here: bob") == 1
    assert fanout.behind_count == 0


def test_a_member_that_was_behind_gets_an_answer_to_each_who() -> None:
    """A member whose connection was full gets an answer to each /who that it sends later."""

    async def part() -> None:
        room = new_room()
        bob, receiver = participant(), FakeReceiver()
        room.join(bob, receiver)
        await batch_ends(room)
        for _ in range(3):
            receiver.paused = True
            room.flow_changed(bob)
            room.flush()
            room.receive(bob, "/who")
            await batch_ends(room)
            assert receiver.lines == []
            receiver.paused = False
            room.flow_changed(bob)
            room.flush()
            assert receiver.lines == ["* 1 here: anonymous"]
            room.receive(bob, "/who")
            await batch_ends(room)
            assert receiver.lines == ["* 1 here: anonymous"] * 2
            receiver.lines.clear()

    asyncio.run(part())


def test_nothing_is_kept_of_a_batch_that_ended() -> None:
    """After a batch, all that is kept is who is catching up, and what is not in the log for it."""
    fanout = Fanout()
    fast, slow = participant(), participant()
    for each in (fast, slow):
        fanout.subscribe(each, 0, WELCOME)
    fanout.end_batch()
    for seq in range(1, 4):
        fanout.pause(slow)
        fanout.broadcast(message(seq))
        fanout.broadcast(Joined("carol", 3))
        fanout.send_to(fast, MEMBERS)
        fanout.send_to(fast, Pong("1"))
        fanout.send_to(slow, MEMBERS)
        fanout.end_batch()
        behind = {"_catching_up": 1, "_members_answered": 1}
        assert container_sizes(fanout) == container_sizes(Fanout()) | behind
        fanout.resume(slow)
        assert b"carol joined" in b"".join(fanout.catch_up(slow, [message(seq)]))
        fanout.end_batch()
        assert container_sizes(fanout) == container_sizes(Fanout())


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("state", ["new", "current", "paused"])
@pytest.mark.parametrize("after", [0, 1])
def test_nothing_is_kept_of_a_participant_that_was_removed(
    format: Format, state: str, after: int
) -> None:
    """A participant is forgotten at once, whether it is catching up, paused, or neither."""
    fanout = Fanout(1)
    new = container_sizes(fanout)
    for _ in range(2):
        leaver = participant(format)
        fanout.subscribe(leaver, after, WELCOME)
        if state != "new":
            fanout.end_batch()
        if state == "paused":
            fanout.pause(leaver)
        fanout.send_to(leaver, MEMBERS)
        fanout.remove(leaver)
        assert container_sizes(fanout) == new


# -- the room --


class FakeReceiver:
    """A receiver that records the lines it is sent, and whether it was closed."""

    encode = staticmethod(bytes)

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.closed = False
        self.lines: list[str] = []

    def start(self, at: Cursor) -> None:
        pass

    def write(self, frames: Iterable[bytes]) -> None:
        self.lines += [line for frame in frames for line in frame.decode().split("\n")]

    def close(self, code: int, reason: str) -> None:
        assert not self.closed
        self.closed = True


def new_room() -> LocalRoom:
    """Return a room with three messages."""
    room = LocalRoom("lobby", MessageLog(), 4096, lambda *_: None)
    for text in "abc":
        room.log.append("alice", text, "", None, "")
    return LocalRoom("lobby", room.log, 4096, lambda *_: None)


async def batch_ends(room: LocalRoom) -> None:
    """Wait until the current batch has ended."""
    ended = asyncio.Event()
    room.call_after_batch(ended.set)
    await run_within(ended.wait(), 10)


Leave = Callable[[LocalRoom, Participant, FakeReceiver], Awaitable[None]]


async def lose_connection(room: LocalRoom, who: Participant, receiver: FakeReceiver) -> None:
    """Have the connection of a participant lost."""
    room.leave(who)


async def kick(room: LocalRoom, who: Participant, receiver: FakeReceiver) -> None:
    """Have a participant closed for a reason."""
    room.kick(who, BINARY)
    assert receiver.closed
    room.leave(who)  # as its connection does when it is closed


async def fall_behind(room: LocalRoom, who: Participant, receiver: FakeReceiver) -> None:
    """Have more events wait for a participant than are allowed."""
    receiver.paused = True
    room.flow_changed(who)
    room.flush()
    for _ in range(MAX_WAITING_EVENTS + 1):
        room.send(None, Joined("x", 1))
    room.flush()
    assert receiver.closed
    room.leave(who)


async def stop(room: LocalRoom, who: Participant, receiver: FakeReceiver) -> None:
    """Have the server stop."""
    room.stop()
    assert receiver.closed
    room.leave(who)
    room.heartbeat()  # which forgets the renames of members


WAYS = [lose_connection, kick, fall_behind, stop]


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept_of_a_member_that_left(way: Leave, paused: bool) -> None:
    """However a member leaves the room, the room is afterwards as if it had never been there."""

    async def part() -> None:
        room = new_room()
        new = container_sizes(room, MessageLog, Metrics)
        for history in (0, 3):
            for number in range(3):
                join = JoinRequest(
                    name="bob", session=f"{number}" * 16, format=Format.JSON, history=history
                )
                leaver, receiver = Participant(join, join.session or ""), FakeReceiver()
                room.join(leaver, receiver)
                # A second bob takes a suffix, and a second carol another one.
                other = Participant(JoinRequest(name="bob", format=Format.JSON), "")
                room.join(other, FakeReceiver())
                receiver.paused = paused
                room.flow_changed(leaver)
                for each in (leaver, other):
                    room.receive(each, RENAME)
                    room.receive(each, '{"type":"members"}\n{"type":"say","text":"x"}')
                if number:  # not only in the batch in which it joined
                    await batch_ends(room)
                room.leave(other)
                await way(room, leaver, receiver)
                await batch_ends(room)
                assert container_sizes(room, MessageLog, Metrics) == new

    asyncio.run(part())


def test_nothing_is_kept_of_a_session_that_was_taken_over() -> None:
    """A connection that a newer one of its session replaced is forgotten by the next heartbeat."""

    async def part() -> None:
        room = new_room()
        new = container_sizes(room, MessageLog, Metrics)
        join = JoinRequest(name="bob", session="s" * 16, format=Format.JSON, history=3)
        for paused in (False, True, False):
            last = Participant(join, "s" * 16)
            room.join(last, FakeReceiver(paused=paused))
            room.flow_changed(last)
            room.receive(last, RENAME)
            room.receive(last, '{"type":"members"}')
        room.leave(last)
        room.heartbeat()
        await batch_ends(room)
        assert container_sizes(room, MessageLog, Metrics) == new

    asyncio.run(part())


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_kept_of_a_subscriber_that_left(way: Leave, poll: bool, paused: bool) -> None:
    """However a subscriber leaves, before or after it has caught up, the room forgets it."""

    async def part() -> None:
        room = new_room()
        new = container_sizes(room, MessageLog, Metrics)
        leaver = Participant(JoinRequest(format=Format.SSE, history=3), "")
        receiver = FakeReceiver(paused=paused or way is not lose_connection)
        room.subscribe(leaver, receiver, poll=poll)
        room.flow_changed(leaver)
        if way is not stop:  # else it leaves in the batch in which it came
            for _ in range(2):  # it is closed once
                await batch_ends(room)
                assert receiver.closed is (poll and not receiver.paused)
        await way(room, leaver, receiver)
        await batch_ends(room)
        assert container_sizes(room, MessageLog, Metrics) == new

    asyncio.run(part())


def test_a_log_keeps_no_id_of_a_message_that_it_dropped() -> None:
    """The ids that a log knows are those of the messages that it keeps."""
    log = MessageLog(5)
    for number in range(20):
        log.append("bob", "x", "", f"{number}", "s")
        assert set(container_sizes(log).values()) == {min(number + 1, 5)}
    assert log.seq_of("s", "14") is None
    assert log.seq_of("s", "15") == 16
