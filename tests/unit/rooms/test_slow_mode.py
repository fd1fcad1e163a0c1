"""Slow mode: who has to wait for how long, by author and by address."""

from __future__ import annotations

from broadcast_server.rooms import slow_mode
from broadcast_server.rooms.slow_mode import SlowMode, too_soon

HOME, SCHOOL = "192.0.2.1", "198.51.100.7"


class Turns:
    """A room with one message in 30 seconds, a clock, and members by address."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.members = {HOME: 1, SCHOOL: 30}
        self.mode = SlowMode()

    def publish(self, *keys: str, address: str = "") -> float:
        """Let the author with *keys* publish. Return how long it has to wait, 0 if it did."""
        wait = self.mode.wait(
            keys,
            address,
            seconds=30,
            now=self.now,
            count_members=lambda: self.members.get(address, 0),
        )
        if not wait:
            self.mode.note(self.now, keys, address)
        return wait


def test_an_author_waits_by_any_of_its_keys() -> None:
    """Its session and its name count, each for itself, from its last message on."""
    turns = Turns()
    assert turns.publish("session", ":bob") == 0
    turns.now += 12
    assert turns.publish("session", ":rob") == turns.publish("other", ":bob") == 18
    assert turns.publish("other", ":eve") == 0
    turns.now += 17.5
    assert turns.publish("session", ":bob") == 0.5
    turns.now += 0.5
    assert turns.publish("session", ":bob") == 0
    assert turns.publish("other", ":eve") == 12
    assert too_soon(30, 0.5).text == "slow mode: one message in 30 s here, wait 1 s"


def test_a_new_session_at_the_same_address_gains_nothing() -> None:
    """Alone at an address, one has one message, however often one comes back."""
    turns = Turns()
    assert turns.publish("1", ":a", address=HOME) == 0
    turns.now += 10
    assert turns.publish("2", ":b", address=HOME) == 20
    assert turns.publish("2", ":b", address=SCHOOL) == 0, "another address is another one"
    assert turns.publish("3", ":c") == 0, "who has no address is known by session and name only"
    turns.now += 20
    assert turns.publish("2", ":d", address=HOME) == 10, "its own message counts as well"
    assert turns.publish("4", ":d", address=HOME) == 0


def test_a_class_behind_one_address_is_not_slowed() -> None:
    """Each of thirty has its message, and no more than thirty are let through for new sessions."""
    turns = Turns()
    for number in range(30):
        assert turns.publish(f"s{number}", f":n{number}", address=SCHOOL) == 0
        turns.now += 0.5
    assert turns.publish("new", ":new", address=SCHOOL) == 15, "until the first of them is over"
    turns.now += 15
    for number in range(30):  # in the same rhythm
        assert turns.publish(f"s{number}", f":n{number}", address=SCHOOL) == 0
        turns.now += 0.5
    turns.members[SCHOOL] = 10
    assert turns.publish("new", ":new", address=SCHOOL) == 25, "ten may be in the time left"


def test_what_is_remembered_is_bounded() -> None:
    """Whoever need not wait any more is forgotten, and beyond a limit the oldest is."""
    turns = Turns()
    for number in range(slow_mode.MAX_AUTHORS // 2 + 5):
        assert turns.publish(f"s{number}", f":n{number}", address=f"a{number}") == 0
    assert len(turns.mode._last) == slow_mode.MAX_AUTHORS
    assert turns.publish("s0", ":n0") == 0 and turns.publish("s9", ":n9") == 30
    turns.now += 30
    assert turns.publish("x", address=HOME) == 0
    assert len(turns.mode._last) == len(turns.mode._by_address) == 1
    turns.mode.clear()
    assert turns.publish("x", address=HOME) == 0
