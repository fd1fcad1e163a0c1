"""The loop thread: an event loop in a thread of its own, for programs without asyncio."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")

POLL_INTERVAL_S = 0.2 if sys.platform == "win32" else None
"""How often a waiting thread looks around: on Windows, Ctrl+C does not interrupt a lock."""


MAX_END_S = 1.0
"""Seconds in which calls of other threads can end when the thread is stopped."""


class ThreadEndedError(Exception):
    """The thread of the loop has ended before the call."""


class LoopThread:
    """Runs coroutines in an event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="broadcast_server", daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether this is a child process, which has no thread but the one that forked."""
        return os.getpid() != self._process

    def run(self, make: Callable[[], Awaitable[Result]]) -> Result:
        """Await what *make* returns, and return its result or raise its exception.

        If the calling thread is interrupted meanwhile, it is cancelled. Raises ThreadEndedError if
        the thread of the loop ends before.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("it would wait for its own thread (use connect, with await)")
        if self.is_lost:
            raise RuntimeError(
                "this process was forked, and has no thread for it"
                " (connect or serve in this process)"
            )

        async def run() -> Result:
            return await make()

        coro = run()
        try:
            future = asyncio.run_coroutine_threadsafe(coro, self._loop)
        except RuntimeError:  # the loop is closed
            coro.close()
            raise ThreadEndedError from None
        try:
            return _wait(future)
        except CancelledError:
            raise ThreadEndedError from None
        except BaseException:
            future.cancel()
            raise

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call *call* in the thread of the loop."""
        self._loop.call_soon_threadsafe(call, *args)

    def stop(self) -> None:
        """Let what is left end, cancel it if that takes too long, and end the thread."""
        if self._thread.is_alive() and not self.is_lost:
            self.stop_soon()
            self._thread.join()

    def stop_soon(self) -> None:
        """Do what `stop` does, but do not wait for it."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if left := asyncio.all_tasks(self._loop):
                self._loop.run_until_complete(asyncio.wait(left, timeout=MAX_END_S))
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()


def _wait(future: Future[Result]) -> Result:
    # Not `result` with a time limit: the result may come just after its TimeoutError was raised,
    # and whoever catches that cannot tell it from one of the call.
    while POLL_INTERVAL_S is not None and not future.done():
        wait([future], POLL_INTERVAL_S)
    return future.result()
