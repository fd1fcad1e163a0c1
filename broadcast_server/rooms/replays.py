"""Replays: sends past messages to participants that are far behind, a slice of time after another.

A request for a whole history takes as much work as thousands of messages. So the participants of
all rooms that are far behind take turns (see `Turns`). In each turn of the event loop only one
slice of this work is done, and everything else goes on between two slices.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from .turns import Turns

if TYPE_CHECKING:
    from .participant import Participant

MIN_SLICE_S = 0.002
"""How long a slice takes at least while participants wait, and one chunk more. It delays everything
else by so much."""

MAX_SLICE_S = 0.05
"""How long a slice takes at most. Between the two it takes as long as the work between it and the
last one: a busy server spends half of its time on replays, so that they are not left behind."""


class ReplayRoom(Protocol):
    """What replays need of a room."""

    @property
    def replays_from(self) -> float:
        """The time, by the event loop's clock, before which it must not be asked to replay."""

    def replay(self, participant: Participant) -> bool:
        """Send *participant* the next chunk of the log. Return whether it can take another one."""


class Replays:
    """The replays of all rooms of a server."""

    def __init__(self) -> None:
        self._turns: Turns[tuple[ReplayRoom, Participant]] = Turns()
        self._timer: asyncio.Handle | None = None
        self._last_end: float | None = None  # of the last slice, None if nobody waited since then

    def add(self, room: ReplayRoom, participant: Participant) -> None:
        """Send *participant*, which is behind in *room*, what it lacks. It may wait already."""
        self._turns.add(participant.address, (room, participant))
        if self._timer is None or isinstance(self._timer, asyncio.TimerHandle):
            self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_soon(self._run_slice)

    def _run_slice(self) -> None:
        loop = asyncio.get_running_loop()
        now = begin = loop.time()
        between = 0.0 if self._last_end is None else begin - self._last_end
        end = begin + max(MIN_SLICE_S, min(between, MAX_SLICE_S))
        resting: list[tuple[ReplayRoom, Participant]] = []
        while self._turns and now < end:
            room, participant = turn = self._turns.take()
            if room.replays_from > now:
                resting.append(turn)
            elif room.replay(participant):
                self._turns.add(participant.address, turn)
            now = loop.time()
        self._timer, self._last_end = None, None
        if self._turns:
            self._last_end = now
            self._schedule()
        elif resting:
            earliest = min(room.replays_from for room, _ in resting)
            self._timer = loop.call_at(earliest, self._run_slice)
        for room, participant in resting:
            self._turns.add(participant.address, (room, participant))
