"""The line splitter: splits a stream of bytes into lines, with a limit on the length of a line."""

from __future__ import annotations

from .shown_line import compact, shown_line

MAX_LINE_BYTES = 2**17
"""Bytes; more than any server accepts in a message. A longer line is dropped while it is read."""


class LineSplitter:
    """Splits bytes into lines of text. Leaves out empty lines, and lines over `MAX_LINE_BYTES`.

    With *rendered*, a line that overwrites itself becomes what a terminal shows of it at its end.
    """

    def __init__(self, *, rendered: bool = False, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._rendered = rendered
        self._rest = bytearray()  # the line that is not complete yet
        self._skipping = False  # that line is already over the limit
        self.number = 0
        """Number of the last complete line, from 1; empty and dropped lines count."""
        self.too_long: list[int] = []
        """Numbers of the lines that were dropped. The caller reports them and clears the list."""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes, without their line endings."""
        self._rest += data
        *complete, rest = self._rest.split(b"\n")
        self._rest = rest
        lines = [line for line in map(self._decode, complete) if line]
        if len(self._rest) > MAX_LINE_BYTES and self._rendered:
            self._rest = compact(self._rest)
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest.clear()
            self._skipping = True
        return lines

    def end(self) -> list[str]:
        """Return the last line, if the input ended without a line ending."""
        return self.feed(b"\n") if self._rest or self._skipping else []

    def _decode(self, line: bytearray) -> str:
        """Count *line*, and return its text; a line that is too long becomes empty."""
        self.number += 1
        if self._rendered and len(line) > MAX_LINE_BYTES:
            line = compact(line)
        if self._skipping or len(line) > MAX_LINE_BYTES:
            self._skipping = False
            self.too_long.append(self.number)
            return ""
        text = line.rstrip(b"\r").decode(self._encoding, "replace")
        return shown_line(text) if self._rendered else text
