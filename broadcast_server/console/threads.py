"""Threads for calls that may block for any length of time, and that nobody waits for at exit.

Reading a console, writing to a reader that has paused, or resolving a host name cannot be
cancelled. A program waits at exit for the threads of asyncio and of concurrent.futures, so Ctrl+C
could not end it. The threads of this module are daemons, which are abandoned at exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def run_abandonable(
    call: Callable[[], Result],
    timeout: float | None = None,
    *,
    discard: Callable[[Result], object] = lambda _: None,
) -> Result:
    """Run *call* in a daemon thread, and return its result or raise its exception.

    A result that comes too late, or together with a cancellation, goes to *discard*, which may be
    called in that thread. Raises TimeoutError after *timeout* seconds.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.cancelled():
            if error is None:
                discard(result)  # type: ignore[arg-type]  # without an error it is a Result
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # without an error it is a Result

    def run() -> None:
        result: Result | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as raised:  # raised again in the coroutine that awaits the call
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # the loop was closed, so nobody awaits the call
            if error is None:
                discard(result)  # type: ignore[arg-type]

    threading.Thread(target=run, daemon=True).start()
    try:
        # Until Python 3.11, `asyncio.wait_for` ignores a cancellation that comes with the result.
        await asyncio.wait({done}, timeout=timeout)
    except asyncio.CancelledError:
        if done.done() and done.exception() is None:
            discard(done.result())
        raise
    finally:
        if not done.cancel():
            done.exception()  # otherwise asyncio would log it after a cancellation
    if done.cancelled():
        raise TimeoutError
    return done.result()
