"""Handshake slots: who may start, who waits, and who has to end for them."""

from __future__ import annotations

from broadcast_server.admission.handshake_slots import HandshakeSlots

ADDRESS, OTHER_ADDRESS = "192.0.2.1", "192.0.2.2"


def test_the_newest_goes_first() -> None:
    """As many start as there are slots, the newest first, and at most so many in a turn."""
    slots = HandshakeSlots(max_total=3, max_per_address=3, patience=2)
    for number in range(1, 6):
        slots.add(number, None)
    assert slots.next_turn(0.0, 2) == ((), (5, 4), 0.0)
    assert slots.next_turn(0.0, 2) == ((), (3,), 2.0)
    slots.remove(4)
    assert slots.next_turn(0.5, 2) == ((), (2,), 2.0)
    for number in range(1, 6):
        slots.remove(number)
    assert len(slots) == 0
    assert slots.next_turn(0.5, 2) == ((), (), None)


def test_an_address_waits_for_its_own_slots() -> None:
    """One address over its limit waits, and another starts meanwhile."""
    slots = HandshakeSlots(max_total=10, max_per_address=2, patience=2)
    slots.add(1, OTHER_ADDRESS)
    for number in range(2, 6):
        slots.add(number, ADDRESS)
    assert slots.next_turn(0.0, 9) == ((), (5, 4, 1), 2.0)
    slots.add(6, ADDRESS)
    slots.remove(5)
    assert slots.next_turn(0.0, 9) == ((), (6,), 2.0)
    slots.remove(3)
    slots.remove(2)
    assert slots.next_turn(0.0, 9) == ((), (), None)


def test_the_oldest_ends_for_one_that_waits() -> None:
    """A handshake that takes too long keeps its slot only as long as nobody waits for it."""
    slots = HandshakeSlots(max_total=4, max_per_address=2, patience=2)
    for number, key in enumerate((ADDRESS, ADDRESS, None, OTHER_ADDRESS), 1):
        slots.add(number, key)
        slots.next_turn(number / 10, 1)
    assert slots.next_turn(9.0, 9) == ((), (), None)
    slots.add(5, None)
    assert slots.next_turn(9.0, 9) == ((1,), (5,), None)
    slots.add(6, ADDRESS)
    slots.add(7, ADDRESS)  # in place of its own, although that of another address is older
    slots.add(8, OTHER_ADDRESS)
    assert slots.next_turn(9.0, 1) == ((2,), (8,), 9.0)
    assert slots.next_turn(9.0, 9) == ((3, 4), (7, 6), None)
    slots.add(9, ADDRESS)
    assert slots.next_turn(9.0, 9) == ((), (), 11.0)
