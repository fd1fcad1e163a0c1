"""The batch timer: when a room ends its batch, and writes what has happened since the last one.

A write costs nearly the same for one message as for a hundred. So a busy room reads on for a while
before it writes again: it *rests*. A quiet room has rested already, and writes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REST_RATIO = 0.25
"""How long a room rests, as a share of the time that the last write took. It makes 1.6 times the
deliveries for each second of CPU time at 1,000 members."""

MAX_REST_S = 0.25
"""How long a room rests at most. A write that takes longer than four times that was none: the
process stood still in it, and should not be silent for another quarter of that time."""

MIN_ANNOUNCE_REST_S = 0.004
MAX_ANNOUNCE_REST_S = 0.1
"""How long a room rests after it has announced joins or leaves, until it writes only to announce
more of them. Nobody waits for those as for a message, and each write wakes everybody up. While they
come faster than the longer of these times, each rest is twice as long as the one before."""

CLOCK_RESOLUTION_S = 0.001
"""The resolution of the event loop's timers, which round a shorter time up to it. A room rests for
such a time by turns of the event loop."""

SHORT_REST_RATIO = 0.5
"""The share, instead of `REST_RATIO`, for a rest of `CLOCK_RESOLUTION_S` or less. A small room then
reads several messages of each sender at once, see `ReadBudget`."""

LONG_BATCH_BYTES = 32 * 2**10
"""After a batch that brought each member so many bytes the room does not rest. To write it costs by
the byte, and no less for being written later."""


class BatchTimer:
    """Calls *flush* when a batch is to end. All times are by the event loop's clock, in seconds."""

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._timer: asyncio.Handle | None = None
        self._at = 0.0  # what the timer is set to
        self.earliest = 0.0
        """When the room has rested."""
        self._earliest_announcement = 0.0
        self._announces = False  # whether a join or a leave is in the batch
        self._announced_at = 0.0
        self._announce_rest = 0.0

    @property
    def is_set(self) -> bool:
        """Whether the end of the batch is scheduled."""
        return self._timer is not None

    def schedule(self, *, announces: bool = False) -> None:
        """Schedule the end of the batch as soon as the room has rested.

        With *announces*, it is only for joins and leaves: see `MAX_ANNOUNCE_REST_S`. With uvloop,
        which accepts one connection in each turn of the loop, 1,000 clients that join 20 rooms at
        once take 0.6 times the CPU time for it. asyncio accepts them all in a few turns.
        """
        self._announces |= announces
        earliest = self._earliest_announcement if announces else self.earliest
        if self._timer is not None:
            if self._at <= earliest:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._at = earliest
        if earliest - loop.time() < CLOCK_RESOLUTION_S:
            self._timer = loop.call_soon(self._flush_when_rested)
        else:
            self._timer = loop.call_at(earliest, self._flush)

    def _flush_when_rested(self) -> None:
        """End the batch, or first let the event loop read what has come meanwhile."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._at:
            self._timer = loop.call_soon(self._flush_when_rested)
        else:
            self._flush()

    def clear(self) -> None:
        """Note that the batch ends now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def rest(self, begin: float, end: float, size: int = 0) -> None:
        """Let the room rest from a write of *size* bytes each that took from *begin* to *end*."""
        took = end - begin
        rest = max(took * REST_RATIO, min(took * SHORT_REST_RATIO, CLOCK_RESOLUTION_S))
        self.earliest = end + (0.0 if size > LONG_BATCH_BYTES else min(rest, MAX_REST_S))
        if self._announces:
            self._announces = False
            is_crowded = begin - self._announced_at < MAX_ANNOUNCE_REST_S
            longer = min(2 * self._announce_rest, MAX_ANNOUNCE_REST_S) if is_crowded else 0.0
            self._announced_at, self._announce_rest = end, max(longer, MIN_ANNOUNCE_REST_S)
            rest = max(self._announce_rest, min(end - begin, MAX_REST_S))
            self._earliest_announcement = end + rest
