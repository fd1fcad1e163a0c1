"""Standard input and output without blocking the event loop.

Both may block for an hour, because the output is read in ``less`` or nobody types. So they are
read and written in threads. The encoding is UTF-8, whatever the locale is, but that of the locale
for a terminal.
"""

from __future__ import annotations

import asyncio
import select
import sys
import threading
from codecs import lookup
from functools import partial
from typing import TextIO

from .threads import run_abandonable
from .work_queue import WorkQueue

READ_BYTES = 64 * 2**10
"""How many bytes are read from standard input at a time."""

POLL_INTERVAL_MS = 1000
"""How often the reader of standard output is checked for having closed its end."""


def encoding_of(stream: TextIO) -> str:
    """Return the encoding in which *stream* is read or written.

    A locale without an encoding of its own (`C`) says ASCII, and the terminal mostly has UTF-8.
    """
    encoding = stream.encoding if stream.isatty() else "utf-8"
    return "utf-8" if lookup(encoding).name == "ascii" else encoding


async def read_stdin() -> bytes:
    """Wait for standard input, and return up to `READ_BYTES` of it, or b"" at its end.

    Raises OSError if it cannot be read.
    """
    stream = sys.stdin
    return b"" if stream is None else await run_abandonable(lambda: _read(stream))


def _read(stream: TextIO) -> bytes:
    # Unbuffered: a thread that is blocked in a buffered read holds a lock that the interpreter
    # needs at exit.
    raw = getattr(stream.buffer, "raw", stream.buffer)
    while True:
        data: bytes | None = raw.read(READ_BYTES)
        if data is not None:
            return data
        select.select([raw], [], [])  # another process made it non-blocking


def _write(stream: TextIO, data: bytes) -> None:
    raw = getattr(stream.buffer, "raw", stream.buffer)
    view = memoryview(data)
    while view:
        written: int | None = raw.write(view)
        if written is None:
            select.select([], [raw], [])
        else:
            view = view[written:]


class StdoutWriter(WorkQueue[str]):
    """Standard output, written by `run` in a thread, so that a reader that pauses blocks nothing.

    `write` never blocks and has no limit: a caller that produces much awaits `wait_idle` first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open = sys.stdout is not None

    def write(self, text: str) -> None:
        """Queue *text* until the reader takes it. Once the output is closed, drop it."""
        self._put(text)

    async def run(self) -> None:
        """Write until the reader closes its end. Raises OSError if writing fails otherwise."""
        stream = sys.stdout
        if stream is None:
            return
        encoding = encoding_of(stream)
        reader_left = asyncio.ensure_future(run_abandonable(lambda: _wait_for_hangup(stream)))
        reader_left.add_done_callback(lambda _: self.close())
        try:
            while await self._wait_for_items():
                data = "".join(self._items).encode(encoding, "replace")
                self._items.clear()
                await run_abandonable(partial(_write, stream, data))
        except BrokenPipeError:
            pass
        finally:
            reader_left.cancel()
            self.close()


def _wait_for_hangup(stream: TextIO) -> None:
    """Block until the reader of *stream* closes its end, even if nothing is written meanwhile."""
    if not hasattr(select, "poll"):  # Windows, where only the next write fails
        threading.Event().wait()
    poll = select.poll()
    poll.register(stream, 0)
    # A single poll without a timeout is not enough: under heavy load it was seen to miss the
    # hangup, once in hundreds.
    while not poll.poll(POLL_INTERVAL_MS):
        pass
