"""What one client says, sees and is owed, across connections that break anywhere.

First play by play, then against a model of a server that does all that a server,
a network and a log may do.
"""

from __future__ import annotations

from collections import Counter, deque
from urllib.parse import parse_qsl

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broadcast_server.conversation import FRAME, WINDOW, Conversation, Gap
from broadcast_server.entry import Entry, parse_entry
from broadcast_server.protocol import (
    Cursor,
    Error,
    Event,
    Format,
    Head,
    Hidden,
    Joined,
    Message,
    Numbered,
    Ping,
    Pong,
    Rename,
    Renamed,
    Request,
    Say,
    Welcome,
    Who,
    json_line,
    parse_json,
)


def message(seq: int, id: str | None = None, text: str = "hi") -> Message:
    """Write what another said."""
    return Message(seq, "bob", text, "2026-11-24T13:00:00.123Z", id)


def welcome(seq: int, epoch: str = "e", missed: int | None = 0, name: str = "alice") -> Welcome:
    """Write a welcome; *missed* None is another log."""
    return Welcome("lobby", name, epoch, seq, missed == 0, missed, 1, (name,))


def hear(conversation: Conversation, *events: Event) -> list[Event]:
    """Let events come in one frame."""
    return conversation.received("\n".join(map(json_line, events)))


def sent(conversation: Conversation) -> list[Request | Error]:
    """Take all that the conversation sends, as the server reads it."""
    requests: list[Request | Error] = []
    while (frame := conversation.outgoing()) is not None:
        requests += parse_json(frame, 10**6)
    return requests


def asked(conversation: Conversation) -> Entry:
    """Read the query of the next connection, as the server does."""
    entry = parse_entry(conversation.query(), Format.JSON)
    assert isinstance(entry, Entry)
    return entry


def pong(conversation: Conversation) -> Pong:
    """Take the one request that follows a welcome, and return its answer."""
    (ping,) = sent(conversation)
    assert isinstance(ping, Ping)
    return Pong(ping.id)


def go_live(conversation: Conversation, first: Welcome, *replay: Event) -> list[Event]:
    """Play a connection's beginning, and return what the door gets to see."""
    shown = hear(conversation, first)
    return shown + hear(conversation, *replay, pong(conversation))


def live(seq: int = 41) -> Conversation:
    """Make a conversation that is live at message *seq*."""
    conversation = Conversation("alice", None)
    go_live(conversation, welcome(seq))
    return conversation


# -- what it asks for ---------------------------------------------------------


def test_a_newcomer_asks_for_what_it_was_told_to() -> None:
    """The first query has the name, room and history as given, a session, and no cursor."""
    entry = asked(Conversation("Zoë & co", "ops", 20))
    assert (entry.name, entry.room, entry.history, entry.since) == ("Zoë & co", "ops", 20, None)
    assert entry.session is not None


def test_what_was_not_given_is_not_asked_for() -> None:
    """Name and room that were not given are left to the server, or to the address's own query."""
    given = [key for key, _ in parse_qsl(Conversation(None, None).query())]
    assert given == ["session"]


def test_a_session_lasts_as_long_as_the_conversation() -> None:
    """All connections of a conversation have one session, and no two conversations share one."""
    one, other = Conversation(None, None), live()
    before = asked(other).session
    other.lost()
    assert asked(other).session == before != asked(one).session


def test_a_welcomed_client_comes_back_to_where_it_was() -> None:
    """From the welcome on, the next connection begins after what this one was sure to show."""
    conversation = Conversation("alice", None)
    hear(conversation, welcome(41))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 41)
    go_live(conversation, welcome(43), message(42), message(43))
    hear(conversation, message(44))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 44)


def test_a_history_that_was_cut_off_is_asked_for_again() -> None:
    """A newcomer that lost its replay gets it on the next connection, and all that came after."""
    conversation = Conversation("alice", None, history=10)
    hear(conversation, welcome(41))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 31)
    hear(conversation, welcome(99), message(32))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 32)


def test_a_history_longer_than_the_log_begins_at_its_start() -> None:
    """A newcomer's cursor is never before the first message."""
    conversation = Conversation("alice", None, history=10)
    hear(conversation, welcome(3))
    assert asked(conversation).since == Cursor("e", 0)


def test_a_replay_that_the_address_asked_for_is_shown() -> None:
    """A newcomer takes every message, however far back: its address may have asked for them."""
    conversation = Conversation("alice", None)
    shown = go_live(conversation, welcome(41), message(40), message(41))
    assert shown == [welcome(41), message(40), message(41)]


