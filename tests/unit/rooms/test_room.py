"""The room: which actions it returns. What goes over the wire is in the transcripts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import (
    CloseCode,
    Cursor,
    Error,
    Format,
    Joined,
    Left,
    Message,
    Renamed,
    RenameRequest,
    Welcome,
)
from broadcast_server.protocol.rejection import TOO_SLOW
from broadcast_server.rooms.actions import Action, Close, Publish, Send, Subscribe
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.quota import MAX_RENAMES_PER_HEARTBEAT
from broadcast_server.rooms.room import Room


def make(log: MessageLog | None = None) -> Room:
    """Return a room with a log."""
    return Room("lobby", log or MessageLog(), 100)


def client(name: str, *, session: str | None = None, since: Cursor | None = None) -> Participant:
    """Return a text client that wants to join as *name*."""
    return Participant(JoinRequest(name=name, session=session, since=since), session or name)


def welcome(actions: Sequence[Action]) -> Welcome:
    """Return the welcome among *actions*."""
    (event,) = [action.welcome for action in actions if isinstance(action, Subscribe)]
    return event


def test_a_join_is_sent_before_the_member_subscribes() -> None:
    """Everyone is told of a join before the member is subscribed, so it is not told itself."""
    room, bob = make(), client("bob")
    room.connect(client("alice"))
    first, second = room.connect(bob)
    assert first == Send(None, Joined("bob", 2))
    assert isinstance(second, Subscribe) and (second.participant, second.after) == (bob, 0)
    assert second.welcome.members == ("alice", "bob")


def test_a_message_is_logged_before_it_is_sent() -> None:
    """A message goes to the log first, which numbers it; then it is sent to everyone."""
    room, bob = make(), client("bob")
    room.connect(bob)
    assert room.receive(bob, "hi") == [Publish(bob, "hi", None, "bob")]
    message = Message(1, "bob", "hi", "2026-11-25T09:00:00.000Z")
    assert room.deliver(message) == [Send(None, message)]


def test_a_session_takeover_is_silent() -> None:
    """A client that joins with a member's session gets its place and name; nobody else is told."""
    room = make()
    previous, current = client("bob", session="s" * 16), client("robert", session="s" * 16)
    room.connect(previous)
    actions = room.connect(current)
    assert [type(action) for action in actions] == [Send, Close, Subscribe]
    assert actions[1] == Close(
        previous, CloseCode.REPLACED, "a newer connection of your session took your place"
    )
    assert current.name == "bob"
    assert previous not in room and current in room and len(room) == 1
    assert room.disconnect(previous) == []
    assert room.receive(current, "hi") == [Publish(current, "hi", None, "bob")]


def test_a_member_leaves_once() -> None:
    """Disconnecting or kicking a member that has left returns no actions."""
    room, bob = make(), client("bob")
    room.connect(bob)
    assert room.disconnect(bob) == [Send(None, Left("bob", 0))]
    assert room.disconnect(bob) == []
    assert room.kick(bob, TOO_SLOW) == []


def test_a_rename() -> None:
    """Everyone is told of a rename; the old name is free, and the place in the list is kept."""
    room, alice, bob = make(), client("alice"), client("bob", session="s" * 16)
    room.connect(alice)
    room.connect(bob)
    assert room.rename(alice, RenameRequest("alicia")) == [Send(None, Renamed("alice", "alicia"))]
    assert room.rename(bob, RenameRequest("ALICIA")) == [Send(None, Renamed("bob", "ALICIA-2"))]
    assert room.rename(bob, RenameRequest("alicia")) == [
        Send(None, Renamed("ALICIA-2", "alicia-2"))
    ]
    assert room.rename(bob, RenameRequest("alicia")) == [Send(bob, Renamed("alicia-2", "alicia-2"))]
    assert room.rename(bob, RenameRequest("alice")) == [Send(None, Renamed("alicia-2", "alice"))]
    assert room.rename(bob, RenameRequest("Alice", "i")) == [Send(None, Renamed("alice", "Alice"))]
    again = client("bob", session="s" * 16)
    assert welcome(room.connect(again)).members == ("alicia", "Alice")
    assert room.disconnect(again) == [Send(None, Left("Alice", 1))]


