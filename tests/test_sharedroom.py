"""The shared room: what its members are told of a roster that others change as well."""

from __future__ import annotations

import itertools

import hosted  # noqa: F401  # its settings, which the site's modules need

from broadcast_server.entry import Entry
from broadcast_server.names import name_key
from broadcast_server.protocol import Event, Joined, Left, Renamed
from broadcast_server.room import Peer, Send
from django_site.presence import Present
from django_site.sharedroom import Reach, SharedRoom


def roster(*names: str | None) -> list[Present]:
    """List who is here; whoever is None is not."""
    present = (Present(id, name or "", f"t{id}", False) for id, name in enumerate(names))
    return [each for each in present if each.name]


def told(room: SharedRoom, *names: str | None) -> list[Event]:
    """Show *room* a roster, and return what it tells everyone."""
    actions = room.arrive(roster(*names), {}) + room.depart(roster(*names), {})
    return [each.event for each in actions if isinstance(each, Send) and each.to is None]


def test_a_new_name_on_the_roster() -> None:
    """Who has another name is told under both, and is known by the new one if it is ours."""
    room, ours = SharedRoom("lobby", Reach("e", 0), 100), Peer(Entry(), "s", "bob")
    room.tokens["t0"] = ours
    told(room, "bob", "carol")
    room.connect(ours)
    assert told(room, "robert", "carol") == [Renamed("bob", "robert")]
    assert ours.name == "robert" and ours in room
    # Its old name is another's at once, and its new one somebody's who left.
    assert told(room, "Carol", None, "robert") == [
        Left("carol", 1),
        Renamed("robert", "Carol"),
        Joined("robert", 2),
    ]


def test_no_two_have_one_name_at_any_time() -> None:
    """However names changed hands between two looks, who follows the news knows who is here."""
    for names in itertools.product(("a", "b", "c", "d", None), repeat=3):
        if len({*names} - {None}) < sum(map(bool, names)):
            continue
        room = SharedRoom("lobby", Reach("e", 0), 100)
        told(room, "a", "b", "c")
        here = ["a", "b", "c"]
        for event in told(room, *names):
            match event:
                case Renamed(name=name, to=to):
                    here[here.index(name)] = to
                case Left(name=name):
                    here.remove(name)
            assert len({name_key(name) for name in here}) == len(here), names
        assert sorted(here) == sorted(filter(None, names))
