"""The client session: what one client publishes and receives, across connections that break.

First single scenarios, then a model of a server that does everything that a server, a network and
a log may do.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broadcast_server.client.outbox import MAX_UNCONFIRMED, MAX_UNCONFIRMED_CHARS
from broadcast_server.client.session import MAX_CLIENT_FRAME_CHARS, ClientSession, GapError
from broadcast_server.protocol.codec import decode_json, encode_json
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import (
    Cursor,
    Error,
    Event,
    Format,
    Heartbeat,
    Joined,
    LogEntry,
    MembersRequest,
    Message,
    MessageHidden,
    PingRequest,
    Pong,
    Renamed,
    RenameRequest,
    Request,
    SayRequest,
    Welcome,
)
from broadcast_server.protocol.session_key import SessionKey

KEY = SessionKey(b"key")


def message(seq: int, id: str | None = None, text: str = "hi") -> Message:
    """Return a message of another member."""
    return Message(seq, "bob", text, "2026-11-24T13:00:00.123Z", id)


def welcome(seq: int, epoch: str = "e", missed: int | None = 0, name: str = "alice") -> Welcome:
    """Return a welcome; *missed* is None if the log is another one than the cursor's."""
    return Welcome("lobby", name, epoch, seq, missed == 0, missed, 1, (name,))


def receive(session: ClientSession, *events: Event) -> list[Event]:
    """Pass *events* to the session in one frame, and return the events that it shows."""
    return session.receive("\n".join(map(encode_json, events)))


def sent(session: ClientSession) -> list[Request | Error]:
    """Return all requests that the session sends, as the server reads them."""
    requests: list[Request | Error] = []
    while (frame := session.outgoing()) is not None:
        requests += decode_json(frame, 10**6)
    return requests


def next_join(session: ClientSession) -> JoinRequest:
    """Return the query of the next connection, as the server reads it."""
    join = parse_join(session.query(), Format.JSON, KEY, headers=[*session.headers.values()])
    assert isinstance(join, JoinRequest)
    return join


def pong(session: ClientSession) -> Pong:
    """Take the ping that follows a welcome, and return its pong."""
    (ping,) = sent(session)
    assert isinstance(ping, PingRequest)
    return Pong(ping.id)


def go_live(session: ClientSession, first: Welcome, *replay: Event) -> list[Event]:
    """Begin a connection with a welcome and a replay, and return the events that are shown."""
    shown = receive(session, first)
    return shown + receive(session, *replay, pong(session))


def live(seq: int = 41) -> ClientSession:
    """Return a session that is live after message *seq*."""
    session = ClientSession("alice", None)
    go_live(session, welcome(seq))
    return session


# -- the query of a connection ------------------------------------------------


def test_the_first_query() -> None:
    """The first query has the name, room and history as given, a session id, and no cursor."""
    join = next_join(ClientSession("Zoë & co", "ops", 20))
    assert (join.name, join.room, join.history, join.since) == ("Zoë & co", "ops", 20, None)
    assert join.session is not None


def test_a_name_and_room_that_are_not_given_are_not_sent() -> None:
    """Without a name or a room, the server's default or the query of the address applies."""
    assert ClientSession(None, None).query() == ""


def test_all_connections_have_the_same_session_id() -> None:
    """All connections of a session have one session id, and another session has another one."""
    one, other = ClientSession(None, None), live()
    before = next_join(other).session
    other.connection_lost()
    assert next_join(other).session == before != next_join(one).session


def test_a_client_that_reconnects_continues_where_it_was() -> None:
    """From the welcome on, the next connection begins after what was received for certain."""
    session = ClientSession("alice", None)
    receive(session, welcome(41))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 41)
    go_live(session, welcome(43), message(42), message(43))
    receive(session, message(44))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 44)


def test_a_history_that_broke_off_is_requested_again() -> None:
    """If the first replay breaks off, the next connection asks for the rest of it."""
    session = ClientSession("alice", None, history=10)
    receive(session, welcome(41))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 31)
    receive(session, welcome(99), message(32))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 32)


def test_a_history_longer_than_the_log_begins_at_its_start() -> None:
    """The cursor after the first welcome is never before the first message."""
    session = ClientSession("alice", None, history=10)
    receive(session, welcome(3))
    assert next_join(session).since == Cursor("e", 0)


