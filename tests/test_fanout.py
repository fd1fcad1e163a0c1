"""The fan-out: one frame a turn, and everyone still sees one order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast_server.entry import Entry
from broadcast_server.fanout import EVENTS, FRAME, TEXT, WAITING, Fanout
from broadcast_server.history import Log
from broadcast_server.protocol import (
    Error,
    Event,
    Format,
    Head,
    Hidden,
    Joined,
    Left,
    Members,
    Message,
    Numbered,
    Pong,
    Welcome,
)
from broadcast_server.protocol import json_line as line
from broadcast_server.room import Peer

WELCOME = Welcome("lobby", "bob", "e", 0, True, 0, 1, ("bob",))


def peer(format: Format = Format.JSON) -> Peer:
    """Someone."""
    return Peer(Entry(format=format), "")


def message(seq: int, text: str = "x") -> Message:
    """Someone said something."""
    return Message(seq, "bob", text, "")


def test_one_frame_for_everyone() -> None:
    """All members of one format get the same payload, made once, with all of the turn's lines."""
    fanout = Fanout()
    members = [peer() for _ in range(3)]
    for each in members:
        fanout.enter(each, 0, WELCOME)
    fanout.turn()
    fanout.everyone(message(1))
    fanout.everyone(message(2))
    turn = fanout.turn()
    assert not turn.own
    (payload,) = turn.common(Format.JSON)
    assert payload.decode().split("\n") == [line(message(1)), line(message(2))]
    assert turn.common(Format.JSON) is turn.common(Format.JSON)
    assert turn.common(Format.TEXT) == [b"bob: x\nbob: x"]


def test_a_turn_of_nothing() -> None:
    """A turn with nothing for a format has no frame for it, and not an empty one."""
    fanout = Fanout()
    text = peer(Format.TEXT)
    fanout.enter(text, 0, WELCOME)
    fanout.everyone(Head(0))
    turn = fanout.turn()
    assert turn.common(Format.TEXT) == [] and turn.own == {text: []}
    assert len(turn.common(Format.JSON)) == 1
    assert not fanout.turn()


def test_all_are_cut_in_one_turn() -> None:
    """What those who are gone were owed is not written: 3,000 cut at once do not hold us up."""
    fanout = Fanout()
    members = [peer() for _ in range(3000)]
    for each in members:
        fanout.enter(each, 0, WELCOME)
    fanout.turn()
    begin = time.process_time()
    for each in members:
        fanout.leave(each)
        fanout.everyone(Left("bob", 1))
    assert time.process_time() - begin < 1  # 5 s if each had it all written


def test_all_come_back_in_one_turn() -> None:
    """Those who resume in one turn hear of those who came after them, and only of those."""
    fanout = Fanout(1)
    members = [peer(), peer(Format.TEXT), peer()]
    for number, each in enumerate(members):
        fanout.everyone(Joined(f"{number}", number))
        fanout.enter(each, 0, WELCOME)
    fanout.turn()
    got = [b"".join(fanout.feed(each, [message(1)])).decode() for each in members]
    later = [line(Joined(f"{number}", number)) for number in range(3)]
    assert got[0].split("\n") == [line(WELCOME), line(message(1)), *later[1:]]
    assert got[1].split("\n") == ["bob: x", "2 joined the chat"]
    assert got[2].split("\n") == [line(WELCOME), line(message(1))]


def test_a_newcomer_in_the_middle_of_a_turn() -> None:
    """Who comes in the middle of a turn gets what came after, behind its welcome."""
    fanout = Fanout()
    old, new = peer(), peer()
    fanout.enter(old, 0, WELCOME)
    fanout.turn()
    fanout.everyone(message(1))
    fanout.enter(new, 1, WELCOME)
    fanout.everyone(message(2))
    turn = fanout.turn()
    assert turn.own == {new: [f"{line(WELCOME)}\n{line(message(2))}".encode()]}


def test_what_is_for_one_keeps_its_place() -> None:
    """An event for one member comes between what came before and after it for all."""
    fanout = Fanout()
    bob = peer()
    fanout.enter(bob, 0, WELCOME)
    fanout.turn()
    fanout.everyone(message(1))
    fanout.only(bob, Pong("p"))
    fanout.everyone(message(2))
    (payload,) = fanout.turn().own[bob]
    assert payload.decode().split("\n") == [line(message(1)), line(Pong("p")), line(message(2))]


