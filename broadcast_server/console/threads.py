"""Threads for calls that may block for any length of time, and that nobody waits for at exit.

Reading a console, writing to a reader that has paused, or resolving a host name cannot be
cancelled. A program waits at exit for the threads of asyncio and of concurrent.futures, so Ctrl+C
could not end it. The threads of this module are daemons, which are abandoned at exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def run_abandonable(call: Callable[[], Result], timeout: float | None = None) -> Result:
    """Run *call* in a daemon thread, and return its result or raise its exception.

    Raises TimeoutError after *timeout* seconds.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.cancelled():
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
        with suppress(RuntimeError):  # the loop was closed, so nobody awaits the call
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    try:
        # Until Python 3.11, `asyncio.wait_for` ignores a cancellation that comes with the result.
        await asyncio.wait({done}, timeout=timeout)
    finally:
        if not done.cancel():
            done.exception()  # otherwise asyncio would log it after a cancellation
    if done.cancelled():
        raise TimeoutError
    return done.result()
