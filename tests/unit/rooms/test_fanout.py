"""The fan-out: a batch is encoded once, and everyone still sees the same order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast_server.protocol.bounds import MAX_FRAME_BYTES, MAX_TEXT_BYTES
from broadcast_server.protocol.codec import encode_json, encode_sse, encode_text
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import (
    Error,
    Event,
    Format,
    Heartbeat,
    Joined,
    Left,
    LogEntry,
    Members,
    Message,
    MessageHidden,
    Pong,
    Welcome,
)
from broadcast_server.rooms.batch import MIN_TOGETHER, encode_texts
from broadcast_server.rooms.fanout import (
    MAX_BATCH_CHARS,
    MAX_BATCH_EVENTS,
    MAX_WAITING_EVENTS,
    Fanout,
)
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.payloads import MAX_SERVER_FRAME_CHARS

WELCOME = Welcome("lobby", "bob", "e", 0, True, 0, 1, ("bob",))


def make_participant(format: Format = Format.JSON) -> Participant:
    """Return a new participant."""
    return Participant(JoinRequest(format=format), "")


def message(seq: int, text: str = "x") -> Message:
    """Return a message."""
    return Message(seq, "bob", text, "")


def test_one_payload_for_everyone() -> None:
    """All members with the same format get the same payload, with all lines of the batch."""
    fanout = Fanout()
    members = [make_participant() for _ in range(3)]
    for member in members:
        fanout.subscribe(member, 0, WELCOME)
    fanout.end_batch()
    fanout.broadcast(message(1))
    fanout.broadcast(message(2))
    batch = fanout.end_batch()
    assert not batch.private
    (payload,) = batch.common(Format.JSON)
    assert payload.decode().split("\n") == [encode_json(message(1)), encode_json(message(2))]
    assert batch.common(Format.JSON) is batch.common(Format.JSON)
    assert batch.common(Format.TEXT) == [b"bob: x\nbob: x"]


def test_a_batch_without_lines() -> None:
    """A batch that has no line in a format has no payload for it, instead of an empty one."""
    fanout = Fanout()
    text = make_participant(Format.TEXT)
    fanout.subscribe(text, 0, WELCOME)
    fanout.broadcast(Heartbeat(0))
    batch = fanout.end_batch()
    assert batch.common(Format.TEXT) == [] and batch.private == {text: []}
    assert len(batch.common(Format.JSON)) == 1
    assert not fanout.end_batch()


def test_many_connections_are_lost_in_one_batch() -> None:
    """Unsent events of lost connections are not encoded: losing 3,000 at once takes no time."""
    fanout = Fanout()
    members = [make_participant() for _ in range(3000)]
    for member in members:
        fanout.subscribe(member, 0, WELCOME)
    fanout.end_batch()
    begin = time.process_time()
    for member in members:
        fanout.remove(member)
        fanout.broadcast(Left("bob", 1))
    assert time.process_time() - begin < 1  # 5 s if everything were encoded for each


def test_many_members_resume_in_one_batch() -> None:
    """Members that resume in one batch are told of the joins after their own, and of no others."""
    fanout = Fanout(1)
    members = [make_participant(), make_participant(Format.TEXT), make_participant()]
    for number, member in enumerate(members):
        fanout.broadcast(Joined(f"{number}", number))
        fanout.subscribe(member, 0, WELCOME)
    fanout.end_batch()
    received = [b"".join(fanout.catch_up(member, [message(1)])).decode() for member in members]
    later = [encode_json(Joined(f"{number}", number)) for number in range(3)]
    assert received[0].split("\n") == [encode_json(WELCOME), encode_json(message(1)), *later[1:]]
    assert received[1].split("\n") == ["bob: x", "2 joined the chat"]
    assert received[2].split("\n") == [encode_json(WELCOME), encode_json(message(1))]


def test_a_join_in_the_middle_of_a_batch() -> None:
    """A member that joins in the middle of a batch gets its welcome and what came after."""
    fanout = Fanout()
    old, new = make_participant(), make_participant()
    fanout.subscribe(old, 0, WELCOME)
    fanout.end_batch()
    fanout.broadcast(message(1))
    fanout.subscribe(new, 1, WELCOME)
    fanout.broadcast(message(2))
    batch = fanout.end_batch()
    assert batch.private == {new: [f"{encode_json(WELCOME)}\n{encode_json(message(2))}".encode()]}


def test_a_private_event_keeps_its_place() -> None:
    """An event for one member comes between the events for everyone before and after it."""
    fanout = Fanout()
    bob = make_participant()
    fanout.subscribe(bob, 0, WELCOME)
    fanout.end_batch()
    fanout.broadcast(message(1))
    fanout.send_to(bob, Pong("p"))
    fanout.broadcast(message(2))
    (payload,) = fanout.end_batch().private[bob]
    assert payload.decode().split("\n") == [
        encode_json(message(1)),
        encode_json(Pong("p")),
        encode_json(message(2)),
    ]


@given(
    st.lists(st.sampled_from(["x", "", "a\u00e9", "two\nlines", "a\x1b[2Kb", "\u202e", "y" * 300])),
    st.sampled_from([Pong("p"), Joined("bob", 1, True), Joined("ann", 2), message(9), message(9)]),
)
def test_events_that_are_encoded_together_are_as_one_by_one(texts: list[str], last: Event) -> None:
    """Also if one of them is not plain, or not a message."""
    events: list[Event] = [*map(message, range(MIN_TOGETHER), ["x"] * MIN_TOGETHER)]
    events += [*map(message, range(len(texts)), texts), last]
    assert encode_texts(events) == list(map(encode_text, events))


def test_a_long_batch_is_several_payloads() -> None:
    """A payload is not much longer than its bound, and no line is split or lost."""
    fanout = Fanout()
    messages = [message(seq, "x" * 4000) for seq in range(1, 101)]
    for each in messages:
        fanout.broadcast(each)
    payloads = fanout.end_batch().common(Format.JSON)
    assert len(payloads) > 5
    assert max(map(len, payloads)) < MAX_SERVER_FRAME_CHARS + 5000
    assert b"\n".join(payloads).decode().split("\n") == [encode_json(each) for each in messages]


def test_a_paused_member_costs_no_memory() -> None:
    """The messages for a paused member wait in the log and nowhere else."""
    fanout = Fanout()
    slow = make_participant()
    fanout.subscribe(slow, 0, WELCOME)
    fanout.end_batch()
    fanout.pause(slow)
    for seq in range(1, 1001):
        fanout.broadcast(message(seq))
        assert fanout.end_batch().private == {slow: ()}
    assert fanout.ready_to_read() == []
    assert not fanout._catching_up[slow].waiting
    fanout.resume(slow)
    assert fanout.ready_to_read() == [(slow, 0)]


def test_a_member_removed_while_behind_gets_no_later_pong_or_heartbeat() -> None:
    """It would take a pong or heartbeat as proof that it has all messages before them."""
    fanout = Fanout(9)
    bob = make_participant()
    fanout.subscribe(bob, 3, WELCOME)
    fanout.send_to(bob, Pong("early"))
    fanout.broadcast(Heartbeat(9))
    fanout.broadcast(Left("carol", 1))
    fanout.send_to(bob, Error("stopping", "the server is stopping"))
    fanout.end_batch()
    fanout.pause(bob)
    lines = b"\n".join(fanout.remove(bob)).decode().split("\n")
    assert [json.loads(line)["type"] for line in lines] == ["welcome", "left", "error"]


def test_too_many_waiting_events() -> None:
    """A paused member is too far behind when too many events that are not in the log wait."""
    fanout = Fanout()
    slow = make_participant()
    fanout.subscribe(slow, 0, WELCOME)
    fanout.end_batch()
    fanout.pause(slow)
    for count in range(MAX_WAITING_EVENTS):
        fanout.broadcast(Joined("x", count))
    assert fanout.too_far_behind() == []
    fanout.broadcast(Joined("x", 0))
    assert fanout.too_far_behind() == [slow]


def test_a_batch_is_full() -> None:
    """A batch is full when it has very many events, or much text."""
    fanout = Fanout()
    for count in range(MAX_BATCH_EVENTS - 1):
        fanout.broadcast(Joined("x", count))
    assert not fanout.full
    fanout.broadcast(Joined("x", 0))
    assert fanout.full
    fanout.end_batch()
    fanout.broadcast(message(1, "x" * (MAX_BATCH_CHARS - 10)))
    assert not fanout.full
    fanout.broadcast(message(2))
    assert fanout.full


def test_a_batch_is_full_by_what_text_clients_get() -> None:
    """A message of many lines counts with the name in front of each line."""
    fanout = Fanout()
    fanout.broadcast(Message(1, "n" * 30, "\n\u2028" * 20_000, ""))
    assert fanout.full


def test_at_most_one_unsent_answer_to_who() -> None:
    """A member gets one answer to /who for each batch, and one for the time that it is behind."""
    fanout = Fanout()
    bob = make_participant(Format.TEXT)
    fanout.subscribe(bob, 0, WELCOME)
    fanout.end_batch()
    for _ in range(2):
        for _ in range(100):
            fanout.send_to(bob, Members(1, ("bob",)))
        assert fanout.end_batch().private[bob] == [b"* 1 here: bob"]
    fanout.pause(bob)
    for _ in range(100):
        fanout.send_to(bob, Members(1, ("bob",)))
        fanout.end_batch()
    fanout.resume(bob)
    assert fanout.catch_up(bob, []) == [b"* 1 here: bob"]


@pytest.mark.parametrize("format", [Format.JSON, Format.TEXT])
def test_no_payload_is_longer_than_a_frame(format: Format) -> None:
    """A frame is at most 1 MiB, even if the longest message follows the widest that fit before it.

    The other lines have 65,536 characters of four bytes, except for what JSON adds to them.
    """
    name, at, id = "\N{PARTY POPPER}" * 32, "2026-11-25T09:00:00.000Z", "\x01" * 64
    room_for_text = MAX_SERVER_FRAME_CHARS // 2 - len(encode_json(Message(1, name, "", at))) - 1
    fanout = Fanout()
    for seq in (1, 2):
        fanout.broadcast(Message(seq, name, "\N{PARTY POPPER}" * room_for_text, at))
    fanout.broadcast(Message(3, name, "\x01" * MAX_TEXT_BYTES, at, id))
    payloads = fanout.end_batch().common(format)
    assert max(map(len, payloads)) <= MAX_FRAME_BYTES


def test_a_message_of_many_lines_is_several_payloads() -> None:
    """A long message to a text client is split between its lines."""
    fanout = Fanout()
    fanout.broadcast(Message(1, "n" * 32, "\n" * 10_000, ""))
    payloads = fanout.end_batch().common(Format.TEXT)
    assert max(map(len, payloads)) < MAX_SERVER_FRAME_CHARS + 100
    assert b"\n".join(payloads).count(b"\n") == 9_999


def test_a_hidden_message_advances_the_position() -> None:
    """A message that was hidden before it was sent advances a position as the message would."""
    fanout = Fanout()
    slow = make_participant()
    fanout.subscribe(slow, 0, WELCOME)
    fanout.end_batch()
    fanout.pause(slow)
    fanout.broadcast(MessageHidden(1))
    fanout.broadcast(Joined("x", 2))
    fanout.end_batch()
    fanout.resume(slow)
    assert fanout.ready_to_read() == [(slow, 0)]
    (payload,) = fanout.catch_up(slow, [MessageHidden(1)])
    assert payload.decode().split("\n") == [
        encode_json(MessageHidden(1)),
        encode_json(Joined("x", 2)),
    ]
    assert fanout.ready_to_read() == []


def test_a_later_hiding_is_sent_in_its_place() -> None:
    """A member that is behind is told that a message was hidden after the messages before that."""
    fanout = Fanout()
    slow = make_participant()
    fanout.subscribe(slow, 0, WELCOME)
    fanout.end_batch()
    fanout.pause(slow)
    for each in (message(1), message(2), MessageHidden(1), message(3)):
        fanout.broadcast(each)
    fanout.end_batch()
    fanout.resume(slow)
    expected: list[LogEntry] = [message(1), message(2), MessageHidden(1), message(3)]
    (payload,) = fanout.catch_up(slow, [each for each in expected if type(each) is Message])
    assert payload.decode().split("\n") == [encode_json(each) for each in expected]


class Model:
    """A fan-out, and beside it a model that sends everyone every line at once."""

    def __init__(self) -> None:
        self.log = MessageLog()
        self.fanout = Fanout()
        self.received: dict[Participant, list[str]] = {}
        self.expected: dict[Participant, list[str]] = {}
        self.paused: set[Participant] = set()
        self.finished: list[tuple[list[str], list[str]]] = []
        self.pong_count = 0

    def subscribe(self, behind: int) -> None:
        """Someone joins with a cursor, *behind* messages before the head."""
        participant = make_participant()
        after = max(0, self.log.head - behind)
        self.fanout.subscribe(participant, after, WELCOME)
        self.received[participant] = []
        replay = [encode_json(each) for each in self.log.read_after(after, 10_000)]
        self.expected[participant] = [encode_json(WELCOME), *replay]

    def broadcast(self, event: Event) -> None:
        """An event is sent to everyone."""
        self.fanout.broadcast(event)
        for lines in self.expected.values():
            lines.append(encode_json(event))

    def publish(self) -> None:
        """A message is published."""
        self.broadcast(self.log.append("bob", "x", "", None, ""))

    def send_to(self, participant: Participant) -> None:
        """An event is sent to one participant."""
        self.pong_count += 1
        event = Pong(str(self.pong_count))
        self.fanout.send_to(participant, event)
        self.expected[participant].append(encode_json(event))

    def remove(self, participant: Participant) -> None:
        """Someone leaves, and gets what is unsent: everything, if it was not behind."""
        behind = participant in self.fanout._catching_up
        self.receive(participant, self.fanout.remove(participant))
        self.paused.discard(participant)
        lines = self.received.pop(participant), self.expected.pop(participant)
        if not behind:
            self.finished.append(lines)

    def receive(self, participant: Participant, payloads: Iterable[bytes]) -> None:
        """Someone receives payloads."""
        for payload in payloads:
            assert payload
            self.received[participant] += payload.decode().split("\n")

    def end_batch(self, paused: set[Participant]) -> None:
        """The batch ends. The connections of *paused* are full until the next one does."""
        batch = self.fanout.end_batch()
        for participant in self.received:
            private = batch.private.get(participant)
            self.receive(participant, batch.common(Format.JSON) if private is None else private)
        for participant in paused - self.paused:
            self.fanout.pause(participant)
        for participant in self.paused - paused:
            self.fanout.resume(participant)
        self.paused = set(paused)
        for participant, seq in self.fanout.ready_to_read():
            entries = self.log.read_after(seq, 3)
            self.receive(participant, self.fanout.catch_up(participant, entries))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_everyone_sees_one_order(data: st.DataObject) -> None:
    """Whoever joins, is paused, is behind or leaves: each gets what the model would send it."""
    model = Model()
    for _ in range(data.draw(st.integers(0, 40))):
        participants = sorted(model.received, key=id)
        step = data.draw(
            st.sampled_from(
                ["subscribe", "publish", "publish", "joined", "send_to", "remove", "end_batch"]
            )
        )
        if step == "subscribe":
            model.subscribe(data.draw(st.integers(0, 8)))
        elif step == "publish":
            model.publish()
        elif step == "joined":
            model.broadcast(Joined("x", model.log.head))
        elif step == "end_batch":
            paused = data.draw(st.lists(st.sampled_from(participants))) if participants else []
            model.end_batch(set(paused))
        elif participants:
            participant = data.draw(st.sampled_from(participants))
            model.send_to(participant) if step == "send_to" else model.remove(participant)
    for _ in range(100):
        model.end_batch(set())
    still_here = [(lines, model.expected[each]) for each, lines in model.received.items()]
    for received, expected in [*model.finished, *still_here]:
        assert received == expected


def test_json_of_the_model_is_json() -> None:
    """The lines that these tests compare are complete JSON."""
    assert json.loads(encode_json(message(1)))["seq"] == 1


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("name", ["x", "x" * 32 * 1024])
def test_those_who_wait_for_the_same_get_the_same(format: Format, name: str) -> None:
    """The first and the second that catch up get each event that waited once, in its place."""
    fanout = Fanout(head=2, epoch="e")
    first, second = make_participant(format), make_participant(format)
    for participant in (first, second):
        fanout.subscribe(participant, 1, WELCOME)
        fanout.broadcast(Joined(name, 1))
    fanout.send_to(second, Error("x", "only for the second"))
    fanout.broadcast(Joined("last", 3))
    fanout.end_batch()
    message = Message(2, "a", "b", "now")
    encode = {Format.TEXT: encode_text, Format.JSON: encode_json}.get(
        format, lambda event: encode_sse(event, "e")
    )

    def lines(*events: Event) -> str:
        return "\n".join(line for line in map(encode, events) if line is not None)

    of_first: list[Event] = [WELCOME, message, Joined(name, 1), Joined(name, 1), Joined("last", 3)]
    of_second = [*of_first[:3], Error("x", "only for the second"), of_first[-1]]
    for participant, events in ((first, of_first), (second, of_second)):
        payloads = fanout.catch_up(participant, [message])
        assert b"\n".join(payloads).decode() == lines(*events)
    assert not fanout.behind_count
