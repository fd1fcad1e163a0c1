"""The admission batch: puts those who join at the same time on the roster in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from broadcast_server.rooms.participant import Participant
from django_site.store.presence import JoinAttempt
from django_site.store.rejections import Rejected

MAX_BATCH_JOINS = 64
"""How many join in one transaction, for which messages wait."""


@dataclass(slots=True, eq=False)
class _Waiting:
    attempt: JoinAttempt
    future: asyncio.Future[Participant] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class AdmissionBatch:
    """Collects the join attempts of one room in one process.

    Args:
        before: is awaited before each batch.
        join: puts attempts on the roster, and returns the name of each, or why it is rejected.
        joined: takes note of an attempt that is on the roster now, under that name.
        sync: reads the roster, so that the room knows those who have joined.

    """

    def __init__(
        self,
        before: Callable[[], Awaitable[None]],
        join: Callable[[Sequence[JoinAttempt]], Awaitable[list[str | Rejected]]],
        joined: Callable[[JoinAttempt, str], Participant],
        sync: Callable[[], Awaitable[None]],
    ) -> None:
        self._before = before
        self._join = join
        self._joined = joined
        self._sync = sync
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that admits, which the owner of the batch cancels in the end."""
        return self._task

    async def admit(self, attempt: JoinAttempt) -> Participant:
        """Put *attempt* on the roster. Raises `Rejected`, or a database's error."""
        waiting = _Waiting(attempt)
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._admit_all())
        return await waiting.future

    async def _admit_all(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MAX_BATCH_JOINS]
                del self._waiting[:MAX_BATCH_JOINS]
                try:
                    await self._admit_batch(batch)
                except Exception as error:
                    for waiting in batch:
                        if not waiting.future.done():
                            waiting.future.set_exception(error)
        finally:  # the room is closed while some still wait
            for waiting in self._waiting:
                waiting.future.cancel()

    async def _admit_batch(self, batch: Sequence[_Waiting]) -> None:
        await self._before()
        batch = [waiting for waiting in batch if not waiting.future.done()]  # some may be lost now
        names = await self._join([waiting.attempt for waiting in batch])
        admitted: list[tuple[_Waiting, Participant]] = []
        for waiting, name in zip(batch, names, strict=True):
            if waiting.future.done():  # its connection is lost, and it will leave the roster
                continue
            if isinstance(name, Rejected):
                waiting.future.set_exception(name)
            else:
                admitted.append((waiting, self._joined(waiting.attempt, name)))
        await self._sync()
        for waiting, participant in admitted:
            if not waiting.future.done():
                waiting.future.set_result(participant)
