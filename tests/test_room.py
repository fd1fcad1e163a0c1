"""The room, played like a card game. What goes over the wire is in the transcripts."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.entry import Entry
from broadcast_server.history import Log
from broadcast_server.protocol import (
    CloseCode,
    Cursor,
    Error,
    Format,
    Joined,
    Left,
    Message,
    Rename,
    Renamed,
    Welcome,
)
from broadcast_server.room import RENAMES, Action, Close, Enter, Peer, Publish, Room, Send


def make(log: Log | None = None) -> Room:
    """A room with a log."""
    return Room("lobby", log or Log(), 100)


def peer(name: str, *, session: str | None = None, since: Cursor | None = None) -> Peer:
    """Someone who speaks text."""
    return Peer(Entry(name=name, session=session, since=since), session or name)


def welcome(actions: Sequence[Action]) -> Welcome:
    """Return the welcome among *actions*."""
    (found,) = [each.welcome for each in actions if isinstance(each, Enter)]
    return found


def test_the_newcomer_comes_last() -> None:
    """Everyone is told of a newcomer before it is on the stream, so it is not told itself."""
    room, bob = make(), peer("bob")
    room.connect(peer("alice"))
    first, second = room.connect(bob)
    assert first == Send(None, Joined("bob", 2))
    assert isinstance(second, Enter) and (second.peer, second.after) == (bob, 0)
    assert second.welcome.members == ("alice", "bob")


def test_a_message_is_published_not_sent() -> None:
    """What is said goes to the log first, which numbers it; then everyone gets it."""
    room, bob = make(), peer("bob")
    room.connect(bob)
    assert room.receive(bob, "hi") == [Publish(bob, "hi", None, "bob")]
    message = Message(1, "bob", "hi", "2026-11-25T09:00:00.000Z")
    assert room.deliver(message) == [Send(None, message)]


def test_a_ghost_is_replaced_in_silence() -> None:
    """A newcomer with a member's session takes its place and name; nobody else is told."""
    room = make()
    ghost, newcomer = peer("bob", session="s" * 16), peer("robert", session="s" * 16)
    room.connect(ghost)
    actions = room.connect(newcomer)
    assert [type(each) for each in actions] == [Send, Close, Enter]
    assert actions[1] == Close(
        ghost, CloseCode.REPLACED, "a newer connection of your session took your place"
    )
    assert newcomer.name == "bob"
    assert ghost not in room and newcomer in room and len(room) == 1
    assert room.disconnect(ghost) == []
    assert room.receive(newcomer, "hi") == [Publish(newcomer, "hi", None, "bob")]


def test_who_left_is_gone_once() -> None:
    """A second disconnect, or an expulsion of one who left, is nothing."""
    room, bob = make(), peer("bob")
    room.connect(bob)
    assert room.disconnect(bob) == [Send(None, Left("bob", 0))]
    assert room.disconnect(bob) == []
    assert room.expel(bob, CloseCode.TOO_SLOW, "too_slow", "too slow") == []


def test_a_new_name() -> None:
    """Everyone is told a new name, its bearer too; the old one is free, the place is kept."""
    room, alice, bob = make(), peer("alice"), peer("bob", session="s" * 16)
    room.connect(alice)
    room.connect(bob)
    assert room.rename(alice, Rename("alicia")) == [Send(None, Renamed("alice", "alicia"))]
    assert room.rename(bob, Rename("ALICIA")) == [Send(None, Renamed("bob", "ALICIA-2"))]
    assert room.rename(bob, Rename("alicia")) == [Send(None, Renamed("ALICIA-2", "alicia-2"))]
    assert room.rename(bob, Rename("alicia")) == [Send(bob, Renamed("alicia-2", "alicia-2"))]
    assert room.rename(bob, Rename("alice")) == [Send(None, Renamed("alicia-2", "alice"))]
    assert room.rename(bob, Rename("Alice", "i")) == [Send(None, Renamed("alice", "Alice"))]
    again = peer("bob", session="s" * 16)
    assert welcome(room.connect(again)).members == ("alicia", "Alice")
    assert room.disconnect(again) == [Send(None, Left("Alice", 1))]


def test_a_name_that_cannot_be_had() -> None:
    """Who asks for what is no name, or again and again, gets an error, and keeps its name."""
    room, bob = make(), peer("bob")
    room.connect(bob)
    error = Error("bad_name", "name contains a colon", "i")
    assert room.rename(bob, Rename("a:b", "i")) == [Send(bob, error)]
    for number in range(RENAMES):
        room.rename(bob, Rename(f"b{number}"))
    (refused,) = room.rename(bob, Rename("c", "i"))
    assert isinstance(refused, Send) and refused.to is bob
    assert getattr(refused.event, "code", "") == "too_often"
    assert bob.name == f"b{RENAMES - 1}"
    room.beat()
    (renamed,) = room.rename(bob, Rename("c"))
    assert renamed == Send(None, Renamed(f"b{RENAMES - 1}", "c"))


def test_expelling() -> None:
    """Who is expelled is told why, then closed, and only then the others hear of it."""
    room, bob = make(), peer("bob")
    room.connect(peer("alice"))
    room.connect(bob)
    assert room.expel(bob, CloseCode.TOO_SLOW, "too_slow", "you read too slowly") == [
        Send(bob, Error("too_slow", "you read too slowly")),
        Close(bob, CloseCode.TOO_SLOW, "you read too slowly"),
        Send(None, Left("bob", 1)),
    ]


