"""The time limit: waits for something, but not for longer than that, and loses no cancellation.

Until Python 3.11, `asyncio.wait_for` swallows a cancellation that comes in the same turn of the
loop as the result: it returns the result, and its task goes on. `asyncio.timeout` is right, but
Python 3.10 does not have it. Nothing in this project calls `asyncio.wait_for`: ruff rejects it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def run_within(
    awaitable: Awaitable[Result],
    seconds: float | None,
    *,
    discard: Callable[[Result], object] = lambda _: None,
) -> Result:
    """Run *awaitable* as a task, and return its result or raise its exception.

    It has ended when this returns or raises, whatever happens meanwhile.

    Args:
        awaitable: What to wait for.
        seconds: The time limit; None for none.
        discard: Called with a result that comes together with a cancellation, and is lost.

    Raises:
        asyncio.TimeoutError: There was no result in time. The awaitable was cancelled.

    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task}, timeout=seconds)
        is_late = not task.done()
        if is_late:
            task.cancel()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):  # cancelled once more: it is raised below
                await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            discard(task.result())
        raise
    if is_late and task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def run_to_end(awaitable: Awaitable[Result]) -> Result:
    """Run *awaitable* as a task to its end, also if this is cancelled, however often.

    A cancellation is raised afterwards. It is for an end that takes a bounded time: when Ctrl+C
    ends a program, Python 3.10 cancels all tasks, and those that end others cancel them once more.
    """
    task = asyncio.ensure_future(awaitable)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # asyncio would log it
        raise cancelled
    return task.result()