def test_a_replay_that_the_address_requested_is_shown() -> None:
    """A new session shows every replayed message: the query of its address may request some."""
    session = ClientSession("alice", None)
    shown = go_live(session, welcome(41), message(40), message(41))
    assert shown == [welcome(41), message(40), message(41)]


def test_the_name_is_the_one_in_the_welcome() -> None:
    """The name is the one in the welcome, and the next connection asks for it."""
    session = ClientSession("alice", None)
    assert session.name == "alice"
    receive(session, welcome(0, name="alice-2"))
    session.connection_lost()
    assert session.name == next_join(session).name == "alice-2"
    receive(session, welcome(0, name="alice-3"))
    session.connection_lost()
    assert session.name == next_join(session).name == "alice-3"


def test_another_room_is_asked_for_the_name_that_the_user_chose() -> None:
    """The number that one room gave is not asked for in another, but is in that one again."""
    session = ClientSession("alice", None)
    go_live(session, welcome(0, name="alice-2"))
    other = session.in_room("ops")
    assert next_join(other).name == "alice"
    session.adopt_name(other)
    assert next_join(session).name == "alice-2"
    receive(other, welcome(0), Renamed("alice", "bob"))
    session.adopt_name(other)
    assert next_join(session).name == "bob"


# -- requests -----------------------------------------------------------------


def test_a_rename_is_repeated_until_it_has_a_response() -> None:
    """A rename is sent before the messages, and again after a break unless it had a response."""
    session = ClientSession("alice", "lobby")
    session.rename("alicia")
    session.send("hi")
    go_live(session, welcome(0))
    assert [*map(type, sent(session))] == [RenameRequest, SayRequest]
    session.connection_lost()
    go_live(session, welcome(0))
    rename, _ = sent(session)
    assert isinstance(rename, RenameRequest)
    assert receive(session, Renamed("bob", "carol"), Renamed("alice", "alicia-2"))
    assert session.name == next_join(session).name == "alicia-2"
    session.connection_lost()
    go_live(session, welcome(0, name="alicia-2"))
    assert [*map(type, sent(session))] == [SayRequest]


def test_a_rejected_rename_is_not_repeated() -> None:
    """An error is a response to a rename, and is shown."""
    session = live()
    session.rename("a:b")
    (rename,) = sent(session)
    assert isinstance(rename, RenameRequest)
    rejection = Error("bad_name", "name contains a colon", rename.id)
    assert receive(session, rejection) == [rejection]
    session.connection_lost()
    assert next_join(session).name == "alice"
    go_live(session, welcome(41))
    assert sent(session) == []


def test_no_message_is_sent_before_the_replay_is_over() -> None:
    """Messages that are published early wait for the pong, and are then sent in order."""
    session = ClientSession("alice", None)
    session.send("one")
    assert sent(session) == []
    receive(session, welcome(0))
    session.send("two")
    response = pong(session)
    session.send("three")
    assert sent(session) == []
    receive(session, response)
    texts = [request.text for request in sent(session) if isinstance(request, SayRequest)]
    assert texts == ["one", "two", "three"]


def test_an_echo_confirms_a_message() -> None:
    """A message is unconfirmed until its echo is received, and the echo is shown."""
    session = live()
    session.send("hi")
    (say,) = sent(session)
    assert isinstance(say, SayRequest)
    assert len(session) == 1
    assert receive(session, message(42, say.id)) == [message(42, say.id)]
    assert len(session) == 0


@pytest.mark.parametrize("id", [None, "", "x"])
def test_a_message_with_another_id_is_not_an_echo(id: str | None) -> None:
    """A message with the same text but another id does not confirm ours."""
    session = live()
    session.send("hi")
    receive(session, message(42, id))
    assert len(session) == 1


def test_a_message_without_echo_is_resent_with_its_id() -> None:
    """After a break, messages whose echo is not in the replay are resent before new ones."""
    session = live()
    for text in "abc":
        session.send(text)
    a, b, c = sent(session)
    assert isinstance(a, SayRequest)
    session.connection_lost()
    session.send("d")
    receive(session, welcome(42))
    response = pong(session)
    receive(session, message(42, a.id))
    assert sent(session) == []
    receive(session, response)
    *resent, d = sent(session)
    assert resent == [b, c]
    assert isinstance(d, SayRequest)
    assert d.text == "d"