def test_the_name_is_the_one_that_the_room_gave() -> None:
    """We are who the welcome says, but ask for our own name again."""
    conversation = Conversation("alice", None)
    assert conversation.name == "alice"
    hear(conversation, welcome(0, name="alice-2"))
    assert conversation.name == "alice-2"
    assert asked(conversation).name == "alice"


# -- what it says -------------------------------------------------------------


def test_a_new_name_is_asked_for_until_it_is_answered() -> None:
    """Another name is asked for when that is possible, first of all, and once it has an answer."""
    conversation = Conversation("alice", "lobby")
    conversation.rename("alicia")
    conversation.say("hi")
    go_live(conversation, welcome(0))
    assert [*map(type, sent(conversation))] == [Rename, Say]
    conversation.lost()
    go_live(conversation, welcome(0))
    wish, _ = sent(conversation)
    assert isinstance(wish, Rename)
    assert hear(conversation, Renamed("bob", "carol"), Renamed("alice", "alicia-2"))
    assert conversation.name == asked(conversation).name == "alicia-2"
    conversation.lost()
    go_live(conversation, welcome(0, name="alicia-2"))
    assert [*map(type, sent(conversation))] == [Say]


def test_a_new_name_that_is_refused_is_not_asked_for_again() -> None:
    """What the room says against a name is its answer, and is shown."""
    conversation = live()
    conversation.rename("a:b")
    (wish,) = sent(conversation)
    assert isinstance(wish, Rename)
    refusal = Error("bad_name", "name contains a colon", wish.id)
    assert hear(conversation, refusal) == [refusal]
    conversation.lost()
    assert asked(conversation).name == "alice"
    go_live(conversation, welcome(41))
    assert sent(conversation) == []


def test_nothing_is_said_before_the_replay_is_over() -> None:
    """What is said early waits for the pong, then goes out in order."""
    conversation = Conversation("alice", None)
    conversation.say("one")
    assert sent(conversation) == []
    hear(conversation, welcome(0))
    conversation.say("two")
    answer = pong(conversation)
    conversation.say("three")
    assert sent(conversation) == []
    hear(conversation, answer)
    assert [each.text for each in sent(conversation) if isinstance(each, Say)] == [
        "one",
        "two",
        "three",
    ]


def test_an_echo_is_the_acknowledgement() -> None:
    """A message counts as unheard until it has come back, to the one who said it too."""
    conversation = live()
    conversation.say("hi")
    (say,) = sent(conversation)
    assert isinstance(say, Say)
    assert len(conversation) == 1
    assert hear(conversation, message(42, say.id)) == [message(42, say.id)]
    assert len(conversation) == 0


@pytest.mark.parametrize("id", [None, "", "x"])
def test_a_message_of_another_is_no_echo(id: str | None) -> None:
    """A message under any other id, and of the same text, leaves ours unheard."""
    conversation = live()
    conversation.say("hi")
    hear(conversation, message(42, id))
    assert len(conversation) == 1


def test_what_has_no_echo_is_said_again_under_its_id() -> None:
    """After a break, what the replay does not hold is said again, first, and nothing else is."""
    conversation = live()
    for text in "abc":
        conversation.say(text)
    a, b, c = sent(conversation)
    assert isinstance(a, Say)
    conversation.lost()
    conversation.say("d")
    hear(conversation, welcome(42))
    answer = pong(conversation)
    hear(conversation, message(42, a.id))
    assert sent(conversation) == []
    hear(conversation, answer)
    *again, d = sent(conversation)
    assert again == [b, c]
    assert isinstance(d, Say)
    assert d.text == "d"


def test_what_was_not_sent_yet_is_sent_once() -> None:
    """A message that still waited when the connection broke goes out once on the next."""
    conversation = live()
    conversation.say("hi")
    conversation.lost()
    go_live(conversation, welcome(41))
    assert len(sent(conversation)) == 1


def test_a_question_is_not_kept() -> None:
    """What is asked without a connection, or just before it broke, is not asked on the next."""
    conversation = live()
    conversation.ask(Who())
    assert sent(conversation) == [Who()]
    conversation.ask(Who())
    conversation.lost()
    conversation.ask(Who())
    go_live(conversation, welcome(41))
    assert sent(conversation) == []


def test_duplicate_is_as_good_as_an_echo() -> None:
    """The log has the message, which is all that we wanted, and nobody needs to be told."""
    conversation = live()
    conversation.say("hi")
    (say,) = sent(conversation)
    assert isinstance(say, Say)
    assert hear(conversation, Error("duplicate", "said before", say.id)) == []
    assert (len(conversation), conversation.refused) == (0, 0)


