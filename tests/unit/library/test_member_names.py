"""The member names: who is in a room, as far as its client was told."""

from __future__ import annotations

from broadcast_server.library.member_names import MAX_NAMES, MemberNames
from broadcast_server.protocol.messages import Event, Joined, Left, Members, Renamed, Welcome


def welcome(count: int, *names: str) -> Welcome:
    """Return a welcome to a room of *count* members, the first of whom are *names*."""
    return Welcome("lobby", "bob", "ep", 0, True, 0, count, names)


def test_names_and_their_number() -> None:
    """Each event changes both, and the order is that of the joins."""
    names = MemberNames()
    assert (names.names, names.count) == ((), 0)
    steps: list[tuple[Event, tuple[str, ...], int]] = [
        (welcome(2, "ann", "bob"), ("ann", "bob"), 2),
        (Joined("cid", 3, None), ("ann", "bob", "cid"), 3),
        (Renamed("ann", "zoe"), ("zoe", "bob", "cid"), 3),
        (Left("bob", 2), ("zoe", "cid"), 2),
        (Left("nobody", 2), ("zoe", "cid"), 2),
        (Members(2, ("dan", "eve")), ("dan", "eve"), 2),
        (welcome(1), ("bob",), 1),
    ]
    for event, expected, count in steps:
        names.apply(event)
        assert (names.names, names.count) == (expected, count), event
        assert names.is_complete


def test_a_room_of_which_not_all_names_are_known() -> None:
    """The number is right all the same, and a new name becomes known."""
    names = MemberNames()
    names.apply(welcome(500, "ann"))
    assert (names.names, names.count, names.is_complete) == (("ann", "bob"), 500, False)
    names.apply(Renamed("unknown", "known"))
    names.apply(Left("another", 499))
    assert (names.names, names.count, names.is_complete) == (("ann", "bob", "known"), 499, False)
    names.apply(Members(3, ("ann", "bob", "known")))
    assert names.is_complete


def test_a_renamed_member_keeps_its_place() -> None:
    """A name that somebody else has already is there once: a server that lies is believed last."""
    names = MemberNames()
    names.apply(welcome(3, "ann", "cid"))
    names.apply(Renamed("ann", "ann"))
    assert [*names.names] == ["ann", "cid", "bob"]
    names.apply(Renamed("cid", "ann"))
    assert [*names.names] == ["ann", "bob"]
    names.apply(Renamed("ann", "cid"))
    assert [*names.names] == ["cid", "bob"]
    names.apply(Joined("bob", 3, None))
    assert [*names.names] == ["cid", "bob"]


def test_names_without_end_are_bounded() -> None:
    """Whatever invents them; and those that are known go on being updated."""
    names = MemberNames()
    many = tuple(f"n{number}" for number in range(MAX_NAMES + 9))
    events: list[Event] = [
        Welcome("lobby", "bob", "ep", 0, True, 0, 1, many),
        Members(1, many),
    ]
    for event in events:
        names.apply(event)
        assert len(names.names) == MAX_NAMES, event
    names.apply(Welcome("lobby", "bob", "ep", 0, True, 0, 1, many))
    assert names.names[-1] == "bob"  # its own name is not the one that is left out
    names.apply(Joined("late", 1, None))
    names.apply(Renamed("unknown", "known"))
    assert len(names.names) == MAX_NAMES
    names.apply(Left("n0", 1))
    names.apply(Joined("late", 1, None))
    assert names.names[-1] == "late" and len(names.names) == MAX_NAMES