def test_an_unsent_message_is_sent_once() -> None:
    """A message that was not sent when the connection broke is sent once on the next one."""
    session = live()
    session.send("hi")
    session.connection_lost()
    go_live(session, welcome(41))
    assert len(sent(session)) == 1


def test_a_request_is_not_kept() -> None:
    """A request made without a connection, or unsent when it broke, is not sent later."""
    session = live()
    session.request(MembersRequest())
    assert sent(session) == [MembersRequest()]
    session.request(MembersRequest())
    session.connection_lost()
    session.request(MembersRequest())
    go_live(session, welcome(41))
    assert sent(session) == []


def test_a_duplicate_error_confirms_a_message() -> None:
    """The error `duplicate` means that the log has the message. It is not shown."""
    session = live()
    session.send("hi")
    (say,) = sent(session)
    assert isinstance(say, SayRequest)
    assert receive(session, Error("duplicate", "said before", say.id)) == []
    assert (len(session), session.rejected) == (0, 0)


def test_a_rejected_message_is_counted_and_not_resent() -> None:
    """An error with the id of a message is shown and counted, and the message is given up."""
    session = live()
    session.send("hi")
    (say,) = sent(session)
    assert isinstance(say, SayRequest)
    errors: list[Event] = [Error("too_long", "too long", id) for id in (None, "x", say.id)]
    assert receive(session, *errors) == errors
    assert (len(session), session.rejected) == (0, 1)
    session.connection_lost()
    go_live(session, welcome(41))
    assert sent(session) == []


def test_a_full_window_opens_with_an_echo() -> None:
    """The window is full with `MAX_UNCONFIRMED` messages, and an echo makes room for one."""
    session = live(0)
    for _ in range(MAX_UNCONFIRMED):
        assert not session.full
        session.send("hi")
    assert session.full
    first = sent(session)[0]
    assert isinstance(first, SayRequest)
    receive(session, message(1, first.id))
    assert not session.full


def test_a_window_of_long_messages_is_full_earlier() -> None:
    """The window is also full with `MAX_UNCONFIRMED_CHARS` characters, until there is an echo."""
    session = live(0)
    for _ in range(4):
        assert not session.full
        session.send("x" * (MAX_UNCONFIRMED_CHARS // 4))
    assert session.full
    first = sent(session)[0]
    assert isinstance(first, SayRequest)
    receive(session, Error("too_long", "no", first.id))
    assert not session.full


def test_a_frame_is_bounded() -> None:
    """Many lines are sent in few frames, each at most one line longer than the limit."""
    session = live()
    for _ in range(20):
        session.send("x" * 10_000)
    frames = []
    while (frame := session.outgoing()) is not None:
        frames.append(frame)
    assert sum(frame.count("\n") + 1 for frame in frames) == 20
    assert [len(frame) <= MAX_CLIENT_FRAME_CHARS + 10_100 for frame in frames] == [True] * len(
        frames
    )
    assert len(frames) == 5


# -- events -------------------------------------------------------------------


def test_a_repeated_message_is_not_shown_again() -> None:
    """A message that is received twice, live or in a replay, is shown once."""
    session = live(41)
    receive(session, message(42))
    assert receive(session, message(42), message(43), message(43)) == [message(43)]
    session.connection_lost()
    second = welcome(44)
    assert go_live(session, second, message(43), message(44)) == [second, message(44)]


def test_a_gap_in_the_live_stream_is_a_loss() -> None:
    """If a sequence number is left out, the next connection begins before it."""
    session = live(41)
    with pytest.raises(GapError):
        receive(session, message(43))
    assert next_join(session).since == Cursor("e", 41)


def test_messages_before_a_gap_in_a_frame_are_received_again() -> None:
    """The messages before a gap in a frame are not shown, so the cursor stays before them."""
    session = live(41)
    with pytest.raises(GapError):
        receive(session, message(42), message(44))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 41)
    second = welcome(44)
    replay = message(42), message(43), message(44)
    assert go_live(session, second, *replay) == [second, *replay]


def test_a_gap_in_the_replay_is_not_a_loss() -> None:
    """A replay may begin after the cursor; the welcome reports the missed messages."""
    session = live(41)
    session.connection_lost()
    late = welcome(52, missed=8)
    assert go_live(session, late, message(50), message(52)) == [late, message(50), message(52)]
    assert receive(session, message(53)) == [message(53)]


@pytest.mark.parametrize("seq", [0, 40, 41])
def test_a_heartbeat_up_to_the_last_message(seq: int) -> None:
    """A heartbeat whose number is not beyond the last message says that none is missing."""
    assert receive(live(41), Heartbeat(seq)) == [Heartbeat(seq)]


def test_a_heartbeat_beyond_the_last_message_is_a_loss() -> None:
    """A heartbeat with a higher number shows that the last message of a quiet room was lost."""
    with pytest.raises(GapError):
        receive(live(41), Heartbeat(42))


def test_a_heartbeat_during_the_replay_is_not_a_loss() -> None:
    """Before the pong, the messages up to the heartbeat's number may still be on their way."""
    session = live(41)
    session.connection_lost()
    receive(session, welcome(43), Heartbeat(43))
    assert receive(session, message(42), message(43), pong(session)) == [
        message(42),
        message(43),
    ]


def test_the_live_stream_follows_an_empty_replay() -> None:
    """If the replay is empty, the pong moves the cursor to the head of the log."""
    session = ClientSession("alice", None, history=10)
    go_live(session, welcome(41))
    assert receive(session, message(42)) == [message(42)]


def test_events_without_a_number_are_always_shown() -> None:
    """Joins and errors have no sequence number, so each of them is shown."""
    events: list[Event] = [
        Joined("bob", 2),
        Joined("bob", 2),
        Error("bad_json", "line is not JSON"),
    ]
    assert receive(live(), *events) == events


# -- replays, and changes of the log ------------------------------------------


def test_showing_older_messages_again() -> None:
    """`show_again` shows older messages again, once, and counts none of them as missed."""
    session = live(41)
    session.show_again(10)
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 31)
    # The log begins at 36, and 42 is new.
    shown = go_live(session, welcome(42, missed=4), *map(message, range(36, 43)))
    assert shown == [welcome(42), *map(message, range(36, 43))]
    assert not session.showing_again
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 42)
    assert go_live(session, welcome(42), message(42)) == [welcome(42)]