def test_a_rejected_rename() -> None:
    """A member that asks for an invalid name, or too often, gets an error and keeps its name."""
    room, bob = make(), client("bob")
    room.connect(bob)
    error = Error("bad_name", "name contains a colon", "i")
    assert room.rename(bob, RenameRequest("a:b", "i")) == [Send(bob, error)]
    for number in range(MAX_RENAMES_PER_HEARTBEAT):
        room.rename(bob, RenameRequest(f"b{number}"))
    (rejected,) = room.rename(bob, RenameRequest("c", "i"))
    assert isinstance(rejected, Send) and rejected.to is bob
    assert getattr(rejected.event, "code", "") == "too_often"
    assert bob.name == f"b{MAX_RENAMES_PER_HEARTBEAT - 1}"
    room.reset_quotas()
    (renamed,) = room.rename(bob, RenameRequest("c"))
    assert renamed == Send(None, Renamed(f"b{MAX_RENAMES_PER_HEARTBEAT - 1}", "c"))


def test_a_takeover_keeps_the_count_of_renames() -> None:
    """A client that replaces its own connection may not rename itself more often."""
    room = make()
    for _ in range(3):
        bob = client("bob", session="s" * 16)
        room.connect(bob)
        answers = [
            action.event
            for number in range(MAX_RENAMES_PER_HEARTBEAT)
            for action in room.rename(bob, RenameRequest(f"b{number}"))
            if isinstance(action, Send)
        ]
    assert [getattr(event, "code", "") for event in answers] == ["too_often"] * len(answers)


def test_a_kick() -> None:
    """A kicked member is told why and closed, and only then the others are told."""
    room, bob = make(), client("bob")
    room.connect(client("alice"))
    room.connect(bob)
    assert room.kick(bob, TOO_SLOW) == [
        Send(bob, Error("too_slow", "you read too slowly")),
        Close(bob, CloseCode.TOO_SLOW, "you read too slowly"),
        Send(None, Left("bob", 1)),
    ]


def test_a_stop() -> None:
    """When the server stops, everyone is told so and closed, and nobody is told who left."""
    room, alice, bob = make(), client("alice"), client("bob")
    room.connect(alice)
    room.connect(bob)
    text = "the server is stopping"
    assert room.stop() == [
        Send(None, Error("stopping", text)),
        Close(alice, CloseCode.STOPPING, text),
        Close(bob, CloseCode.STOPPING, text),
    ]
    assert len(room) == 0 and room.disconnect(bob) == []


def test_a_duplicate_is_answered_only_if_its_echo_is_not_sent() -> None:
    """A duplicate gets an answer exactly if the connection resumed after the message."""
    log = MessageLog()
    for number in range(5):
        log.append("bob", "x", "", str(number), "s" * 16)
    room = make(log)
    bob = client("bob", since=Cursor(log.epoch, 3))
    room.connect(bob)
    assert room.acknowledge_duplicate(bob, "3", 4) == []
    (answer,) = room.acknowledge_duplicate(bob, "2", 3)
    assert answer == Send(bob, Error("duplicate", "message was said before, as number 3", "2"))


def test_lists_of_members_are_bounded() -> None:
    """A welcome lists the first hundred members, /who a thousand, and both count all."""
    room = make()
    for _ in range(1001):
        last = room.connect(client("anonymous"))
    assert (len(welcome(last).members), welcome(last).count) == (100, 1001)
    last_member = client("last")
    room.connect(last_member)
    (action,) = room.receive(last_member, "/who")
    assert isinstance(action, Send)
    assert getattr(action.event, "count", 0) == 1002
    assert len(getattr(action.event, "members", ())) == 1000


def test_a_free_suffix_is_used_again() -> None:
    """A member gets the lowest free suffix, including one that has become free."""
    room = make()
    bobs = [client("bob") for _ in range(50)]
    for bob in bobs:
        room.connect(bob)
    assert [bob.name for bob in bobs[:3]] == ["bob", "bob-2", "bob-3"]
    room.disconnect(bobs[29])
    room.disconnect(bobs[9])
    for expected in ("bob-10", "bob-30", "bob-51"):
        again = client("bob")
        room.connect(again)
        assert again.name == expected
    for name in ("bob-0", "bob-1"):
        other = client(name)
        room.connect(other)
        room.disconnect(other)
    again = client("bob")
    room.connect(again)
    assert again.name == "bob-52"
    room.disconnect(bobs[0])
    first = client("BOB")
    room.connect(first)
    assert first.name == "BOB"