def test_stopping() -> None:
    """When the server stops everyone is told that, and nobody who left."""
    room, alice, bob = make(), peer("alice"), peer("bob")
    room.connect(alice)
    room.connect(bob)
    text = "the server is stopping"
    assert room.stop() == [
        Send(None, Error("stopping", text)),
        Close(alice, CloseCode.STOPPING, text),
        Close(bob, CloseCode.STOPPING, text),
    ]
    assert len(room) == 0 and room.disconnect(bob) == []


def test_a_repeat_is_answered_only_if_its_echo_is_not_sent_anyway() -> None:
    """A repeat gets an answer of its own exactly if this connection began after the echo."""
    log = Log()
    for number in range(5):
        log.append("bob", "x", "", str(number), "s" * 16)
    room = make(log)
    bob = peer("bob", since=Cursor(log.epoch, 3))
    room.connect(bob)
    assert room.repeated(bob, "3", 4) == []
    (answer,) = room.repeated(bob, "2", 3)
    assert answer == Send(bob, Error("duplicate", "message was said before, as number 3", "2"))


def test_the_first_hundred_of_many() -> None:
    """A welcome names the first hundred, /who a thousand, and both count all."""
    room = make()
    for _ in range(1001):
        last = room.connect(peer("anonymous"))
    assert (len(welcome(last).members), welcome(last).count) == (100, 1001)
    asker = peer("asker")
    room.connect(asker)
    (action,) = room.receive(asker, "/who")
    assert isinstance(action, Send)
    assert getattr(action.event, "count", 0) == 1002
    assert len(getattr(action.event, "members", ())) == 1000


def test_a_free_suffix_is_used_again() -> None:
    """The lowest suffix that is free is taken, also one that became free."""
    room = make()
    crowd = [peer("bob") for _ in range(50)]
    for each in crowd:
        room.connect(each)
    assert [each.name for each in crowd[:3]] == ["bob", "bob-2", "bob-3"]
    room.disconnect(crowd[29])
    room.disconnect(crowd[9])
    for expected in ("bob-10", "bob-30", "bob-51"):
        again = peer("bob")
        room.connect(again)
        assert again.name == expected
    for odd in ("bob-0", "bob-1"):
        other = peer(odd)
        room.connect(other)
        room.disconnect(other)
    again = peer("bob")
    room.connect(again)
    assert again.name == "bob-52"
    room.disconnect(crowd[0])
    first = peer("BOB")
    room.connect(first)
    assert first.name == "BOB"


@given(
    st.lists(
        st.tuples(st.sampled_from(["bob", "Bob", "bob-2", "x" * 32, "ß", "ss"]), st.booleans()),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_names_are_one_persons(steps: list[tuple[str, bool]], random: object) -> None:
    """No two members ever have names that people would take for one."""
    room = make()
    here: list[Peer] = []
    for name, leaves in steps:
        if leaves and here:
            gone = here.pop(random.randrange(len(here)))  # type: ignore[attr-defined]
            room.disconnect(gone)
        else:
            newcomer = peer(name)
            room.connect(newcomer)
            here.append(newcomer)
        from broadcast_server.names import check_name, name_key

        assert len({name_key(each.name) for each in here}) == len(here) == len(room)
        assert all(each in room and check_name(each.name) == each.name for each in here)


@given(st.integers(0, 12), st.integers(0, 15), st.integers(0, 12), st.integers(0, 20))
def test_recovered_is_true_exactly_when_nothing_was_missed(
    kept: int, said: int, since: int, history: int
) -> None:
    """`recovered` and `missed` say what is missing between cursor and replay, no more or less."""
    log = Log(messages=kept)
    for _ in range(said):
        log.append("bob", "x", "", None, "")
    newcomer = Peer(Entry(since=Cursor(log.epoch, since), history=history), "")
    found = welcome(make(log).connect(newcomer))
    replayed = [each.seq for each in log.after(newcomer.after, 1000)]
    if since > said:
        assert (found.recovered, found.missed) == (False, None)
        return
    assert found.missed == said - since - len(replayed) >= 0
    assert found.recovered is (found.missed == 0)
    assert replayed == list(range(said + 1 - len(replayed), said + 1))


def test_faults_are_counted_in_a_row() -> None:
    """Nine faults are forgiven by one good request; ten in a row are the end."""
    room = make()
    bob = Peer(Entry(name="bob", format=Format.JSON), "")
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


def test_who_listens_is_not_here() -> None:
    """A listener is told where it begins, is counted by nobody, and is closed like a member."""
    room, ear = make(), Peer(Entry(name=""), "")
    room.connect(peer("alice"))
    found = welcome(room.listen(ear))
    assert (found.name, found.count, found.members) == ("", 1, ("alice",))
    assert (len(room), room.listeners, ear in room) == (1, 1, False)
    _, close = room.expel(ear, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")
    assert close == Close(ear, CloseCode.TOO_SLOW, "you read too slowly")
    assert room.listeners == 0
    room.listen(ear)
    assert [each.peer for each in room.stop() if isinstance(each, Close)][1:] == [ear]
    room.listen(ear)
    assert (room.disconnect(ear), room.listeners) == ([], 0)


def test_who_speaks_without_being_here_uses_up_no_name() -> None:
    """It has the next name that is free, which is still free then, or its own session's."""
    room = make()
    room.connect(peer("bob", session="0123456789abcdef"))
    assert room.name_of(Entry(name="BOB")) == "BOB-2"
    assert room.name_of(Entry(name="bob")) == "bob-2"
    assert room.name_of(Entry(name="x", session="0123456789abcdef")) == "bob"
    assert room.name_of(Entry(name="x", session="another-session-")) == "x"
    second = peer("bob")
    room.connect(second)
    assert second.name == "bob-2"