def test_a_refused_message_is_counted_and_not_said_again() -> None:
    """What the room would not take is shown, counted, and given up; another's error is not ours."""
    conversation = live()
    conversation.say("hi")
    (say,) = sent(conversation)
    assert isinstance(say, Say)
    errors: list[Event] = [Error("too_long", "too long", id) for id in (None, "x", say.id)]
    assert hear(conversation, *errors) == errors
    assert (len(conversation), conversation.refused) == (0, 1)
    conversation.lost()
    go_live(conversation, welcome(41))
    assert sent(conversation) == []


def test_a_full_window_opens_with_an_echo() -> None:
    """With so many messages unheard it is full, and with one fewer it is not."""
    conversation = live(0)
    for _ in range(WINDOW):
        assert not conversation.full
        conversation.say("hi")
    assert conversation.full
    first = sent(conversation)[0]
    assert isinstance(first, Say)
    hear(conversation, message(1, first.id))
    assert not conversation.full


def test_a_frame_is_bounded() -> None:
    """Many lines go out in few frames, none of which grows by more than a line past the bound."""
    conversation = live()
    for _ in range(20):
        conversation.say("x" * 10_000)
    frames = []
    while (frame := conversation.outgoing()) is not None:
        frames.append(frame)
    assert sum(frame.count("\n") + 1 for frame in frames) == 20
    assert [len(frame) <= FRAME + 10_100 for frame in frames] == [True] * len(frames)
    assert len(frames) == 5


# -- what it sees -------------------------------------------------------------


def test_what_was_seen_is_not_shown_again() -> None:
    """A message that comes twice, in a replay or live, is dropped the second time."""
    conversation = live(41)
    hear(conversation, message(42))
    assert hear(conversation, message(42), message(43), message(43)) == [message(43)]
    conversation.lost()
    again = welcome(44)
    assert go_live(conversation, again, message(43), message(44)) == [again, message(44)]


def test_a_gap_in_the_live_stream_is_a_loss() -> None:
    """A number that was left out sends us back to where we were."""
    conversation = live(41)
    with pytest.raises(Gap):
        hear(conversation, message(43))
    assert asked(conversation).since == Cursor("e", 41)


def test_what_came_in_one_frame_with_a_gap_comes_again() -> None:
    """The part of a frame before a gap was not shown, so the cursor does not count it."""
    conversation = live(41)
    with pytest.raises(Gap):
        hear(conversation, message(42), message(44))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 41)
    again = welcome(44)
    replay = message(42), message(43), message(44)
    assert go_live(conversation, again, *replay) == [again, *replay]


def test_a_gap_in_the_replay_is_no_loss() -> None:
    """A replay may begin after the cursor, as the welcome said."""
    conversation = live(41)
    conversation.lost()
    late = welcome(52, missed=8)
    assert go_live(conversation, late, message(50), message(52)) == [late, message(50), message(52)]
    assert hear(conversation, message(53)) == [message(53)]


@pytest.mark.parametrize("seq", [0, 40, 41])
def test_a_head_that_we_have_seen_is_proof_of_life(seq: int) -> None:
    """A head that is not beyond us says that nothing is missing."""
    assert hear(live(41), Head(seq)) == [Head(seq)]


def test_a_head_beyond_us_is_a_loss() -> None:
    """The last message of a quiet room did not come, which only its number tells."""
    with pytest.raises(Gap):
        hear(live(41), Head(42))


def test_a_head_during_the_replay_says_nothing() -> None:
    """Before the pong the messages up to the head are still on their way."""
    conversation = live(41)
    conversation.lost()
    hear(conversation, welcome(43), Head(43))
    assert hear(conversation, message(42), message(43), pong(conversation)) == [
        message(42),
        message(43),
    ]


def test_the_live_stream_follows_an_empty_replay() -> None:
    """Where the log holds nothing of the past, the pong brings us to its head."""
    conversation = Conversation("alice", None, history=10)
    go_live(conversation, welcome(41))
    assert hear(conversation, message(42)) == [message(42)]


def test_what_is_about_others_is_shown_as_it_is() -> None:
    """Who comes, and errors, have no number and are all new."""
    events: list[Event] = [
        Joined("bob", 2),
        Joined("bob", 2),
        Error("bad_json", "line is not JSON"),
    ]
    assert hear(live(), *events) == events