def test_showing_messages_again_when_some_were_missed() -> None:
    """After `show_again`, messages that are not in the log are reported, and so is another log."""
    session = live(41)
    session.show_again(10)
    session.connection_lost()
    next_join(session)
    shown = go_live(session, welcome(50, missed=14), *map(message, range(46, 51)))
    assert shown[0] == welcome(50, missed=4)
    assert shown[1:] == [*map(message, range(46, 51))]
    session.show_again(10)
    session.connection_lost()
    next_join(session)
    shown = go_live(session, welcome(1, epoch="f", missed=None), message(1))
    assert shown == [welcome(1, epoch="f", missed=None), message(1)]


def test_showing_messages_again_breaks_off() -> None:
    """A replay that breaks off is not repeated, and no new message is lost by it."""
    session = live(41)
    session.show_again(10)
    session.connection_lost()
    next_join(session)
    assert receive(session, welcome(42, missed=4), message(36)) == [welcome(42), message(36)]
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 41)
    assert go_live(session, welcome(42), message(42)) == [welcome(42), message(42)]


def test_another_room() -> None:
    """`in_room` returns another session that asks for the same name."""
    session = live()
    other = session.in_room("ops")
    assert (next_join(other).name, next_join(other).room) == ("alice", "ops")
    assert next_join(other).session != next_join(session).session
    assert next_join(other).since is None
    assert not next_join(other).quiet


def test_a_quiet_session() -> None:
    """Each of its connections asks for a quiet join, in another room too."""
    session = ClientSession("ci", None, history=3, quiet=True)
    assert next_join(session).quiet
    go_live(session, welcome(0, name="ci"))
    session.connection_lost()
    assert next_join(session).quiet and next_join(session).since is not None
    assert next_join(session.in_room("ops")).quiet


def test_another_log_is_received_from_its_beginning() -> None:
    """After a restart, low numbers are new messages, and a break right then loses none."""
    session = live(41)
    session.connection_lost()
    receive(session, welcome(5, epoch="f", missed=None))
    session.connection_lost()
    assert next_join(session).since == Cursor("f", 0)
    second = welcome(6, epoch="f")
    replay = [message(seq) for seq in range(1, 7)]
    assert go_live(session, second, *replay) == [second, *replay]