def test_long_turns_are_several_frames() -> None:
    """A frame is not much longer than its bound, and no line is cut or lost."""
    fanout = Fanout()
    long = [message(seq, "x" * 4000) for seq in range(1, 101)]
    for each in long:
        fanout.everyone(each)
    payloads = fanout.turn().common(Format.JSON)
    assert len(payloads) > 5
    assert max(map(len, payloads)) < FRAME + 5000
    assert b"\n".join(payloads).decode().split("\n") == [line(each) for each in long]


def test_a_stalled_member_costs_nothing() -> None:
    """A stalled member's messages wait in the log and nowhere else."""
    fanout = Fanout()
    slow = peer()
    fanout.enter(slow, 0, WELCOME)
    fanout.turn()
    fanout.stall(slow)
    for seq in range(1, 1001):
        fanout.everyone(message(seq))
        assert fanout.turn().own == {slow: []}
    assert fanout.hungry() == []
    assert not fanout._behind[slow].waiting
    fanout.ready(slow)
    assert fanout.hungry() == [(slow, 0)]


def test_who_leaves_behind_is_told_of_nothing_that_it_was_not_sent() -> None:
    """Who is cut in its replay gets no pong and no head from after it: it would believe them."""
    fanout = Fanout(9)
    bob = peer()
    fanout.enter(bob, 3, WELCOME)
    fanout.only(bob, Pong("early"))
    fanout.everyone(Head(9))
    fanout.everyone(Left("carol", 1))
    fanout.only(bob, Error("stopping", "the server is stopping"))
    fanout.turn()
    fanout.stall(bob)
    lines = b"\n".join(fanout.leave(bob)).decode().split("\n")
    assert [json.loads(each)["type"] for each in lines] == ["welcome", "left", "error"]


def test_too_much_that_is_not_in_the_log() -> None:
    """A stalled member for whom too many comings and goings wait is overdue."""
    fanout = Fanout()
    slow = peer()
    fanout.enter(slow, 0, WELCOME)
    fanout.turn()
    fanout.stall(slow)
    for count in range(WAITING):
        fanout.everyone(Joined("x", count))
    assert fanout.overdue() == []
    fanout.everyone(Joined("x", 0))
    assert fanout.overdue() == [slow]


def test_a_turn_is_full() -> None:
    """A turn with very many events, or with much text, is to end early."""
    fanout = Fanout()
    for count in range(EVENTS - 1):
        fanout.everyone(Joined("x", count))
    assert not fanout.full
    fanout.everyone(Joined("x", 0))
    assert fanout.full
    fanout.turn()
    fanout.everyone(message(1, "x" * (TEXT - 10)))
    assert not fanout.full
    fanout.everyone(message(2))
    assert fanout.full


def test_a_turn_is_full_by_what_text_clients_get() -> None:
    """A message of many lines counts with the name that is in front of each of them."""
    fanout = Fanout()
    fanout.everyone(Message(1, "n" * 30, "\n\u2028" * 20_000, ""))
    assert fanout.full


def test_one_answer_to_who_is_owed_at_a_time() -> None:
    """Of the answers to /who in a turn, or while it is behind, a member gets one."""
    fanout = Fanout()
    bob = peer(Format.TEXT)
    fanout.enter(bob, 0, WELCOME)
    fanout.turn()
    for _ in range(2):
        for _ in range(100):
            fanout.only(bob, Members(1, ("bob",)))
        assert fanout.turn().own[bob] == [b"* 1 here: bob"]
    fanout.stall(bob)
    for _ in range(100):
        fanout.only(bob, Members(1, ("bob",)))
        fanout.turn()
    fanout.ready(bob)
    assert fanout.feed(bob, []) == [b"* 1 here: bob"]


def test_a_message_of_many_lines_is_several_frames() -> None:
    """What a text client gets of one message is cut between its lines, if it is much."""
    fanout = Fanout()
    fanout.everyone(Message(1, "n" * 32, "\n" * 10_000, ""))
    payloads = fanout.turn().common(Format.TEXT)
    assert max(map(len, payloads)) < FRAME + 100
    assert b"\n".join(payloads).count(b"\n") == 9_999


def test_what_is_hidden_stands_under_its_number() -> None:
    """A message that was taken away before it was told advances the stream as it would have."""
    fanout = Fanout()
    slow = peer()
    fanout.enter(slow, 0, WELCOME)
    fanout.turn()
    fanout.stall(slow)
    fanout.everyone(Hidden(1))
    fanout.everyone(Joined("x", 2))
    fanout.turn()
    fanout.ready(slow)
    assert fanout.hungry() == [(slow, 0)]
    (payload,) = fanout.feed(slow, [Hidden(1)])
    assert payload.decode().split("\n") == [line(Hidden(1)), line(Joined("x", 2))]
    assert fanout.hungry() == []