# -- what a log may do --------------------------------------------------------


def test_looking_back() -> None:
    """Messages that were seen are shown again, once, and only what was not seen is missing."""
    conversation = live(41)
    conversation.look_back(10)
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 31)
    # The log begins at 36, and 42 is new.
    shown = go_live(conversation, welcome(42, missed=4), *map(message, range(36, 43)))
    assert shown == [welcome(42), *map(message, range(36, 43))]
    assert not conversation.looking_back
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 42)
    assert go_live(conversation, welcome(42), message(42)) == [welcome(42)]


def test_looking_back_into_what_was_lost() -> None:
    """If the log has left us behind meanwhile, that is told; and another log is another log."""
    conversation = live(41)
    conversation.look_back(10)
    conversation.lost()
    asked(conversation)
    shown = go_live(conversation, welcome(50, missed=14), *map(message, range(46, 51)))
    assert shown[0] == welcome(50, missed=4)
    assert shown[1:] == [*map(message, range(46, 51))]
    conversation.look_back(10)
    conversation.lost()
    asked(conversation)
    shown = go_live(conversation, welcome(1, epoch="f", missed=None), message(1))
    assert shown == [welcome(1, epoch="f", missed=None), message(1)]


def test_a_look_back_that_breaks_off() -> None:
    """It is not begun again by itself, and nothing is lost by it."""
    conversation = live(41)
    conversation.look_back(10)
    conversation.lost()
    asked(conversation)
    assert hear(conversation, welcome(42, missed=4), message(36)) == [welcome(42), message(36)]
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 41)
    assert go_live(conversation, welcome(42), message(42)) == [welcome(42), message(42)]


def test_another_room() -> None:
    """A conversation elsewhere is another one, of the same name."""
    conversation = live()
    other = conversation.elsewhere("ops")
    assert (asked(other).name, asked(other).room) == ("alice", "ops")
    assert asked(other).session != asked(conversation).session
    assert asked(other).since is None


def test_another_log_begins_at_its_beginning() -> None:
    """After a restart low numbers are new, and a cut at once loses none of them."""
    conversation = live(41)
    conversation.lost()
    hear(conversation, welcome(5, epoch="f", missed=None))
    conversation.lost()
    assert asked(conversation).since == Cursor("f", 0)
    again = welcome(6, epoch="f")
    replay = [message(seq) for seq in range(1, 7)]
    assert go_live(conversation, again, *replay) == [again, *replay]


def test_a_log_that_was_set_back_is_another_one() -> None:
    """If our cursor is beyond the log's end, as after a restored backup, its numbers are new."""
    conversation = live(41)
    conversation.lost()
    conversation.say("hi")
    back = welcome(2, missed=None)
    assert go_live(conversation, back, message(1), message(2)) == [back, message(1), message(2)]
    (say,) = sent(conversation)
    assert isinstance(say, Say)
    assert hear(conversation, message(3, say.id)) == [message(3, say.id)]
    assert len(conversation) == 0


def test_what_is_missing_is_counted_once() -> None:
    """A cut after a welcome that named a loss does not have it named again."""
    conversation = live(41)
    conversation.lost()
    hear(conversation, welcome(60, missed=8))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 49)


# -- what a moderator takes away ------------------------------------------------


def test_what_is_hidden_in_a_replay_leaves_no_gap() -> None:
    """In the place of a message, its being hidden counts for it, live and in a replay."""
    conversation = live(41)
    assert hear(conversation, Hidden(42), message(43)) == [Hidden(42), message(43)]
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 43)
    go_live(conversation, welcome(45), message(44), Hidden(45))
    assert hear(conversation, Head(45), message(46)) == [Head(45), message(46)]


def test_what_is_hidden_later_moves_nothing() -> None:
    """That a message seen before is hidden is shown, and is no gap."""
    conversation = live(41)
    hear(conversation, message(42), message(43))
    assert hear(conversation, Hidden(42), message(44)) == [Hidden(42), message(44)]


def test_hiding_an_earlier_message_before_the_pong_moves_no_cursor() -> None:
    """A new client whose replay is not over keeps its cursor when an earlier message is hidden."""
    conversation = Conversation("alice", None)
    conversation.query()
    hear(conversation, welcome(41), Hidden(12))
    conversation.lost()
    assert asked(conversation).since == Cursor("e", 41)


def test_a_gap_before_what_is_hidden_is_a_gap() -> None:
    """Numbers have no gaps, also where what is under them was hidden."""
    with pytest.raises(Gap):
        hear(live(41), Hidden(43))


