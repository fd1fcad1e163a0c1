"""A thread: for a call that may block for as long as it likes.

Reading a console, writing to a reader that pauses, asking for an address: none
of them can be taken back. The threads of asyncio and of concurrent.futures are
waited for when a program ends, so that it could not be left by Ctrl+C; these
are abandoned.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result]) -> Result:
    """Return what *call* returns, made in a thread that nothing waits for at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # None is a Result here

    def run() -> None:
        result: Result | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as raised:  # it is raised where the call is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed, we left
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
