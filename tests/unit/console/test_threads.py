"""Abandonable threads: a blocked call delays neither the loop nor the exit of the program."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import pytest

from broadcast_server.console.threads import run_abandonable


def test_the_result_or_the_exception_is_passed_on() -> None:
    """The result of the call is returned, and its exception is raised."""

    async def scenario() -> None:
        assert await run_abandonable(lambda: threading.current_thread().daemon) is True
        with pytest.raises(ZeroDivisionError):
            await run_abandonable(lambda: 1 // 0)

    asyncio.run(scenario())


def test_a_cancelled_call_may_return_later() -> None:
    """A cancelled call may return while the loop runs or after it is closed, without harm."""
    events = threading.Event(), threading.Event()

    async def scenario() -> None:
        for event in events:
            call = asyncio.ensure_future(run_abandonable(event.wait))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            assert call.cancelled()
        events[0].set()
        assert await run_abandonable(lambda: "in the loop") == "in the loop"

    asyncio.run(scenario())
    events[1].set()


@pytest.mark.parametrize("fails", [False, True])
def test_a_cancellation_that_comes_with_the_result_is_not_lost(fails: bool) -> None:
    """A task is cancelled although its call returns, or raises, in the same turn of the loop."""
    reports: list[dict[str, object]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reports.append(report))
        before = {*threading.enumerate()}
        may_return = threading.Event()
        call = asyncio.ensure_future(
            run_abandonable(lambda: may_return.wait() and 1 // (not fails), timeout=10)
        )
        await asyncio.sleep(0)
        (thread,) = {*threading.enumerate()} - before
        may_return.set()
        thread.join()  # the result is in the loop's queue now, and the cancellation behind it
        loop.call_soon(call.cancel)
        await asyncio.wait({call})
        assert call.cancelled()

    asyncio.run(scenario())
    gc.collect()
    assert reports == []


def test_a_call_has_a_time_limit() -> None:
    """A call that has not returned in time raises TimeoutError, and may return later."""
    may_return = threading.Event()

    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            await run_abandonable(may_return.wait, timeout=0.01)
        may_return.set()
        assert await run_abandonable(lambda: "in the loop") == "in the loop"

    asyncio.run(scenario())


def test_a_program_exits_while_a_call_blocks() -> None:
    """A program exits although a call has not returned."""
    script = (
        "import asyncio, threading\n"
        "from broadcast_server.console.threads import run_abandonable\n"
        "async def main():\n"
        "    asyncio.ensure_future(run_abandonable(threading.Event().wait))\n"
        "    await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, timeout=10
    )
    assert done.stderr == b""


def test_a_result_that_nobody_awaits_is_discarded() -> None:
    """What a call opens is closed if it comes too late, with a cancellation, or after the loop."""
    discarded: list[str] = []
    may_return = threading.Event(), threading.Event(), threading.Event()
    is_discarded = threading.Event()

    def discard(result: str) -> None:
        discarded.append(result)
        is_discarded.set()

    def call(number: int) -> str:
        may_return[number].wait()
        return ("late", "cancelled", "after the loop")[number]

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await run_abandonable(lambda: call(0), 0.01, discard=discard)
        may_return[0].set()
        while not discarded:
            await run_abandonable(is_discarded.wait, 1)
        before = {*threading.enumerate()}
        task = asyncio.ensure_future(run_abandonable(lambda: call(1), discard=discard))
        await asyncio.sleep(0)
        (thread,) = {*threading.enumerate()} - before
        may_return[1].set()
        thread.join()  # the result is in the loop's queue now, and the cancellation behind it
        loop.call_soon(task.cancel)
        await asyncio.wait({task})
        assert task.cancelled()
        asyncio.ensure_future(run_abandonable(lambda: call(2), discard=discard))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(scenario())
    is_discarded.clear()
    may_return[2].set()
    assert is_discarded.wait(10)
    assert discarded == ["late", "cancelled", "after the loop"]
