"""The pace at which a room synchronises: how long it rests, and what ends a rest."""

from __future__ import annotations

import pytest

from django_site.replication.sync_pace import (
    BUSY_RATIO,
    GATHER_RATIO,
    MAX_REST_S,
    MIN_QUIET_S,
    QUIET_RATIO,
    REST_RATIO,
    Rest,
    SyncPace,
)

TOOK_S = 0.2


def pace(*, has_published: bool, took: float = TOOK_S) -> SyncPace:
    """Return the pace of a room that has synchronised from 1 to 1 + *took*."""
    it = SyncPace()
    it.synchronised(1, 1 + took, has_published=has_published)
    return it


def length(rest: Rest, begin: float, waits: bool, came: list[int]) -> float:
    """Return how long *rest* is, if *came* is how much has come each time that it asks."""
    now = begin
    numbers = iter(came)
    while seconds := rest.seconds(now, waits=waits, came=next(numbers, came[-1])):
        now += seconds
    return now - begin


def test_the_first_time_is_at_once() -> None:
    """A room that has done nothing yet does not rest."""
    assert SyncPace().rest(100).seconds(100, waits=True, came=1) == 0


@pytest.mark.parametrize("has_published", [True, False])
def test_a_quiet_room_does_not_rest(has_published: bool) -> None:
    """What comes long after the last time is logged, or read, at once."""
    now = 1 + TOOK_S * (1 + BUSY_RATIO)
    assert length(pace(has_published=has_published).rest(now), now, True, [1]) == 0


def test_who_only_reads_rests_for_a_share_of_the_work() -> None:
    """It rests from the end of its work, whatever waits elsewhere."""
    end = 1 + TOOK_S
    rest = pace(has_published=False).rest(end)
    assert length(rest, end, False, [1]) == pytest.approx(TOOK_S * REST_RATIO)
    later = end + TOOK_S * REST_RATIO
    assert length(pace(has_published=False).rest(later), later, False, [1]) == 0


def test_who_publishes_gathers_from_when_something_comes() -> None:
    """In a busy room, the rest begins with what comes: more is likely to follow."""
    later = 1 + TOOK_S + TOOK_S * REST_RATIO
    rest = pace(has_published=True).rest(later)
    assert length(rest, later, True, [*range(99)]) == pytest.approx(TOOK_S * GATHER_RATIO)
    rest = pace(has_published=True).rest(later)
    assert length(rest, later, False, [1]) == pytest.approx(TOOK_S * GATHER_RATIO)


@pytest.mark.parametrize(("came", "parts"), [([5, 5], 1), ([1, 2, 3, 3], 3)])
def test_a_rest_ends_when_nothing_more_comes(came: list[int], parts: int) -> None:
    """Clients that wait for their echo do not wait for the end of the rest."""
    end = 1 + TOOK_S
    rest = pace(has_published=True).rest(end)
    assert length(rest, end, True, came) == pytest.approx(parts * TOOK_S * QUIET_RATIO)


def test_a_short_work_has_a_rest_that_a_timer_can_measure() -> None:
    """The event loop's timers round up to a millisecond."""
    rest = pace(has_published=True, took=0.004).rest(1.004)
    assert rest.seconds(1.004, waits=True, came=1) == MIN_QUIET_S


@pytest.mark.parametrize("has_published", [True, False])
def test_the_rest_after_an_outage_is_short(has_published: bool) -> None:
    """It rests for a share of the time that its work took, but not of an outage."""
    rest = pace(has_published=has_published, took=64.0).rest(65.0)
    assert length(rest, 65.0, False, [1]) == pytest.approx(MAX_REST_S)
