"""The flow: standard input and standard output, of which neither holds us up.

They may stand still for an hour, because somebody reads in `less` or nobody
types. What goes through them is UTF-8, whatever the locale; what it means is not
known here.
"""

from __future__ import annotations

import asyncio
import select
import sys
import threading
from functools import partial
from typing import TextIO

from .thread import in_thread

READ = 64 * 2**10

LOOK = 1000
"""Milliseconds after which a reader that left is noticed at the latest."""


async def read() -> bytes:
    """Read what there is on standard input, nothing at its end. Raises OSError."""
    stream = sys.stdin
    return b"" if stream is None else await in_thread(lambda: _read(stream))


def _read(stream: TextIO) -> bytes:
    # Unbuffered, because a thread that waits in a buffered read holds a lock that
    # the interpreter wants when it ends.
    raw = getattr(stream.buffer, "raw", stream.buffer)
    while True:
        data: bytes | None = raw.read(READ)
        if data is not None:
            return data
        select.select([raw], [], [])  # somebody made it non-blocking


def _write(stream: TextIO, data: bytes) -> None:
    raw = getattr(stream.buffer, "raw", stream.buffer)
    view = memoryview(data)
    while view:
        written: int | None = raw.write(view)
        if written is None:
            select.select([], [raw], [])
        else:
            view = view[written:]


class Output:
    """Standard output. Somebody runs `run`, and puts no more in than `idle` allows."""

    def __init__(self) -> None:
        self._owed: list[str] = []
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.open = sys.stdout is not None

    def write(self, text: str) -> None:
        """Take *text*, to be written when there is somebody to read it."""
        if self.open:
            self._owed.append(text)
            self._idle.clear()
            self._more.set()

    @property
    def resting(self) -> bool:
        """Whether all is written, or never will be."""
        return self._idle.is_set()

    async def idle(self) -> None:
        """Wait until all is written, or never will be."""
        await self._idle.wait()

    def close(self) -> None:
        """Write no more, and wait for nobody."""
        self.open = False
        self._idle.set()

    async def run(self) -> None:
        """Write until nobody reads any more. Raises OSError if there is another reason."""
        stream = sys.stdout
        if stream is None:
            return
        gone = asyncio.ensure_future(in_thread(lambda: _wait_for_reader_to_go(stream)))
        gone.add_done_callback(lambda _: self._more.set())
        try:
            while self.open and not gone.done():
                self._more.clear()  # before a look at what there is, so that none is missed
                data = "".join(self._owed).encode(errors="replace")
                self._owed.clear()
                if data:
                    await in_thread(partial(_write, stream, data))
                elif not gone.done():
                    self._idle.set()
                    await self._more.wait()
        except BrokenPipeError:
            pass
        finally:
            gone.cancel()
            self.close()


def _wait_for_reader_to_go(stream: TextIO) -> None:
    """Return when nobody reads *stream* any more: who only listens would not hear of it."""
    if not hasattr(select, "poll"):  # Windows: it hears of it by the next line
        threading.Event().wait()
    poll = select.poll()
    poll.register(stream, 0)
    # Again and again: under heavy load it was seen not to be told, once in hundreds.
    while not poll.poll(LOOK):
        pass