def test_what_was_hidden_before_its_echo_is_not_said_again() -> None:
    """A message of ours that a moderator took away at once has come back as that."""
    conversation = live(41)
    conversation.say("oh no")
    (say,) = sent(conversation)
    assert isinstance(say, Say)
    hear(conversation, Hidden(42, say.id))
    assert len(conversation) == 0


# -- what is no broadcast server ----------------------------------------------


@pytest.mark.parametrize("event", [message(1), Pong("")])
def test_nothing_comes_before_the_welcome(event: Event) -> None:
    """A server that does not begin with a welcome, on any connection, is none of ours."""
    conversation = Conversation("alice", None)
    with pytest.raises(ValueError, match="came before welcome"):
        hear(conversation, event)
    again = live()
    again.lost()
    with pytest.raises(ValueError, match="came before welcome"):
        hear(again, message(42))


def test_a_second_pong_says_nothing_again() -> None:
    """Only the first answer to our ping ends the replay."""
    conversation = Conversation("alice", None)
    conversation.say("hi")
    hear(conversation, welcome(0))
    answer = pong(conversation)
    hear(conversation, answer, answer)
    assert len(sent(conversation)) == 1


def test_what_cannot_be_read_is_a_value_error() -> None:
    """A line that is no event ends the conversation with this server."""
    with pytest.raises(ValueError, match="Expecting value"):
        live().received("hello")


# -- the model ----------------------------------------------------------------


class Wire:
    """One connection: what is on its way in both directions, and what its reader is owed."""

    def __init__(self, session: str, after: int) -> None:
        self.session = session
        self.after = after  # the server's promise: every message with a higher number
        self.read = after  # what the server has written of it
        self.owed: deque[tuple[int, Event]] = deque()  # each to follow that message
        self.up: deque[str] = deque()
        self.down: deque[str] = deque()


class Server:
    """A room with a log that may forget, as small as it can be."""

    def __init__(self, number: int) -> None:
        self.epoch = f"epoch-{number}"
        self.all: list[Numbered] = []  # even what the log has forgotten
        self.said: set[str] = set()
        self.first = 1
        self.kept: dict[tuple[str, str], int] = {}

    @property
    def head(self) -> int:
        return len(self.all)

    def enter(self, query: str) -> Wire:
        entry = parse_entry(query, Format.JSON)
        assert isinstance(entry, Entry)
        missed: int | None = 0
        if entry.since is None:
            after = max(self.first - 1, self.head - entry.history)
        elif entry.since.epoch != self.epoch or entry.since.seq > self.head:
            after, missed = self.first - 1, None
        else:
            after = max(entry.since.seq, self.first - 1)
            missed = after - entry.since.seq
        wire = Wire(entry.session or "", after)
        wire.owed.append((after, welcome(self.head, self.epoch, missed)))
        return wire

    def append(self, text: str, session: str, id: str | None) -> None:
        self.all.append(message(self.head + 1, id, text))
        self.said.add(text)
        if id is not None:
            self.kept[session, id] = self.head

    def take(self, wire: Wire) -> None:
        for request in parse_json(wire.up.popleft(), 4096):
            match request:
                case Ping(id=id):
                    wire.owed.append((self.head, Pong(id)))
                case Say(text=text, id=str() as id):
                    seq = self.kept.get((wire.session, id))
                    if seq is None:
                        self.append(text, wire.session, id)
                    elif seq <= wire.after:
                        wire.owed.append((self.head, Error("duplicate", "said before", id)))

    def write(self, wire: Wire, most: int) -> bool:
        """Send up to *most* events; False if the log no longer has what this reader needs."""
        lines: list[str] = []
        while len(lines) < most:
            if wire.owed and wire.owed[0][0] <= wire.read:
                lines.append(json_line(wire.owed.popleft()[1]))
            elif wire.read == self.head:
                break
            elif wire.read + 1 < self.first:
                return False
            else:
                lines.append(json_line(self.all[wire.read]))
                wire.read += 1
        if lines:
            wire.down.append("\n".join(lines))
        return True

    def forget(self, most: int) -> None:
        self.first = min(self.first + most, self.head + 1)
        self.kept = {key: seq for key, seq in self.kept.items() if seq >= self.first}


