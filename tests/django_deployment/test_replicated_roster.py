"""The replicated roster: what members are told when other processes change it."""

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


def rows(*names: str | None) -> list[Present]:
    """Return the rows of a roster with these names. None leaves out a row."""
    present = (Present(id, name or "", f"t{id}", False) for id, name in enumerate(names))
    return [each for each in present if each.name]


def events_for(roster: ReplicatedRoster, *names: str | None) -> list[Event]:
    """Apply the rows of *names* to *roster*, and return the events for everyone."""
    actions = roster.apply_arrivals(rows(*names), {}) + roster.apply_departures(rows(*names))
    return [each.event for each in actions if isinstance(each, Send) and each.to is None]


def test_a_new_name_on_the_roster() -> None:
    """A rename is announced with both names, and a participant of this process gets the new one."""
    roster, ours = (
        ReplicatedRoster("lobby", ReadPosition("e", 0), 100),
        Participant(JoinRequest(), "s", "bob"),
    )
    roster.participants["t0"] = ours
    events_for(roster, "bob", "carol")
    roster.room.connect(ours)
    assert events_for(roster, "robert", "carol") == [Renamed("bob", "robert")]
    assert ours.name == "robert" and ours in roster.room
    # It takes the name of a member that left, and a new member takes its old one.
    assert events_for(roster, "Carol", None, "robert") == [
        Left("carol", 1),
        Renamed("robert", "Carol"),
        Joined("robert", 2),
    ]


def test_no_two_have_one_name_at_any_time() -> None:
    """However names change between two reads, the events never show one name twice."""
    for names in itertools.product(("a", "b", "c", "d", None), repeat=3):
        if len({*names} - {None}) < sum(map(bool, names)):
            continue
        roster = ReplicatedRoster("lobby", ReadPosition("e", 0), 100)
        events_for(roster, "a", "b", "c")
        here = ["a", "b", "c"]
        for event in events_for(roster, *names):
            match event:
                case Renamed(name=name, to=to):
                    here[here.index(name)] = to
                case Left(name=name):
                    here.remove(name)
            assert len({name_key(name) for name in here}) == len(here), names
        assert sorted(here) == sorted(filter(None, names))