def test_a_log_that_is_shorter_now_is_another_one() -> None:
    """If the cursor is beyond the end of the log, as after a restored backup, it begins anew."""
    session = live(41)
    session.connection_lost()
    session.send("hi")
    restored = welcome(2, missed=None)
    shown = go_live(session, restored, message(1), message(2))
    assert shown == [restored, message(1), message(2)]
    (say,) = sent(session)
    assert isinstance(say, SayRequest)
    assert receive(session, message(3, say.id)) == [message(3, say.id)]
    assert len(session) == 0


def test_missed_messages_are_counted_once() -> None:
    """If a connection breaks after its welcome, its missed messages are not reported again."""
    session = live(41)
    session.connection_lost()
    receive(session, welcome(60, missed=8))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 49)


# -- hidden messages ----------------------------------------------------------


def test_a_hidden_message_leaves_no_gap() -> None:
    """The event `hidden` counts as the message that it stands for, live and in a replay."""
    session = live(41)
    assert receive(session, MessageHidden(42), message(43)) == [MessageHidden(42), message(43)]
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 43)
    go_live(session, welcome(45), message(44), MessageHidden(45))
    assert receive(session, Heartbeat(45), message(46)) == [Heartbeat(45), message(46)]


def test_hiding_an_earlier_message_moves_no_cursor() -> None:
    """If a message that was shown is hidden, the event is shown and the cursor stays."""
    session = live(41)
    receive(session, message(42), message(43))
    assert receive(session, MessageHidden(42), message(44)) == [MessageHidden(42), message(44)]


def test_hiding_an_earlier_message_before_the_pong_moves_no_cursor() -> None:
    """A new client whose replay is not over keeps its cursor when an earlier message is hidden."""
    session = ClientSession("alice", None)
    session.query()
    receive(session, welcome(41), MessageHidden(12))
    session.connection_lost()
    assert next_join(session).since == Cursor("e", 41)


def test_a_gap_before_a_hidden_message_is_a_loss() -> None:
    """A sequence number that is left out before a hidden message is a loss as well."""
    with pytest.raises(GapError):
        receive(live(41), MessageHidden(43))


def test_a_message_hidden_before_its_echo_is_confirmed() -> None:
    """The event `hidden` confirms a message of ours that had no echo yet."""
    session = live(41)
    session.send("oh no")
    (say,) = sent(session)
    assert isinstance(say, SayRequest)
    receive(session, MessageHidden(42, say.id))
    assert len(session) == 0


# -- servers that are not a broadcast server ----------------------------------


@pytest.mark.parametrize("event", [message(1), Pong("")])
def test_an_event_before_the_welcome(event: Event) -> None:
    """A message or a pong before the welcome of a connection raises ValueError."""
    session = ClientSession("alice", None)
    with pytest.raises(ValueError, match="came before welcome"):
        receive(session, event)
    second = live()
    second.connection_lost()
    with pytest.raises(ValueError, match="came before welcome"):
        receive(second, message(42))


def test_a_second_pong_resends_nothing() -> None:
    """Only the first pong ends the replay and sends the outbox."""
    session = ClientSession("alice", None)
    session.send("hi")
    receive(session, welcome(0))
    response = pong(session)
    receive(session, response, response)
    assert len(sent(session)) == 1


def test_a_line_that_is_not_json() -> None:
    """A line that is not JSON raises ValueError."""
    with pytest.raises(ValueError, match="Expecting value"):
        live().receive("hello")


# -- the model ----------------------------------------------------------------


class Wire:
    """One connection: what is on its way in both directions, and what is still to be sent."""

    def __init__(self, session: str, after: int) -> None:
        self.session = session
        self.after = after  # the server sends every message with a higher number
        self.written = after  # number of the last message that the server has sent
        self.private: deque[tuple[int, Event]] = deque()  # events, each to follow that message
        self.upstream: deque[str] = deque()
        self.downstream: deque[str] = deque()


