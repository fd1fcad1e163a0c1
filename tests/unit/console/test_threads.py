"""Abandonable threads: a blocked call delays neither the loop nor the exit of the program."""

from __future__ import annotations

import asyncio
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
