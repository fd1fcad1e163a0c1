"""Pending connections: which one has to be closed for a new one."""

from __future__ import annotations

from broadcast_server.admission.pending import RESERVED_FILES, PendingConnections

ADDRESS, OTHER_ADDRESS = "192.0.2.1", "192.0.2.2"


def test_the_oldest_connection_of_an_address_is_replaced() -> None:
    """An address over its limit loses its own oldest connection; others lose none."""
    pending = PendingConnections(10, 2, None)
    assert [pending.add(number, ADDRESS) for number in (1, 2)] == [None, None]
    assert pending.add(3, OTHER_ADDRESS) is None
    assert [pending.add(number, ADDRESS) for number in (4, 5)] == [1, 2]
    assert len(pending) == 3


def test_the_oldest_connection_of_all_is_replaced() -> None:
    """Over the total limit the oldest goes; connections without a key count in the total."""
    pending = PendingConnections(3, 3, None)
    assert [pending.add(number, None) for number in (1, 2, 3)] == [None, None, None]
    assert [pending.add(number, ADDRESS) for number in (4, 5)] == [1, 2]


def test_an_admitted_connection_is_not_replaced() -> None:
    """A connection that was admitted is no longer pending, and is never replaced."""
    pending = PendingConnections(1, 1, None)
    assert pending.add(1, ADDRESS) is None
    pending.joined(1)
    assert [pending.add(number, ADDRESS) for number in (2, 3)] == [None, 2]


def test_admitted_connections_count_against_the_file_limit() -> None:
    """Pending and admitted connections share the files; at the limit none is accepted."""
    pending = PendingConnections(10, 10, RESERVED_FILES + 2)
    assert [pending.add(number, ADDRESS) for number in (1, 2)] == [None, None]
    pending.joined(1)
    assert pending.add(3, ADDRESS) == 2
    assert pending.full
    pending.closed(2)
    assert not pending.full
    assert pending.add(4, ADDRESS) == 3


def test_closed_connections_leave_nothing_behind() -> None:
    """When all connections are closed, nothing is remembered of them."""
    pending = PendingConnections(2, 1, None)
    for number in range(4):
        pending.add(number, ADDRESS)
    pending.joined(3)
    for number in range(4):
        pending.closed(number)
    assert (len(pending), pending._by_key, pending._open) == (0, {}, 0)