class Server:
    """A minimal room, with a log that may drop its oldest messages."""

    def __init__(self, number: int) -> None:
        self.epoch = f"epoch-{number}"
        self.all: list[LogEntry] = []  # including those that the log has dropped
        self.texts: set[str] = set()
        self.first = 1  # number of the oldest message in the log
        self.known_ids: dict[tuple[str, str], int] = {}  # numbers, by session and id

    @property
    def head(self) -> int:
        return len(self.all)

    def join(self, query: str, headers: dict[str, str]) -> Wire:
        join = parse_join(query, Format.JSON, KEY, headers=[*headers.values()])
        assert isinstance(join, JoinRequest)
        missed: int | None = 0
        if join.since is None:
            after = max(self.first - 1, self.head - join.history)
        elif join.since.epoch != self.epoch or join.since.seq > self.head:
            after, missed = self.first - 1, None
        else:
            after = max(join.since.seq, self.first - 1)
            missed = after - join.since.seq
        wire = Wire(join.session or "", after)
        wire.private.append((after, welcome(self.head, self.epoch, missed)))
        return wire

    def append(self, text: str, session: str, id: str | None) -> None:
        self.all.append(message(self.head + 1, id, text))
        self.texts.add(text)
        if id is not None:
            self.known_ids[session, id] = self.head

    def receive(self, wire: Wire) -> None:
        for request in decode_json(wire.upstream.popleft(), 4096):
            match request:
                case PingRequest(id=id):
                    wire.private.append((self.head, Pong(id)))
                case SayRequest(text=text, id=str() as id):
                    seq = self.known_ids.get((wire.session, id))
                    if seq is None:
                        self.append(text, wire.session, id)
                    elif seq <= wire.after:
                        wire.private.append((self.head, Error("duplicate", "said before", id)))

    def write(self, wire: Wire, count: int) -> bool:
        """Send up to *count* events; return False if the log no longer has the next message."""
        lines: list[str] = []
        while len(lines) < count:
            if wire.private and wire.private[0][0] <= wire.written:
                lines.append(encode_json(wire.private.popleft()[1]))
            elif wire.written == self.head:
                break
            elif wire.written + 1 < self.first:
                return False
            else:
                lines.append(encode_json(self.all[wire.written]))
                wire.written += 1
        if lines:
            wire.downstream.append("\n".join(lines))
        return True

    def drop_oldest(self, count: int) -> None:
        self.first = min(self.first + count, self.head + 1)
        self.known_ids = {key: seq for key, seq in self.known_ids.items() if seq >= self.first}


