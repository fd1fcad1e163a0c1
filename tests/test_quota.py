"""Quotas: buckets, tallies, and joins by the second."""

from __future__ import annotations

from broadcast_server.quota import BURST, PLACES, Bucket, Joins, Tally


def test_a_bucket_fills_with_time() -> None:
    """So many at once, then so many a second, and never more saved up than it holds."""
    bucket = Bucket(10, 5, 0.0)
    assert bucket.fill(0.0) == 5
    bucket.take(5)
    assert bucket.fill(0.0) == 0 and bucket.wait() == 0.1
    assert bucket.fill(0.2) == 2
    assert bucket.fill(100.0) == 5


def test_a_bucket_can_owe() -> None:
    """What is taken beyond what there is has to be waited for."""
    bucket = Bucket(10, 5, 0.0)
    bucket.take(15)
    assert bucket.wait() == 1.1
    assert bucket.fill(1.0) == 0


def test_a_tally_forgets_places_that_nobody_is_at() -> None:
    """It counts in all and by place, and keeps no place that is empty."""
    tally = Tally()
    for place in ("a", "a", "b", None):
        tally.add(place)
    assert (tally.all, tally.at("a"), tally.at("b"), tally.at(None)) == (4, 2, 1, 0)
    for place in ("a", "a", None):
        tally.drop(place)
    assert (tally.all, tally.at("a"), tally.at("b")) == (1, 0, 1)
    assert tally._by == {"b": 1}


def test_joins_by_the_second() -> None:
    """A place may join in a burst, then by its rate; no place at all may always."""
    joins = Joins(2)
    assert [joins.take("a", 0.0) for _ in range(2 * BURST + 1)] == [True] * 2 * BURST + [False]
    assert joins.take("b", 0.0)
    assert [joins.take("a", 1.0) for _ in range(3)] == [True, True, False]
    assert all(joins.take(None, 0.0) for _ in range(1000))


def test_places_are_bounded() -> None:
    """However many places join, few are remembered."""
    joins = Joins(1)
    for number in range(PLACES + 10):
        joins.take(str(number), 0.0)
    assert len(joins) == PLACES
