"""The connection counter: clients in total and by key."""

from __future__ import annotations

from broadcast_server.admission.connection_counter import ConnectionCounter


def test_keys_without_a_client_are_forgotten() -> None:
    """It counts in total and by key, and remembers no key without a client."""
    counter = ConnectionCounter()
    for key in ("a", "a", "b", None):
        counter.add(key)
    assert counter.total == 4
    assert [counter.count(key) for key in ("a", "b", None)] == [2, 1, 0]
    for key in ("a", "a", None):
        counter.remove(key)
    assert (counter.total, counter.count("a"), counter.count("b")) == (1, 0, 1)
    assert counter._by_key == {"b": 1}
