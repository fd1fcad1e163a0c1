"""The replicated room: what members are told when other processes change the roster."""

from __future__ import annotations

import itertools

import django_client  # noqa: F401  # it sets Django up

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Event, Joined, Left, Renamed
from broadcast_server.protocol.names import name_key
from broadcast_server.rooms.actions import Send
from broadcast_server.rooms.participant import Participant
from django_site.replication.replicated_roster import ReadPosition, ReplicatedRoster
from django_site.store.presence import Present


def roster(*names: str | None) -> list[Present]:
    """Return a roster of these names. None leaves out a row."""
    present = (Present(id, name or "", f"t{id}", False) for id, name in enumerate(names))
    return [each for each in present if each.name]


def events_for(room: ReplicatedRoster, *names: str | None) -> list[Event]:
    """Apply a roster to *room*, and return the events for everyone."""
    actions = room.apply_arrivals(roster(*names), {}) + room.apply_departures(roster(*names), {})
    return [each.event for each in actions if isinstance(each, Send) and each.to is None]


def test_a_new_name_on_the_roster() -> None:
    """A rename is announced with both names, and a participant of this process gets the new one."""
    room, ours = (
        ReplicatedRoster("lobby", ReadPosition("e", 0), 100),
        Participant(JoinRequest(), "s", "bob"),
    )
    room.participants["t0"] = ours
    events_for(room, "bob", "carol")
    room.room.connect(ours)
    assert events_for(room, "robert", "carol") == [Renamed("bob", "robert")]
    assert ours.name == "robert" and ours in room.room
    # It takes the name of a member that left, and a new member takes its old one.
    assert events_for(room, "Carol", None, "robert") == [
        Left("carol", 1),
        Renamed("robert", "Carol"),
        Joined("robert", 2),
    ]


def test_no_two_have_one_name_at_any_time() -> None:
    """However names change between two reads, the events never show one name twice."""
    for names in itertools.product(("a", "b", "c", "d", None), repeat=3):
        if len({*names} - {None}) < sum(map(bool, names)):
            continue
        room = ReplicatedRoster("lobby", ReadPosition("e", 0), 100)
        events_for(room, "a", "b", "c")
        here = ["a", "b", "c"]
        for event in events_for(room, *names):
            match event:
                case Renamed(name=name, to=to):
                    here[here.index(name)] = to
                case Left(name=name):
                    here.remove(name)
            assert len({name_key(name) for name in here}) == len(here), names
        assert sorted(here) == sorted(filter(None, names))
