"""Restrictions: whom they hold for, for how long and how many there are."""

from __future__ import annotations

import pytest

from broadcast_server.rooms.restrictions import (
    KICK_S,
    MAX_NAMES,
    MAX_RESTRICTIONS,
    MUTE_S,
    Identity,
    Restrictions,
)

BOB = Identity("=b", "bob", "192.0.2.1")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def restrictions(clock: Clock) -> Restrictions:
    """No restrictions yet."""
    return Restrictions(clock)


@pytest.mark.parametrize(
    "client",
    [
        Identity("=b"),
        Identity(name="BOB"),
        Identity(name="B0B"),
        Identity("=x", "eve", "192.0.2.1"),
        Identity("=x", "bob", "192.0.2.2"),
    ],
)
def test_it_holds_for_everything_that_is_known(
    client: Identity, restrictions: Restrictions
) -> None:
    """A session, a name that looks alike or an address is enough, in that room and of that kind."""
    restrictions.add("kick", "lobby", BOB)
    assert restrictions.time_left("kick", "lobby", client) == KICK_S
    assert not restrictions.time_left("mute", "lobby", client)
    assert not restrictions.time_left("kick", "ops", client)


@pytest.mark.parametrize(
    "client", [Identity("=x", "bob-2", "192.0.2.2"), Identity("", "", ""), Identity("bob", "=b")]
)
def test_it_holds_for_nobody_else(client: Identity, restrictions: Restrictions) -> None:
    """Another session, name and address is somebody else."""
    restrictions.add("kick", "lobby", BOB)
    assert not restrictions.time_left("kick", "lobby", client)


@pytest.mark.parametrize("name", ["anonymous", "Anonymous", "anonymous-2", "an0nymous-17"])
def test_the_default_name_is_nobodys(name: str, restrictions: Restrictions) -> None:
    """A name that everyone gets who asks for none keeps nobody else out."""
    restrictions.add("kick", "lobby", Identity("#1", name))
    assert not restrictions.time_left("kick", "lobby", Identity("#2", name))
    assert restrictions.time_left("kick", "lobby", Identity("#1"))


def test_it_ends(clock: Clock, restrictions: Restrictions) -> None:
    """A kick ends after minutes, a mute after a day, and nothing of them is left."""
    restrictions.add("kick", "lobby", BOB)
    restrictions.add("mute", "lobby", BOB)
    clock.now += KICK_S - 1
    assert restrictions.time_left("kick", "lobby", BOB) == 1.0
    clock.now += 1
    assert not restrictions.time_left("kick", "lobby", BOB)
    assert restrictions.time_left("mute", "lobby", BOB) == MUTE_S - KICK_S
    clock.now += MUTE_S
    assert not restrictions.time_left("mute", "lobby", BOB)
    assert not len(restrictions) and not restrictions._by_key


def test_it_holds_for_new_names(restrictions: Restrictions) -> None:
    """A new name is added; the first one stays, and of the others the last."""
    restrictions.add("mute", "lobby", BOB)
    for number in range(3 * MAX_NAMES):
        restrictions.add_name("mute", "lobby", Identity("=b"), f"b{number}")
    held = [f"b{n}" for n in range(3 * MAX_NAMES)]
    found = [n for n in held if restrictions.time_left("mute", "lobby", Identity(name=n))]
    assert found == held[1 - MAX_NAMES :]
    assert restrictions.time_left("mute", "lobby", Identity(name="bob"))
    restrictions.add_name("mute", "lobby", Identity("=nobody"), "eve")
    assert not restrictions.time_left("mute", "lobby", Identity(name="eve"))


def test_it_is_removed_by_any_name(restrictions: Restrictions) -> None:
    """Who is unmuted by one of its names is unmuted altogether."""
    restrictions.add("mute", "lobby", BOB)
    restrictions.add_name("mute", "lobby", BOB, "bobby")
    assert restrictions.remove("mute", "lobby", Identity(name="bobby"))
    assert not restrictions.time_left("mute", "lobby", BOB)
    assert not restrictions.remove("mute", "lobby", BOB)
    assert not restrictions._by_key


def test_removing_by_the_address_only_leaves_the_rest(restrictions: Restrictions) -> None:
    """Somebody who only shares the address is let off, and who was restricted first is not."""
    restrictions.add("mute", "lobby", BOB)
    eve = Identity("=e", "eve", BOB.address)
    assert restrictions.remove("mute", "lobby", eve)
    assert not restrictions.time_left("mute", "lobby", eve)
    assert restrictions.time_left("mute", "lobby", BOB)


def test_their_number_is_bounded(restrictions: Restrictions) -> None:
    """Beyond the limit the oldest one ends, and nothing of it is left in memory."""
    for number in range(MAX_RESTRICTIONS + 50):
        restrictions.add("mute", "lobby", Identity(f"={number}", f"b{number}", f"a{number}"))
    assert len(restrictions) == MAX_RESTRICTIONS
    assert len(restrictions._by_key) == 3 * MAX_RESTRICTIONS
    assert not restrictions.time_left("mute", "lobby", Identity("=49"))
    assert restrictions.time_left("mute", "lobby", Identity("=50"))
    restrictions.add("mute", "lobby", Identity("=50", "b50", "a50"))
    assert len(restrictions) == MAX_RESTRICTIONS
