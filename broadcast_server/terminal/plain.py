"""The plain interface: `connect` as plain lines, for screen readers and simple terminals.

A line is written once and never redrawn, coloured or moved. What was typed at the terminal is not
repeated when its echo arrives, and nothing else is written while something is half typed. Events
are told in words, and without the time, which a screen reader would read out with each line.

Only a message has a colon and a space, after the name, or after ``to you, in private``. So no name,
such as ``Error``, makes a message look like a line of the server or of the program.
"""

from __future__ import annotations

import asyncio
import sys
from codecs import getincrementaldecoder

from broadcast_server.client.client import ReconnectingClient
from broadcast_server.client.report_texts import missed_text
from broadcast_server.console.stdio import StdoutWriter, encoding_of, read_stdin
from broadcast_server.pipe.line_splitter import LineSplitter
from broadcast_server.protocol.codec import encode_text, private_heading
from broadcast_server.protocol.messages import (
    Error,
    Event,
    Message,
    PrivateMessage,
    Welcome,
)
from broadcast_server.protocol.sanitize import lines_to_print, strip_control

from .chat import ChatUI
from .key_mode import key_mode
from .render import Line, local_time, present_text
from .typed_line import TypedLine

MAX_HELD_LINES = 500
"""Lines that wait while something is half typed. With more, all are written below it."""


class PlainUI(ChatUI):
    """The interface of `connect --plain`: lines on standard input and output."""

    def __init__(
        self, client: ReconnectingClient, *, bell: bool = False, timestamps: bool = False
    ) -> None:
        super().__init__(client, bell=bell)
        self._timestamps = timestamps
        self._output = StdoutWriter()
        self._finished = False
        self._typed = TypedLine()  # empty if the terminal edits lines itself
        self._held: list[str] = []  # lines to write when nothing is half typed
        self._own_ids: set[str] = set()  # messages that were typed here, and have no echo yet

    async def run(self) -> int:
        """Take part until the user leaves, and return the exit code."""
        writing = asyncio.ensure_future(self._output.run())
        writing.add_done_callback(lambda _: self.leave())  # the terminal went away
        try:
            return await super().run()
        finally:
            self._write_held()
            await asyncio.wait({asyncio.ensure_future(self._output.wait_idle())}, timeout=1.0)
            writing.cancel()
            await asyncio.wait({writing})

    async def drain(self) -> None:
        """Wait until all output is written."""
        await self._output.wait_idle()

    def _notice_line(self, text: str) -> Line:
        """Return a notice of the program itself, as a sentence."""
        return [("", _without_colon(f"{text[:1].upper()}{text[1:]}."))]

    def _greeting(self) -> list[Line]:
        return [[("", "Each line is a message; /help for help, Ctrl+D leaves.")]]

    def _render(self, event: Event, me: str, *, again: bool) -> list[Line]:
        if isinstance(event, Message | Error) and event.id in self._own_ids:
            self._own_ids.discard(event.id or "")
            if isinstance(event, Message):
                return []
        if isinstance(event, PrivateMessage) and event.id is not None:
            return [self._notice_line(strip_control(f"sent to {event.to} in private"))]
        at = event.at if isinstance(event, Message | PrivateMessage) else None
        begin = f"{local_time(at)} " if self._timestamps else ""
        return [[("", begin + line)] for line in event_text(event, again=again)]

    def _print(self, lines: list[Line]) -> None:
        self._write(["".join(text for _, text in line) for line in lines])

    def _write(self, texts: list[str]) -> None:
        self._held += texts
        if not self._typed.text:
            self._write_held()
        elif len(self._held) > MAX_HELD_LINES:
            self._output.write("\n")
            self._write_held()
            self._output.write(self._typed.text)

    def _write_held(self) -> None:
        if self._held:
            self._output.write("\n".join(self._held) + "\n")
            self._held.clear()

    def _send(self, text: str) -> str | None:
        id = super()._send(text)
        self._own_ids |= {id} if id else set()
        return id

    async def _read_input(self) -> None:
        with key_mode(lambda: self._output.write(self._typed.text)) as typed_ahead:
            await (self._read_lines() if typed_ahead is None else self._read_keys(typed_ahead))

    async def _read_keys(self, typed_ahead: int) -> None:
        """Read keys. The terminal has shown the first *typed_ahead* bytes itself."""
        decoder = getincrementaldecoder(encoding_of(sys.stdin))("replace")
        while not self._finished:
            try:
                data = await read_stdin()
            except OSError:  # the terminal went away
                return
            for echo, line, is_end in self._typed.feed(decoder.decode(data, final=not data)):
                if typed_ahead <= 0:
                    self._output.write(echo)
                if not self._typed.text:
                    self._write_held()
                if line and not self._finished:
                    await self._wait_for_window(line)
                    self.handle_line(line)
                if is_end:
                    return
            typed_ahead -= len(data)
            if not data:
                return

    async def _read_lines(self) -> None:
        stdin = sys.stdin
        splitter = LineSplitter(encoding="utf-8" if stdin is None else encoding_of(stdin))
        while not self._finished:
            try:
                data = await read_stdin()
            except OSError:  # the terminal went away
                return
            for text in splitter.feed(data) if data else splitter.end():
                if not self._finished:
                    await self._wait_for_window(text)
                    self.handle_line(text)
            if not data:
                return

    async def _wait_for_window(self, line: str) -> None:
        """Wait while *line*, if it is a message, would be one too many: a paste has many lines."""
        while self.client.session.full and not line.startswith("/"):
            waiting = asyncio.ensure_future(self.client.wait_for_window())
            await asyncio.wait({waiting}, timeout=1.0)  # by then it may be another room's client
            waiting.cancel()

    def _put_back(self, line: str) -> None:
        """Do nothing: the terminal still shows it, and this mode writes no line twice."""

    def _stop_reading(self) -> None:
        self._finished = True

    def _clear(self) -> None:
        self.show_notice("plain mode has no screen to clear")

    def _ring_bell(self) -> None:
        self._output.write("\a")

    def _status_changed(self) -> None:
        pass


def event_text(event: Event, *, again: bool) -> list[str]:
    """Return *event* in words, without control characters; *again* is true after a reconnect."""
    if isinstance(event, Message):
        return lines_to_print(event.name, event.text)
    if isinstance(event, PrivateMessage):  # no name has a comma
        return lines_to_print(private_heading(event), event.text)
    return [_without_colon(line) for line in _notice_text(event, again=again)]


def _notice_text(event: Event, *, again: bool) -> list[str]:
    match event:
        case Error(text=text):
            return [f"Error, {strip_control(text)}."]
        case Welcome(room=room, name=name):
            welcome = f"{'Connected again' if again else 'Connected'}. You are {name} in {room}."
            if not again:
                welcome += f" {present_text(event)}."
            missed = [] if event.recovered else [missed_text(event.missed).strip("- ") + "."]
            return [strip_control(welcome), *missed]
    line = encode_text(event)
    return [] if line is None else [strip_control(line.removeprefix("* "))]


def _without_colon(text: str) -> str:
    return text.replace(": ", ", ")
