"""The porch: who has to go for whom."""

from __future__ import annotations

from broadcast_server.porch import OURS, Porch

HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_the_oldest_of_a_place_goes() -> None:
    """A place that has too many loses its own oldest, and nobody else anything."""
    porch = Porch(10, 2, None)
    assert [porch.come(number, HERE) for number in (1, 2)] == [None, None]
    assert porch.come(3, THERE) is None
    assert [porch.come(number, HERE) for number in (4, 5)] == [1, 2]
    assert len(porch) == 3


def test_the_oldest_of_all_goes() -> None:
    """When there are too many in all the oldest goes; who has no place counts as well."""
    porch = Porch(3, 3, None)
    assert [porch.come(number, None) for number in (1, 2, 3)] == [None, None, None]
    assert [porch.come(number, HERE) for number in (4, 5)] == [1, 2]


def test_who_is_in_stays() -> None:
    """Who went in stands there no more, and never has to go."""
    porch = Porch(1, 1, None)
    assert porch.come(1, HERE) is None
    porch.leave(1)
    assert [porch.come(number, HERE) for number in (2, 3)] == [None, 2]


def test_files_are_shared_with_who_is_in() -> None:
    """With those who are in there are no more than files, and nobody comes until one is gone."""
    porch = Porch(10, 10, OURS + 2)
    assert [porch.come(number, HERE) for number in (1, 2)] == [None, None]
    porch.leave(1)
    assert porch.come(3, HERE) == 2
    assert porch.full
    porch.gone(2)
    assert not porch.full
    assert porch.come(4, HERE) == 3


def test_nothing_is_kept_of_those_who_are_gone() -> None:
    """When all are gone nothing is remembered of them."""
    porch = Porch(2, 1, None)
    for number in range(4):
        porch.come(number, HERE)
    porch.leave(3)
    for number in range(4):
        porch.gone(number)
    assert (len(porch), porch._by, porch._open) == (0, {}, 0)
