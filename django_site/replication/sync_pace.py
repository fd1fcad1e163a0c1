"""The pace at which a room synchronises: how long it rests before, while more is published.

A transaction and a frame for everyone cost nearly the same for one message as for a hundred. So a
busy room lets messages come together, and a quiet room does not wait. Pure: times are the caller's,
in seconds.
"""

from __future__ import annotations

REST_RATIO = 0.5
"""How long it rests before it synchronises again, as a share of what the last time took, with
writing to everyone."""

GATHER_RATIO = 1.0
"""How long it rests at most when it is told of something new, as the same share, if it is busy. The
messages of several clients do not come at once. And those of other processes and those of this one
go together: a client of this process gets messages of another one, and sends the next."""

BUSY_RATIO = 3.0
"""It is busy if it has published, and if that was not longer ago than this share."""

QUIET_RATIO = 0.125
MIN_QUIET_S = 0.001
"""The rest ends early if something waits to be logged, and nothing more has come for this share, or
for the resolution of the event loop's timers. Clients that wait for their echo before they send
more would wait for nothing."""

MAX_REST_S = 0.5
"""How long it rests at most. What took longer than twice that was not work: the database was locked
or away, or this process stood still."""


class SyncPace:
    """The pace of one room.

    Without the end of a rest by quiet, a third of the time of 100 members who wait for their echo
    was rest. With the gathering, two processes that publish have 0.8 times the transactions, and
    make 1.1 to 1.2 times the deliveries of a second of CPU: they read and write once for a batch.
    """

    def __init__(self) -> None:
        self._ended = 0.0
        self._took = 0.0
        self._has_published = False

    def synchronised(self, begin: float, end: float, *, has_published: bool) -> None:
        """Note that it has synchronised and written to everyone, from *begin* to *end*."""
        self._ended, self._took, self._has_published = end, end - begin, has_published

    def rest(self, now: float) -> Rest:
        """Return the rest before it synchronises, which begins *now*."""
        until = self._ended + min(self._took * REST_RATIO, MAX_REST_S)
        if self._has_published and now - self._ended < self._took * BUSY_RATIO:
            until = max(until, now + min(self._took * GATHER_RATIO, MAX_REST_S))
        return Rest(until, max(min(self._took * QUIET_RATIO, MAX_REST_S), MIN_QUIET_S))


class Rest:
    """A rest up to the time *until*, or until nothing has come for *quiet* seconds."""

    def __init__(self, until: float, quiet: float) -> None:
        self._until = until
        self._quiet = quiet
        self._came = -1

    def seconds(self, now: float, *, waits: bool, came: int) -> float:
        """Return for how long to sleep before you ask again, 0 if the rest is over.

        *waits* is whether something waits to be logged, and *came* how much has come so far.
        """
        is_quiet = waits and came == self._came
        self._came = came
        left = self._until - now
        return 0.0 if is_quiet or left <= 0 else min(left, self._quiet)