class BrokenConnections(RuleBasedStateMachine):
    """A client and a server, between whom everything happens that can."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = [Server(0)]
        self.wire: Wire | None = None
        self.told: list[str] = []
        self.shown: dict[str, list[int]] = {}
        self.missed: Counter[str] = Counter()
        self.begun: dict[str, int] = {}  # by epoch, after which number we are owed all
        self.floor: dict[str, int] = {}  # by epoch, after which number a loss may be named
        self.history = 0
        self.conversation = Conversation("alice", None)

    @initialize(history=st.sampled_from((0, 3)))
    def begin(self, history: int) -> None:
        self.history = history
        self.conversation = Conversation("alice", None, history)

    @property
    def server(self) -> Server:
        return self.servers[-1]

    @rule()
    def say(self) -> None:
        self.told.append(f"text {len(self.told)}")
        self.conversation.say(self.told[-1])

    @rule(count=st.integers(1, 5))
    def others_speak(self, count: int) -> None:
        for _ in range(count):
            self.server.append("other", "another's", None)

    @rule(count=st.integers(1, 8))
    def forget(self, count: int) -> None:
        self.server.forget(count)

    @rule(seq=st.integers(1, 8))
    def hide(self, seq: int) -> None:
        """A moderator takes a message away, which its readers are told."""
        if seq <= self.server.head:
            hidden = Hidden(seq, self.server.all[seq - 1].id)
            self.server.all[seq - 1] = hidden
            if self.wire is not None:
                self.wire.owed.append((self.server.head, hidden))

    @precondition(lambda self: self.wire is not None)
    @rule()
    def head(self) -> None:
        assert self.wire is not None
        self.wire.owed.append((self.server.head, Head(self.server.head)))

    @rule(
        sent=st.integers(0, 1),
        taken=st.integers(0, 2),
        written=st.integers(0, 6),
        read=st.integers(0, 2),
        end=st.sampled_from(("go on", "go on", "cut", "restart")),
    )
    def talk(self, sent: int, taken: int, written: int, read: int, end: str) -> None:
        """Let so many frames be sent and taken, so many events be written, and frames be read."""
        if self.wire is None:
            self.wire = self.server.enter(self.conversation.query())
        wire = self.wire
        for _ in range(sent):
            if (frame := self.conversation.outgoing()) is not None:
                wire.up.append(frame)
        for _ in range(min(taken, len(wire.up))):
            self.server.take(wire)
        kept_up = self.server.write(wire, written)
        for _ in range(min(read, len(wire.down))):
            self.see(self.conversation.received(wire.down.popleft()), wire)
        if end != "go on" or not kept_up:
            self.wire = None
            self.conversation.lost()
        if end == "restart":
            self.servers.append(Server(len(self.servers)))

    def see(self, events: list[Event], wire: Wire) -> None:
        epoch = self.server.epoch
        for event in events:
            match event:
                case Message(seq=seq) | Hidden(seq=seq):
                    shown = self.shown.setdefault(epoch, [])
                    if isinstance(event, Message) or seq > max(shown, default=wire.after):
                        shown.append(seq)
                case Welcome(seq=seq, missed=missed):
                    floor = 0 if self.floor else max(0, seq - self.history)
                    self.floor.setdefault(epoch, floor)
                    self.begun.setdefault(epoch, wire.after)
                    self.missed[epoch] += missed or 0

    @invariant()
    def what_is_shown_is_in_order_and_without_doubles(self) -> None:
        for seqs in self.shown.values():
            assert seqs == sorted(set(seqs))

    @invariant()
    def the_log_holds_nothing_twice(self) -> None:
        for server in self.servers:
            held = [each.id for each in server.all[server.first - 1 :] if each.id is not None]
            assert len(held) == len(set(held))

    def teardown(self) -> None:
        """Let things calm down: all that was said must have arrived, and all be shown."""
        for _ in range(9):  # a connection that the log left behind, then one that lasts
            self.talk(9, 99, 10**6, 99, "go on")
        assert self.conversation.live
        assert len(self.conversation) == 0
        said = {text for server in self.servers for text in server.said}
        assert said.issuperset(self.told)
        server = self.server
        shown = self.shown.get(server.epoch, [])
        owed = {*range(self.begun[server.epoch] + 1, server.head + 1)}
        assert owed.difference(shown) <= {*range(1, server.first)}, "lost what the log still had"
        unseen = {*range(self.floor[server.epoch] + 1, server.head + 1)}.difference(shown)
        assert self.missed[server.epoch] <= len(unseen), "counted as missed twice"


BrokenConnections.TestCase.settings = settings(
    max_examples=100, stateful_step_count=20, deadline=None
)
TestBrokenConnections = BrokenConnections.TestCase