def test_what_is_hidden_later_is_told_in_its_place() -> None:
    """Who is behind is told that a message was taken away after what had come before that."""
    fanout = Fanout()
    slow = peer()
    fanout.enter(slow, 0, WELCOME)
    fanout.turn()
    fanout.stall(slow)
    for each in (message(1), message(2), Hidden(1), message(3)):
        fanout.everyone(each)
    fanout.turn()
    fanout.ready(slow)
    wanted: list[Numbered] = [message(1), message(2), Hidden(1), message(3)]
    (payload,) = fanout.feed(slow, [each for each in wanted if type(each) is Message])
    assert payload.decode().split("\n") == [line(each) for each in wanted]


class Model:
    """A fan-out beside an ideal that sends everyone every line at once."""

    def __init__(self) -> None:
        self.log = Log()
        self.fanout = Fanout()
        self.got: dict[Peer, list[str]] = {}
        self.wanted: dict[Peer, list[str]] = {}
        self.paused: set[Peer] = set()
        self.checked: list[tuple[list[str], list[str]]] = []
        self.count = 0

    def enter(self, behind: int) -> None:
        """Someone comes, with a cursor."""
        newcomer = peer()
        after = max(0, self.log.head - behind)
        self.fanout.enter(newcomer, after, WELCOME)
        self.got[newcomer] = []
        replay = [line(each) for each in self.log.after(after, 10_000)]
        self.wanted[newcomer] = [line(WELCOME), *replay]

    def everyone(self, event: Event) -> None:
        """Something is for everyone."""
        self.fanout.everyone(event)
        for lines in self.wanted.values():
            lines.append(line(event))

    def say(self) -> None:
        """Someone speaks."""
        self.everyone(self.log.append("bob", "x", "", None, ""))

    def only(self, who: Peer) -> None:
        """Something is for one."""
        self.count += 1
        event = Pong(str(self.count))
        self.fanout.only(who, event)
        self.wanted[who].append(line(event))

    def leave(self, who: Peer) -> None:
        """Someone goes, and gets what it is owed: all, if it was not behind."""
        behind = who in self.fanout._behind
        self.take(who, self.fanout.leave(who))
        self.paused.discard(who)
        got, wanted = self.got.pop(who), self.wanted.pop(who)
        if not behind:
            self.checked.append((got, wanted))

    def take(self, who: Peer, payloads: Iterable[bytes]) -> None:
        """Someone gets frames."""
        for payload in payloads:
            assert payload
            self.got[who] += payload.decode().split("\n")

    def turn(self, pauses: set[Peer]) -> None:
        """The turn ends; the sockets of *pauses* are full until the next."""
        turn = self.fanout.turn()
        for who in self.got:
            self.take(who, turn.own[who] if who in turn.own else turn.common(Format.JSON))
        for who in pauses - self.paused:
            self.fanout.stall(who)
        for who in self.paused - pauses:
            self.fanout.ready(who)
        self.paused = set(pauses)
        for who, seq in self.fanout.hungry():
            self.take(who, self.fanout.feed(who, self.log.after(seq, 3)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_everyone_sees_one_order(data: st.DataObject) -> None:
    """Whoever comes, stalls, is behind or goes: each gets what an ideal room would send it."""
    model = Model()
    for _ in range(data.draw(st.integers(0, 40))):
        members = sorted(model.got, key=id)
        step = data.draw(
            st.sampled_from(["enter", "say", "say", "joined", "only", "leave", "turn"])
        )
        if step == "enter":
            model.enter(data.draw(st.integers(0, 8)))
        elif step == "say":
            model.say()
        elif step == "joined":
            model.everyone(Joined("x", model.log.head))
        elif step == "turn":
            model.turn(set(data.draw(st.lists(st.sampled_from(members)))) if members else set())
        elif members:
            who = data.draw(st.sampled_from(members))
            model.only(who) if step == "only" else model.leave(who)
    for _ in range(100):
        model.turn(set())
    for got, wanted in [
        *model.checked,
        *((model.got[who], model.wanted[who]) for who in model.got),
    ]:
        assert got == wanted


def test_json_of_the_model_is_json() -> None:
    """The lines that these tests compare are whole lines of JSON."""
    assert json.loads(line(message(1)))["seq"] == 1
