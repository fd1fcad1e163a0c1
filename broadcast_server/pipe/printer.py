"""The printer: the sink that writes events to standard output, as text or JSON."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone

from broadcast_server.client.report_texts import missed_text
from broadcast_server.console.stdio import StdoutWriter
from broadcast_server.protocol.codec import encode_json, encode_text, private_heading
from broadcast_server.protocol.messages import Error, Event, Message, PrivateMessage, Welcome
from broadcast_server.protocol.sanitize import escape_control, lines_to_print, strip_control
from broadcast_server.protocol.timestamp import rfc3339

WRITE_TIMEOUT_S = 0.5
"""Seconds after Ctrl+C in which the reader of standard output can still take what is queued."""


class Printer(StdoutWriter):
    """Prints events to standard output: as plain text, or as one line of JSON each."""

    def __init__(self, *, json: bool, timestamps: bool = False) -> None:
        super().__init__()
        self._json = json
        self._timestamps = timestamps

    def handle(self, events: list[Event]) -> None:
        """Queue *events* to be written. Plain text leaves out errors: the pipe reports them."""
        if self._json:
            lines = [escape_control(encode_json(event)) for event in events]
        else:
            lines = [line for event in events for line in self._text_lines(event)]
        if lines:
            self.write("\n".join(lines) + "\n")

    def _text_lines(self, event: Event) -> list[str]:
        lines = _text_lines(event)
        if not self._timestamps:
            return lines
        at = (
            event.at
            if isinstance(event, Message | PrivateMessage)
            else rfc3339(datetime.now(timezone.utc))
        )
        return [f"{at} {line}" for line in lines]

    def finish(self) -> None:
        """Close the output after `WRITE_TIMEOUT_S`, even if the reader has paused."""
        asyncio.get_running_loop().call_later(WRITE_TIMEOUT_S, self.close)


def _text_lines(event: Event) -> list[str]:
    match event:
        case Error():
            return []  # the pipe writes it to standard error
        case Message(name=name, text=text):
            return lines_to_print(name, text)
        case PrivateMessage(text=text):
            return lines_to_print(f"* {private_heading(event)}", text)
        case Welcome(recovered=False, missed=missed):
            return [missed_text(missed)]
    line = encode_text(event)
    return [] if line is None else [strip_control(line)]
