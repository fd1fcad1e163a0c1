"""The thread in which the library's event loop runs, for programs without asyncio."""

from __future__ import annotations

import asyncio

import pytest

from broadcast_server.library.loop_thread import LoopThread, ThreadEndedError


def test_a_call_can_end_when_the_thread_is_stopped() -> None:
    """What is under way gets its result: whoever closes a room does not cut off other threads."""
    thread = LoopThread()

    async def call() -> str:
        asyncio.get_running_loop().stop()  # as `stop` does, from this thread
        for _ in range(5):
            await asyncio.sleep(0)
        return "done"

    assert thread.run(call) == "done"
    thread.stop()
    with pytest.raises(ThreadEndedError):
        thread.run(call)


def test_a_call_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping takes a bounded time, whatever is under way, and whoever waits is told."""
    monkeypatch.setattr("broadcast_server.library.loop_thread.MAX_END_S", 0.01)
    thread = LoopThread()
    was_cancelled: list[bool] = []

    async def call() -> None:
        asyncio.get_running_loop().stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.append(True)
            raise

    with pytest.raises(ThreadEndedError):
        thread.run(call)
    thread.stop()
    assert was_cancelled == [True]


def test_a_call_from_its_own_thread() -> None:
    """It would wait for itself for ever: that is an error, which says what to use."""
    thread = LoopThread()

    async def call() -> None:
        async def inner() -> None:
            pass

        thread.run(inner)

    with pytest.raises(RuntimeError, match=r"wait for its own thread \(use connect, with await\)"):
        thread.run(call)
    thread.stop()
