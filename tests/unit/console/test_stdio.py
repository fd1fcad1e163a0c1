"""Standard input and output: a reader that pauses or leaves, a full disk, a slow writer."""

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

from broadcast_server.console.stdio import StdoutWriter, encoding_of, read_stdin
from broadcast_server.console.threads import run_abandonable
from broadcast_server.console.time_limit import run_within

FULL = Path("/dev/full")


@dataclass
class Ends:
    """The two ends of a pipe."""

    reader: int
    writer: int


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A pipe that no thread uses any more when the next test begins.

    A thread that ended later would use the pipe of the next test, which has the same descriptors.
    The test may close either end itself.
    """
    threads_before = set(threading.enumerate())
    ends = Ends(*os.pipe())
    yield ends
    with suppress(OSError):
        os.close(ends.reader)  # ends every thread that still writes or polls
    for thread in set(threading.enumerate()) - threads_before:
        thread.join(5)
        assert not thread.is_alive()
    with suppress(OSError):
        os.close(ends.writer)


def redirect(monkeypatch: pytest.MonkeyPatch, name: str, descriptor: int, mode: str) -> None:
    """Replace the standard stream *name* by *descriptor*."""
    monkeypatch.setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def test_a_paused_reader_does_not_block_the_loop(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More text than a pipe holds is written while the loop runs, and arrives in order."""
    redirect(monkeypatch, "stdout", ends.writer, "w")
    text = "".join(f"line {number}\n" for number in range(50_000))

    async def scenario() -> None:
        output = StdoutWriter()
        writing = asyncio.ensure_future(output.run())
        output.write(text[:300_000])
        output.write(text[300_000:])
        received = b""
        while len(received) < len(text):
            received += await run_abandonable(lambda: os.read(ends.reader, 10_000))
        await run_within(output.wait_idle(), 5)
        assert received.decode() == text
        writing.cancel()
        await asyncio.wait({writing})

    asyncio.run(scenario())


def test_output_ends_when_its_reader_leaves(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output ends when its reader closes the pipe, even if there is nothing to write."""
    redirect(monkeypatch, "stdout", ends.writer, "w")

    async def scenario() -> None:
        output = StdoutWriter()
        writing = asyncio.ensure_future(output.run())
        await output.wait_idle()
        os.close(ends.reader)
        await run_within(writing, 5)
        output.write("dropped")
        await run_within(output.wait_idle(), 5)
        assert not output.open

    asyncio.run(scenario())


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure to write raises its error, unless the reader has left."""

    async def scenario() -> None:
        output = StdoutWriter()
        output.write("too much\n")
        with pytest.raises(OSError, match="No space left"):
            await run_within(output.run(), 5)
        await run_within(output.wait_idle(), 5)

    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        asyncio.run(scenario())


def test_closed_output_is_idle(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed output is idle, although its reader has paused."""
    redirect(monkeypatch, "stdout", ends.writer, "w")

    async def scenario() -> None:
        output = StdoutWriter()
        writing = asyncio.ensure_future(output.run())
        output.write("x" * 1_000_000)
        with pytest.raises(asyncio.TimeoutError):
            await run_within(output.wait_idle(), 0.05)
        output.close()
        await run_within(output.wait_idle(), 5)
        writing.cancel()
        await asyncio.wait({writing})
        unread = 1_000_000  # read all of it, so that the thread ends
        while unread:
            unread -= len(await run_abandonable(lambda: os.read(ends.reader, 100_000)))

    asyncio.run(scenario())


def test_output_is_utf8_in_every_locale(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with the encoding ASCII gets UTF-8, and a lone surrogate is replaced."""
    stream = os.fdopen(ends.writer, "w", closefd=False, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    async def scenario() -> None:
        output = StdoutWriter()
        writing = asyncio.ensure_future(output.run())
        output.write("日本\ud800\n")
        await run_within(output.wait_idle(), 5)
        assert os.read(ends.reader, 100).decode() == "日本?\n"
        writing.cancel()
        await asyncio.wait({writing})

    asyncio.run(scenario())


def test_input_may_be_non_blocking(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another program made the input non-blocking, reading waits and does not end."""
    os.set_blocking(ends.reader, False)
    redirect(monkeypatch, "stdin", ends.reader, "r")

    async def scenario() -> None:
        reading = asyncio.ensure_future(read_stdin())
        with pytest.raises(asyncio.TimeoutError):
            await run_within(asyncio.shield(reading), 0.05)
        os.write(ends.writer, b"late\n")
        assert await run_within(reading, 5) == b"late\n"
        os.close(ends.writer)
        assert await run_within(read_stdin(), 5) == b""

    asyncio.run(scenario())


def test_closed_input_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without standard input reads nothing."""
    monkeypatch.setattr(sys, "stdin", None)
    assert asyncio.run(read_stdin()) == b""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
@pytest.mark.parametrize(
    ("locale", "at_terminal"),
    [("iso-8859-1", "iso-8859-1"), ("utf-8", "utf-8"), ("ascii", "utf-8"), ("646", "utf-8")],
)
def test_the_encoding_of_a_terminal(locale: str, at_terminal: str) -> None:
    """A terminal has the encoding of the locale, if that has one; everything else has UTF-8."""
    for ends, encoding in (os.openpty(), at_terminal), (os.pipe(), "utf-8"):
        with os.fdopen(ends[1], "w", encoding=locale) as stream:
            assert encoding_of(stream) == encoding
        os.close(ends[0])
