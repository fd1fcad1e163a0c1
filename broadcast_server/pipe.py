"""The pipe: lines of standard input are messages, and a sink gets what happens in the room.

That is standard output, or a command that is run. Everything about the connection goes to
standard error. At the end of the input it waits until all messages have come back, then leaves.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Protocol

from .client import Client, Failed
from .conversation import left_early, missed_words
from .cursorfile import BadCursorFile
from .flow import Output, read
from .progress import TICK, Pace, ProgressLine, input_size, progress_words, wanted
from .protocol import Cursor, Error, Event, Message, Welcome, json_line, text_line
from .safe import safe_json, safe_text
from .signals import on_signals
from .streams import no_output, note, reason

LONGEST_LINE = 2**17
"""Bytes; more than any server takes. What is longer is not even kept."""

PARTING = 0.5
"""Seconds that are left, after Ctrl+C, to a reader that has stopped reading."""


class Lines:
    """Cuts bytes into lines, and forgets a line that grows too long."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._skipping = False
        self.number = 0
        self.too_long: list[int] = []  # numbers of lines that were not kept

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes, without their ends."""
        self._rest += data
        *whole, rest = self._rest.split(b"\n")
        self._rest = rest
        lines = [line for line in map(self._line, whole) if line]
        if len(self._rest) > LONGEST_LINE:
            self._rest.clear()
            self._skipping = True
        return lines

    def end(self) -> list[str]:
        """Return the last line, if it had no end."""
        return self.feed(b"\n") if self._rest or self._skipping else []

    def _line(self, data: bytearray) -> str:
        self.number += 1
        if self._skipping or len(data) > LONGEST_LINE:
            self._skipping = False
            self.too_long.append(self.number)
            return ""
        return data.rstrip(b"\r").decode(errors="replace")


class Sink(Protocol):
    """What takes what happened in the room: somebody runs `run`, and waits for `idle`."""

    open: bool

    @property
    def resting(self) -> bool:
        """Whether all that was taken is done with, or never will be."""

    def take(self, events: list[Event]) -> None:
        """Take events."""

    async def idle(self) -> None:
        """Wait until it is resting."""

    def part(self) -> None:
        """We leave: have an end soon."""

    async def run(self) -> None:
        """Go on until nobody takes any more."""


class Printer(Output):
    """Standard output, as lines for people or as JSON."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def take(self, events: list[Event]) -> None:
        """Write events."""
        if self._json:
            lines = [safe_json(json_line(event)) for event in events]
        else:
            lines = [line for event in events for line in _plain(event)]
        if lines:
            self.write("\n".join(lines) + "\n")

    def part(self) -> None:
        """Wait for a reader no longer than a moment."""
        asyncio.get_running_loop().call_later(PARTING, self.close)


class Pipe:
    """A client's door: what is read is said, what happens goes into the *sink*.

    `keep` is told each place in the log up to which the sink is done, where that is wanted.
    """

    def __init__(
        self,
        client: Client,
        sink: Sink,
        *,
        listen: bool,
        keep: Callable[[Cursor], None] | None = None,
    ) -> None:
        self._client = client
        self._sink = sink
        self._listen = listen
        self._keep = keep
        self._said = 0
        self._read = 0  # bytes
        self._line = ProgressLine()
        self._failed = False
        self._interrupted = False

    # -- the door --

    def show(self, events: list[Event]) -> None:
        """Hand events on."""
        for event in events:
            if isinstance(event, Error):
                self.note(event.text)
        self._line.clear()
        self._sink.take(events)

    def note(self, text: str) -> None:
        """Write a line about the connection to standard error."""
        self._line.clear()
        note(f"* {text}")

    async def drain(self) -> None:
        """Wait until somebody has taken what was shown. Raises `BadCursorFile`."""
        await self._sink.idle()
        cursor = self._client.conversation.cursor
        if self._keep is not None and self._sink.open and cursor is not None:
            self._keep(cursor)

    # -- the run --

    async def run(self) -> int:
        """Take part until the input has ended, and return the exit code."""
        client, sink = self._client, self._sink
        size = input_size()  # before anything is read of it
        saying = asyncio.ensure_future(self._say_all())
        taking = asyncio.ensure_future(sink.run())
        telling = asyncio.ensure_future(self._tell_progress(size))

        def one_ended(_: asyncio.Future[None]) -> None:
            # With nobody to read, as after `| head -1`, what is to be said is
            # still said; who only listens is done.
            if (saying.done() and not (self._listen and sink.open)) or _not_kept(taking):
                client.leave()

        saying.add_done_callback(one_ended)
        taking.add_done_callback(one_ended)
        failure = ""
        with on_signals(self._interrupt):
            try:
                await client.run(self)
            except (Failed, BadCursorFile) as failed:
                failure = str(failed)
            finally:
                telling.cancel()
                self._line.clear()
            try:
                await self.drain()
            except BadCursorFile as error:
                failure = failure or str(error)
            finally:
                for task in (saying, taking):
                    task.cancel()
                await asyncio.wait({saying, taking, telling})
        if not saying.cancelled():
            saying.result()
        failure = failure or _why_not_taken(taking)
        if not failure and len(client.conversation):
            failure = left_early(len(client.conversation))
        if failure:
            note(failure)
        early = self._interrupted and not client.been_live
        return 1 if failure or early or self._failed or client.conversation.refused else 0

    def _interrupt(self) -> None:
        self._interrupted = True
        self._client.leave()
        self._sink.part()

    async def _say_all(self) -> None:
        """Say the input, and wait until all of it has come back."""
        lines = Lines()
        # Who listens at a terminal does not talk there.
        ended = self._listen and sys.stdin is not None and sys.stdin.isatty()
        while not ended:
            try:
                data = await read()
            except OSError as error:
                self._failed = True
                self.note(f"could not read standard input: {reason(error)}")
                data = b""
            ended = not data
            self._read += len(data)
            for line in lines.end() if ended else lines.feed(data):
                await self._client.room_to_say()
                self._client.say(line)
                self._said += 1
            for number in lines.too_long:
                self._failed = True
                self.note(f"line {number} is over {LONGEST_LINE} bytes, it is not sent")
            lines.too_long.clear()
        await self._client.all_heard()

    async def _tell_progress(self, size: int | None) -> None:
        """Keep the progress line, while somebody can see it."""
        if not wanted():
            return
        pace, loop = Pace(), asyncio.get_running_loop()
        shared = sys.stdout is not None and sys.stdout.isatty()
        while True:
            await asyncio.sleep(TICK)
            back = self._said - len(self._client.conversation)
            if not pace.shows(self._said, back, loop.time()):
                self._line.clear()
            elif not shared or self._sink.resting:  # or it would stand in the middle of a line
                self._line.show(progress_words(self._said, back, self._read, size))


def _not_kept(taking: asyncio.Future[None]) -> bool:
    return (
        taking.done() and not taking.cancelled() and isinstance(taking.exception(), BadCursorFile)
    )


def _why_not_taken(taking: asyncio.Future[None]) -> str:
    match None if taking.cancelled() else taking.exception():
        case BadCursorFile() as error:
            return str(error)
        case OSError() as error:
            return no_output(error)
    return ""


def _plain(event: Event) -> list[str]:
    match event:
        case Error():
            return []  # about us, and so on standard error
        case Message():
            return [safe_text(line) for line in (text_line(event) or "").split("\n")]
        case Welcome(recovered=False, missed=missed):
            return [missed_words(missed)]
    line = text_line(event)
    return [] if line is None else [safe_text(line)]
