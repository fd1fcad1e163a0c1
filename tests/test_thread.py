"""A thread: a call that blocks holds up neither the loop nor the end of the program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from broadcast_server.thread import in_thread


def test_result_and_error_come_back() -> None:
    """What the call returns is returned, and what it raises is raised."""

    async def part() -> None:
        assert await in_thread(lambda: threading.current_thread().daemon) is True
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)

    asyncio.run(part())


def test_a_cancelled_call_may_end_later() -> None:
    """A call that nobody waits for any more can end without harm, in the loop and after it."""
    ends = threading.Event(), threading.Event()

    async def part() -> None:
        for end in ends:
            calling = asyncio.ensure_future(in_thread(end.wait))
            await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait({calling})
            assert calling.cancelled()
        ends[0].set()
        assert await in_thread(lambda: "in the loop") == "in the loop"

    asyncio.run(part())
    ends[1].set()


def test_a_program_can_end_while_it_blocks() -> None:
    """A program ends although a call has not returned."""
    script = (
        "import asyncio, threading\n"
        "from broadcast_server.thread import in_thread\n"
        "async def main():\n"
        "    asyncio.ensure_future(in_thread(threading.Event().wait))\n"
        "    await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, timeout=10
    )
    assert done.stderr == b""
