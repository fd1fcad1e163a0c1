"""The flow: a reader that pauses, leaves or is full, and a writer that has nothing."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from broadcast_server.flow import Output, read
from broadcast_server.thread import in_thread

FULL = Path("/dev/full")


@dataclass
class Ends:
    """The two ends of a pipe."""

    reader: int
    writer: int


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A pipe, closed at the end as far as the test did not, and left alone by every thread.

    A thread that is late would get hold of the next test's pipe, which has the
    same descriptors.
    """
    others = set(threading.enumerate())
    ends = Ends(*os.pipe())
    yield ends
    with suppress(OSError):
        os.close(ends.reader)  # by which whoever writes or watches ends, however late
    for thread in set(threading.enumerate()) - others:
        thread.join(5)
        assert not thread.is_alive()
    with suppress(OSError):
        os.close(ends.writer)


def redirect(monkeypatch: pytest.MonkeyPatch, name: str, descriptor: int, mode: str) -> None:
    """Have a standard stream be *descriptor*."""
    monkeypatch.setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def test_a_reader_that_pauses_does_not_hold_up_the_loop(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds is written while the loop goes on, and all of it arrives in order."""
    redirect(monkeypatch, "stdout", ends.writer, "w")
    text = "".join(f"line {number}\n" for number in range(50_000))

    async def part() -> None:
        output = Output()
        writing = asyncio.ensure_future(output.run())
        output.write(text[:300_000])
        output.write(text[300_000:])
        got = b""
        while len(got) < len(text):
            got += await in_thread(lambda: os.read(ends.reader, 10_000))
        await asyncio.wait_for(output.idle(), 5)
        assert got.decode() == text
        writing.cancel()
        await asyncio.wait({writing})

    asyncio.run(part())


def test_it_is_noticed_that_the_reader_left(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output ends when its reader is gone, even if there is nothing to write."""
    redirect(monkeypatch, "stdout", ends.writer, "w")

    async def part() -> None:
        output = Output()
        writing = asyncio.ensure_future(output.run())
        await output.idle()
        os.close(ends.reader)
        await asyncio.wait_for(writing, 5)
        output.write("for nobody")
        await asyncio.wait_for(output.idle(), 5)
        assert not output.open

    asyncio.run(part())


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that cannot be written for another reason than its reader raises it."""

    async def part() -> None:
        output = Output()
        output.write("too much\n")
        with pytest.raises(OSError, match="No space left"):
            await asyncio.wait_for(output.run(), 5)
        await asyncio.wait_for(output.idle(), 5)

    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        asyncio.run(part())


def test_closing_waits_for_nobody(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed output counts as idle, although its reader has paused."""
    redirect(monkeypatch, "stdout", ends.writer, "w")

    async def part() -> None:
        output = Output()
        writing = asyncio.ensure_future(output.run())
        output.write("x" * 1_000_000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(output.idle(), 0.05)
        output.close()
        await asyncio.wait_for(output.idle(), 5)
        writing.cancel()
        await asyncio.wait({writing})
        rest = 1_000_000  # for the thread to end: the next test may get the same descriptor
        while rest:
            rest -= len(await in_thread(lambda: os.read(ends.reader, 100_000)))

    asyncio.run(part())


def test_output_is_utf8_in_every_locale(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that Python takes for ASCII gets UTF-8, and half a character is replaced."""
    stream = os.fdopen(ends.writer, "w", closefd=False, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    async def part() -> None:
        output = Output()
        writing = asyncio.ensure_future(output.run())
        output.write("日本\ud800\n")
        await asyncio.wait_for(output.idle(), 5)
        assert os.read(ends.reader, 100).decode() == "日本?\n"
        writing.cancel()
        await asyncio.wait({writing})

    asyncio.run(part())


def test_input_may_be_non_blocking(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input that another program made non-blocking is waited for, not taken for ended."""
    os.set_blocking(ends.reader, False)
    redirect(monkeypatch, "stdin", ends.reader, "r")

    async def part() -> None:
        reading = asyncio.ensure_future(read())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), 0.05)
        os.write(ends.writer, b"late\n")
        assert await asyncio.wait_for(reading, 5) == b"late\n"
        os.close(ends.writer)
        assert await asyncio.wait_for(read(), 5) == b""

    asyncio.run(part())


def test_closed_input_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without standard input reads its end."""
    monkeypatch.setattr(sys, "stdin", None)
    assert asyncio.run(read()) == b""
