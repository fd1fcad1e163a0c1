"""The line splitter: splits a stream of bytes into lines, with a limit on what it holds."""

from __future__ import annotations

from codecs import getincrementaldecoder

from broadcast_server.client.message_limit import last_boundary
from broadcast_server.client.oversize import CUT_MARK

from .shown_line import compact, shown_line

MAX_LINE_BYTES = 2**17
"""Bytes of a line that are held; more than any server accepts in a message."""


class LineSplitter:
    """Splits bytes into lines of text, and leaves out empty ones.

    A line over `MAX_LINE_BYTES` is returned in pieces while it is read. With *cut*, only its first
    piece is returned, with a mark at its end. With *rendered*, a line that overwrites itself
    becomes what a terminal shows of it at its end.
    """

    def __init__(
        self, *, rendered: bool = False, encoding: str = "utf-8", cut: bool = False
    ) -> None:
        self._encoding = encoding
        self._rendered = rendered
        self._cut = cut
        self._rest = bytearray()  # the line that is not complete yet
        self._skipping = False  # that line was cut already

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that *data* completes, without their line endings."""
        self._rest += data
        *complete, rest = self._rest.split(b"\n")
        self._rest = rest
        if complete and self._skipping:
            self._skipping = False
            del complete[0]
        lines = [self._text(line.decode(self._encoding, "replace")) for line in complete]
        if self._skipping:
            self._rest.clear()
        if len(self._rest) > MAX_LINE_BYTES and self._rendered:
            self._rest = compact(self._rest)
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._take_piece())
        return [line for line in lines if line]

    def end(self) -> list[str]:
        """Return the last line, if the input ended without a line ending."""
        return self.feed(b"\n") if self._rest or self._skipping else []

    def _take_piece(self) -> str:
        """Take the beginning of the line that is not complete, up to a whole character."""
        decoder = getincrementaldecoder(self._encoding)("replace")
        text = decoder.decode(bytes(self._rest))
        if self._cut:
            self._rest.clear()
            self._skipping = True
            return self._text(text) + CUT_MARK
        end = last_boundary(text, 0, len(text) - 1)  # what follows may belong to the last one
        self._rest = bytearray(text[end:].encode(self._encoding, "replace")) + decoder.getstate()[0]
        return self._text(text[:end])

    def _text(self, line: str) -> str:
        line = line.rstrip("\r")
        return shown_line(line) if self._rendered else line
