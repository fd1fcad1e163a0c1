"""The brake: how long who guesses waits."""

from __future__ import annotations

from broadcast_server.brake import ADDRESSES, FREE, LONGEST, MEMORY, WAITING, Brake


def test_waits_double() -> None:
    """After a first failure that is free, each doubles the wait, up to a bound."""
    brake = Brake()
    waits = []
    for _ in range(9):
        waits.append(brake.wait("a", 0.0))
        brake.failed("a", 0.0)
    assert waits == [0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert FREE == 1 and LONGEST == 8.0


def test_others_do_not_wait() -> None:
    """The failures of one address are nothing to another."""
    brake = Brake()
    for _ in range(9):
        brake.failed("a", 0.0)
    assert brake.wait("b", 0.0) == 0.0


def test_failures_are_forgotten() -> None:
    """An address that was quiet for a while begins anew."""
    brake = Brake()
    for _ in range(9):
        brake.failed("a", 0.0)
    assert brake.wait("a", MEMORY) == LONGEST
    assert brake.wait("a", MEMORY + 1) == 0.0
    brake.failed("a", MEMORY + 1)
    assert brake.wait("a", MEMORY + 1) == 0.0


def test_attempts_side_by_side_are_bounded() -> None:
    """Who tries many at once is turned away when too many wait, until some have waited."""
    brake = Brake()
    for _ in range(3):
        brake.failed("a", 0.0)
    for _ in range(WAITING):
        assert brake.wait("a", 0.0) == 0.5
        brake.begin("a")
    assert brake.wait("a", 0.0) is None
    brake.end("a")
    assert brake.wait("a", 0.0) == 0.5


def test_addresses_are_bounded() -> None:
    """Of too many addresses the one that was quiet longest is forgotten."""
    brake = Brake()
    for number in range(ADDRESSES + 10):
        for _ in range(3):
            brake.failed(str(number), 0.0)
    brake.end("0")
    assert len(brake) == ADDRESSES
    assert brake.wait("9", 0.0) == 0.0 and brake.wait("10", 0.0) == 0.5
