"""The pipe: lines of standard input are messages, standard output gets the room.

Everything about the connection goes to standard error. At the end of the input
it waits until all messages have come back, then leaves.
"""

from __future__ import annotations

import asyncio
import sys

from .client import Client, Failed
from .conversation import left_early, missed_words
from .flow import Output, read
from .protocol import Error, Event, Message, Welcome, json_line, text_line
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


class Pipe:
    """A client's door that is two streams."""

    def __init__(self, client: Client, *, json: bool, listen: bool) -> None:
        self._client = client
        self._json = json
        self._listen = listen
        self._output = Output()
        self._failed = False
        self._interrupted = False

    # -- the door --

    def show(self, events: list[Event]) -> None:
        """Write events to standard output."""
        for event in events:
            if isinstance(event, Error):
                self.note(event.text)
        if self._json:
            lines = [safe_json(json_line(event)) for event in events]
        else:
            lines = [line for event in events for line in _plain(event)]
        if lines:
            self._output.write("\n".join(lines) + "\n")

    def note(self, text: str) -> None:
        """Write a line about the connection to standard error."""
        note(f"* {text}")

    async def drain(self) -> None:
        """Wait until somebody has taken what was shown."""
        await self._output.idle()

    # -- the run --

    async def run(self) -> int:
        """Take part until the input has ended, and return the exit code."""
        client, output = self._client, self._output
        saying = asyncio.ensure_future(self._say_all())
        writing = asyncio.ensure_future(output.run())

        def one_ended(_: asyncio.Future[None]) -> None:
            # With nobody to read, as after `| head -1`, what is to be said is
            # still said; who only listens is done.
            if saying.done() and not (self._listen and output.open):
                client.leave()

        saying.add_done_callback(one_ended)
        writing.add_done_callback(one_ended)
        failure = ""
        with on_signals(self._interrupt):
            try:
                await client.run(self)
                await output.idle()
            except Failed as failed:
                await output.idle()
                failure = str(failed)
            finally:
                saying.cancel()
                writing.cancel()
                await asyncio.wait({saying, writing})
        if not saying.cancelled():
            saying.result()
        if not writing.cancelled() and isinstance(error := writing.exception(), OSError):
            failure = failure or no_output(error)
        if not failure and len(client.conversation):
            failure = left_early(len(client.conversation))
        if failure:
            note(failure)
        early = self._interrupted and not client.been_live
        return 1 if failure or early or self._failed or client.conversation.refused else 0

    def _interrupt(self) -> None:
        self._interrupted = True
        self._client.leave()
        asyncio.get_running_loop().call_later(PARTING, self._output.close)

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
            for line in lines.end() if ended else lines.feed(data):
                await self._client.room_to_say()
                self._client.say(line)
            for number in lines.too_long:
                self._failed = True
                self.note(f"line {number} is over {LONGEST_LINE} bytes, it is not sent")
            lines.too_long.clear()
        await self._client.all_heard()


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
