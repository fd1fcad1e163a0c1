"""Kept names: for whom, for how long and how many."""

from __future__ import annotations

import pytest

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import CloseCode
from broadcast_server.protocol.rejection import BINARY, REPLACED, TOO_SLOW, Rejection
from broadcast_server.rooms.kept_names import KEEP_S, MAX_KEPT_NAMES, KeptName, KeptNames
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class House:
    """A room with kept names, and their clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kept_names = KeptNames(self.clock)
        self.room = Room("lobby", MessageLog(), 4096, kept_names=self.kept_names)

    def join(self, name: str, session: str | None = None, address: str = "") -> Participant:
        """Add a member."""
        join = JoinRequest(name=name, session=session)
        member = Participant(join, session or "#", address=address)
        self.room.connect(member)
        return member


@pytest.fixture
def house() -> House:
    """A room without members."""
    return House()


def test_a_session_finds_its_name_again(house: House) -> None:
    """Until its session comes back, nobody else gets the name: by joining, renaming or posting."""
    bob = house.join("Bob", "=b")
    house.room.disconnect(bob, 1006)
    eve = house.join("bob", "=e")
    assert eve.name == "bob-2"
    assert house.room.author_name(JoinRequest(name="BOB")) == "BOB-3"
    assert house.room.author_name(JoinRequest(name="x", session="=b")) == "Bob"
    house.room.receive(eve, "hi")
    assert [house.join("bob").name, house.join("x", "=b").name] == ["bob-3", "Bob"]
    assert not list(house.kept_names)


def test_a_number_is_kept_like_a_name(house: House) -> None:
    """Who was bob-2 is bob-2 again, also if it asks for bob, and in whatever order they return."""
    members = [house.join("bob", f"={number}") for number in range(4)]
    names = [member.name for member in members]
    for member in members:
        house.room.disconnect(member, 1006)
    assert house.join("bob").name == "bob-5"
    again = {number: house.join("bob", f"={number}").name for number in (2, 0, 3, 1)}
    assert [again[number] for number in range(4)] == names == ["bob", "bob-2", "bob-3", "bob-4"]


def test_a_name_is_kept_for_its_time(house: House) -> None:
    """When the time is over, the name is free, and the session is like any other."""
    house.room.disconnect(house.join("bob", "=b"), 1006)
    house.room.disconnect(house.join("bob-2", "=c"), 1006)
    house.clock.now += KEEP_S - 0.1
    assert house.join("bob").name == "bob-3"
    house.clock.now += 0.1
    assert [house.join("bob").name for _ in range(2)] == ["bob", "bob-2"]
    assert house.join("x", "=b").name == "x"


@pytest.mark.parametrize(
    ("code", "kept"),
    [(1006, True), (1011, True), (1000, False), (1001, False), (1005, False), (1009, False)],
)
def test_only_who_was_cut_off_keeps_its_name(house: House, code: int, kept: bool) -> None:
    """A client that closes its connection, or breaks the protocol, keeps no name."""
    house.room.disconnect(house.join("bob", "=b"), code)
    assert (house.join("bob").name == "bob-2") is kept


@pytest.mark.parametrize(
    ("rejection", "kept"), [(TOO_SLOW, True), (BINARY, False), (REPLACED, False)]
)
def test_only_who_may_come_back_keeps_its_name(
    house: House, rejection: Rejection, kept: bool
) -> None:
    """A client that is closed keeps its name if the code tells it to come back."""
    house.room.kick(house.join("bob", "=b"), rejection)
    assert (house.join("bob").name == "bob-2") is kept
    assert CloseCode.is_final(rejection.code) is not kept


def test_without_a_session_no_name_is_kept(house: House) -> None:
    """Nobody could prove that the name was theirs."""
    house.room.disconnect(house.join("bob"), 1006)
    assert house.join("bob").name == "bob"


def test_all_names_are_kept_when_the_server_stops(house: House) -> None:
    """A server that stops keeps the names of all members with a session."""
    house.join("bob", "=b"), house.join("eve"), house.join("bob", "=c")
    house.room.stop()
    kept = [KeptName("lobby", "=b", "bob"), KeptName("lobby", "=c", "bob-2")]
    assert list(house.kept_names) == kept


def test_the_kept_names_are_bounded(house: House) -> None:
    """Beyond the bound, the oldest name is free; a session keeps one name in each room."""
    for number in range(MAX_KEPT_NAMES + 1):
        house.room.disconnect(house.join(f"n{number}", f"={number}"), 1006)
    assert len(house.kept_names) == MAX_KEPT_NAMES == len(house.kept_names._sessions)
    assert [house.join(name).name for name in ("n0", "n1")] == ["n0", "n1-2"]
    for number in range(3):
        house.room.disconnect(house.join(f"m{number}", "=m"), 1006)
        assert house.kept_names.find("lobby", "=m") == "m0"
    other = Room("ops", MessageLog(), 4096, kept_names=house.kept_names)
    member = Participant(JoinRequest(name="m0", session="=m"), "=m")
    other.connect(member)
    assert member.name == "m0"


@pytest.mark.parametrize("addresses", [1, 2, 3])
@pytest.mark.parametrize("at_once", [False, True])
def test_one_address_pushes_out_its_own_names(house: House, addresses: int, at_once: bool) -> None:
    """However many names are kept for an address, others keep theirs, up to an equal share."""
    quiet = MAX_KEPT_NAMES // 10
    for number in range(quiet):
        house.room.disconnect(house.join(f"n{number}", f"=n{number}", "192.0.2.1"), 1006)
    loud = [
        house.join(f"m{number}", f"=m{number}", f"198.51.100.{number % addresses}")
        for number in range(2 * MAX_KEPT_NAMES)
    ]
    if at_once:
        house.room.stop()
    for member in () if at_once else loud:
        house.room.disconnect(member, 1006)
    assert len(house.kept_names) == MAX_KEPT_NAMES
    for number in range(quiet):
        assert house.kept_names.find("lobby", f"=n{number}") == f"n{number}"
    kept = [each.name for each in house.kept_names if each.name.startswith("m")]
    assert kept == [member.name for member in loud[-len(kept) :]]
    house.clock.now += KEEP_S
    assert not list(house.kept_names)
    assert not house.kept_names._by_address