class BrokenConnections(RuleBasedStateMachine):
    """A client and a server, whose connections break and whose log changes at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.servers = [Server(0)]
        self.wire: Wire | None = None
        self.published: list[str] = []
        self.shown: dict[str, list[int]] = {}  # by epoch: the numbers of the messages shown
        self.missed: Counter[str] = Counter()  # by epoch: messages that were reported as missed
        self.begun: dict[str, int] = {}  # by epoch: every message after this number must be shown
        self.floor: dict[str, int] = {}  # by epoch: a message after this number may be missed
        self.history = 0
        self.session = ClientSession("alice", None)

    @initialize(history=st.sampled_from((0, 3)))
    def begin(self, history: int) -> None:
        self.history = history
        self.session = ClientSession("alice", None, history)

    @property
    def server(self) -> Server:
        return self.servers[-1]

    @rule()
    def publish(self) -> None:
        self.published.append(f"text {len(self.published)}")
        self.session.send(self.published[-1])

    @rule(count=st.integers(1, 5))
    def others_publish(self, count: int) -> None:
        for _ in range(count):
            self.server.append("other", "another's", None)

    @rule(count=st.integers(1, 8))
    def drop_oldest(self, count: int) -> None:
        self.server.drop_oldest(count)

    @rule(seq=st.integers(1, 8))
    def hide(self, seq: int) -> None:
        """A moderator hides a message that the log has, and the client is told."""
        if self.server.first <= seq <= self.server.head:
            hidden = MessageHidden(seq, self.server.all[seq - 1].id)
            self.server.all[seq - 1] = hidden
            if self.wire is not None:
                self.wire.private.append((self.server.head, hidden))

    @precondition(lambda self: self.wire is not None)
    @rule()
    def heartbeat(self) -> None:
        assert self.wire is not None
        self.wire.private.append((self.server.head, Heartbeat(self.server.head)))

    @rule(
        sent=st.integers(0, 1),
        received=st.integers(0, 2),
        written=st.integers(0, 6),
        read=st.integers(0, 2),
        end=st.sampled_from(("go on", "go on", "break", "restart")),
    )
    def exchange(self, sent: int, received: int, written: int, read: int, end: str) -> None:
        """Exchange some frames between the client and the server; then the connection may end.

        The client sends *sent* frames, of which the server receives *received*. The server writes
        *written* events, and the client reads *read* frames of them.
        """
        if self.wire is None:
            self.wire = self.server.join(self.session.query(), self.session.headers)
        wire = self.wire
        for _ in range(sent):
            if (frame := self.session.outgoing()) is not None:
                wire.upstream.append(frame)
        for _ in range(min(received, len(wire.upstream))):
            self.server.receive(wire)
        has_kept_up = self.server.write(wire, written)
        for _ in range(min(read, len(wire.downstream))):
            self.check_shown(self.session.receive(wire.downstream.popleft()), wire)
        if end != "go on" or not has_kept_up:
            self.wire = None
            self.session.connection_lost()
        if end == "restart":
            self.servers.append(Server(len(self.servers)))

    def check_shown(self, events: list[Event], wire: Wire) -> None:
        epoch = self.server.epoch
        for event in events:
            match event:
                case Message(seq=seq) | MessageHidden(seq=seq):
                    shown = self.shown.setdefault(epoch, [])
                    if isinstance(event, Message) or seq > max(shown, default=wire.after):
                        shown.append(seq)
                case Welcome(seq=seq, missed=missed):
                    floor = 0 if self.floor else max(0, seq - self.history)
                    self.floor.setdefault(epoch, floor)
                    self.begun.setdefault(epoch, wire.after)
                    self.missed[epoch] += missed or 0

    @invariant()
    def messages_are_shown_in_order_and_once(self) -> None:
        for seqs in self.shown.values():
            assert seqs == sorted(set(seqs))

    @invariant()
    def the_log_holds_no_message_twice(self) -> None:
        for server in self.servers:
            ids = [entry.id for entry in server.all[server.first - 1 :] if entry.id is not None]
            assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        """Exchange everything that is left: then every message is in a log, and is shown."""
        for _ in range(9):  # the log may have dropped what the first connections need
            self.exchange(sent=9, received=99, written=10**6, read=99, end="go on")
        assert self.session.live
        assert len(self.session) == 0
        logged = {text for server in self.servers for text in server.texts}
        assert logged.issuperset(self.published)
        server = self.server
        shown = self.shown.get(server.epoch, [])
        lost = {*range(self.begun[server.epoch] + 1, server.head + 1)}.difference(shown)
        assert lost <= {*range(1, server.first)}, "lost a message that the log still had"
        not_shown = {*range(self.floor[server.epoch] + 1, server.head + 1)}.difference(shown)
        assert self.missed[server.epoch] <= len(not_shown), "counted as missed twice"


BrokenConnections.TestCase.settings = settings(
    max_examples=100, stateful_step_count=20, deadline=None
)
TestBrokenConnections = BrokenConnections.TestCase


# -- messages over the limit --


def said(session: ClientSession) -> list[str]:
    """Return the texts of the messages that the session sends."""
    return [each.text for each in sent(session) if isinstance(each, SayRequest)]


def test_a_lower_limit_after_a_restart() -> None:
    """What is resent is split for the new server, in order, but not what the replay has."""
    session = live()
    session.outbox.oversize = "split"
    first, *_ = map(session.send, ("a" * 20, "b" * 20, "c"))
    assert said(session) == ["a" * 20, "b" * 20, "c"] and session.outbox.added == 3
    session.connection_lost()
    go_live(session, replace(welcome(42), max_bytes=16), message(42, first, "a" * 20))
    assert said(session) == ["b" * 16, "b" * 4, "c"]
    assert (session.outbox.added, len(session)) == (4, 3)
    for seq, say in enumerate(list(session.outbox), start=43):
        receive(session, message(seq, say.id, say.text))
    assert (len(session), session.rejected) == (0, 0)


@pytest.mark.parametrize(("oversize", "parts"), [("split", ["b" * 16, "b" * 4]), (None, [])])
def test_a_limit_that_only_the_error_tells(oversize: str | None, parts: list[str]) -> None:
    """A message that is rejected is sent in parts, if that is wanted, and is not shown as lost."""
    session = live()
    session.outbox.oversize = oversize
    id = session.send("b" * 20)
    assert said(session) == ["b" * 20]
    error = Error("too_long", "message is 20 bytes, limit is 16", id)
    assert receive(session, error) == ([] if parts else [error])
    assert said(session) == parts
    assert session.rejected == (0 if parts else 1)