@given(
    st.lists(
        st.tuples(st.sampled_from(["bob", "Bob", "bob-2", "x" * 32, "ß", "ss"]), st.booleans()),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_names_are_unique(steps: list[tuple[str, bool]], random: object) -> None:
    """No two members ever have names that a person would confuse."""
    room = make()
    members: list[Participant] = []
    for name, leaves in steps:
        if leaves and members:
            leaving = members.pop(random.randrange(len(members)))  # type: ignore[attr-defined]
            room.disconnect(leaving)
        else:
            joining = client(name)
            room.connect(joining)
            members.append(joining)
        from broadcast_server.protocol.names import name_key, validate_name

        assert len({name_key(each.name) for each in members}) == len(members) == len(room)
        assert all(each in room and validate_name(each.name) == each.name for each in members)


@given(st.integers(0, 12), st.integers(0, 15), st.integers(0, 12), st.integers(0, 20))
def test_recovered_is_true_exactly_when_nothing_was_missed(
    kept: int, published: int, since: int, history: int
) -> None:
    """`recovered` and `missed` tell exactly what is missing between the cursor and the replay."""
    log = MessageLog(max_messages=kept)
    for _ in range(published):
        log.append("bob", "x", "", None, "")
    member = Participant(JoinRequest(since=Cursor(log.epoch, since), history=history), "")
    event = welcome(make(log).connect(member))
    replayed = [message.seq for message in log.read_after(member.after_seq, 1000)]
    if since > published:
        assert (event.recovered, event.missed) == (False, None)
        return
    assert event.missed == published - since - len(replayed) >= 0
    assert event.recovered is (event.missed == 0)
    assert replayed == list(range(published + 1 - len(replayed), published + 1))


def test_faults_are_counted_in_a_row() -> None:
    """A valid request resets the count of faults; ten faults in a row close the connection."""
    room = make()
    bob = Participant(JoinRequest(name="bob", format=Format.JSON), "")
    room.connect(bob)
    for _ in range(3):
        assert len(room.receive(bob, "\n".join("x" * 9))) == 9
        room.receive(bob, '{"type":"ping"}')
    for _ in range(9):
        room.receive(bob, "x")
    *_, close, left = room.receive(bob, "x")
    assert isinstance(close, Close) and close.code == CloseCode.FAULTS
    assert left == Send(None, Left("bob", 0))
    assert bob not in room


def test_a_subscriber_is_no_member() -> None:
    """A subscriber gets a welcome, is not counted as a member, and is closed like one."""
    room, subscriber = make(), Participant(JoinRequest(name=""), "")
    room.connect(client("alice"))
    event = welcome(room.subscribe(subscriber))
    assert (event.name, event.count, event.members) == ("", 1, ("alice",))
    assert (len(room), room.subscriber_count, subscriber in room) == (1, 1, False)
    _, close = room.kick(subscriber, TOO_SLOW)
    assert close == Close(subscriber, CloseCode.TOO_SLOW, "you read too slowly")
    assert room.subscriber_count == 0
    room.subscribe(subscriber)
    assert [action.participant for action in room.stop() if isinstance(action, Close)][1:] == [
        subscriber
    ]
    room.subscribe(subscriber)
    assert (room.disconnect(subscriber), room.subscriber_count) == ([], 0)


def test_publishing_without_joining_reserves_no_name() -> None:
    """The author gets the next free name, which stays free, or the name of its session's member."""
    room = make()
    room.connect(client("bob", session="0123456789abcdef"))
    assert room.author_name(JoinRequest(name="BOB")) == "BOB-2"
    assert room.author_name(JoinRequest(name="bob")) == "bob-2"
    assert room.author_name(JoinRequest(name="x", session="0123456789abcdef")) == "bob"
    assert room.author_name(JoinRequest(name="x", session="another-session-")) == "x"
    second = client("bob")
    room.connect(second)
    assert second.name == "bob-2"
