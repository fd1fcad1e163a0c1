"""The batch timer: how long a room rests after a write."""

from __future__ import annotations

import asyncio

import pytest

from broadcast_server.rooms.batch_timer import (
    CLOCK_RESOLUTION_S,
    LONG_BATCH_BYTES,
    MAX_REST_S,
    REST_RATIO,
    SHORT_REST_RATIO,
    BatchTimer,
)


@pytest.mark.parametrize(
    ("took", "size", "rest"),
    [
        (0.0, 100, 0.0),
        (0.0008, 100, 0.0008 * SHORT_REST_RATIO),
        (0.003, 100, CLOCK_RESOLUTION_S),
        (0.1, 100, 0.1 * REST_RATIO),
        (10.0, 100, MAX_REST_S),
        (0.1, LONG_BATCH_BYTES, 0.1 * REST_RATIO),
        (0.1, LONG_BATCH_BYTES + 1, 0.0),
    ],
)
def test_a_rest_is_a_share_of_the_write(took: float, size: int, rest: float) -> None:
    """It is a larger share of a short write, and nothing after a batch of many bytes."""
    timer = BatchTimer(lambda: None)
    timer.rest(0.0, took, size)
    assert timer.earliest == pytest.approx(took + rest)


def test_a_short_rest_lets_the_loop_go_round() -> None:
    """A rest that no timer can measure still ends after its time, not at once."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        timer = BatchTimer(lambda: ended.set_result(loop.time()))
        begin = loop.time()
        timer.rest(begin - CLOCK_RESOLUTION_S, begin)
        timer.schedule()
        assert await ended >= begin + SHORT_REST_RATIO * CLOCK_RESOLUTION_S

    asyncio.run(scenario())
