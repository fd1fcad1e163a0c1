"""The share: how much of what one client sends is taken in one turn.

A client that sends faster than the room's turns is not read until the next of them, so
that a flood delays only its sender and nothing of it is dropped: what is over waits in
the network, and at most one read and one frame of it here. A frame of many lines is cut
between lines, which means the same. Pure: bytes in, pieces out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .frames import Cut

MESSAGES = 256
BYTES = 64 * 2**10
"""So much of one client is taken in one turn, whichever is less."""

Piece = tuple[bool, bytes]
"""True and the payload of a message, or False and bytes as they came."""


class Share:
    """What one client sent that has not had its turn yet."""

    __slots__ = ("_at", "_cut", "_payload", "_pieces", "over", "spent")

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._pieces: Iterator[Piece] = iter(())
        self._payload = b""  # of a message of many lines, taken up to *at*
        self._at = 0
        self.over = False
        """Whether there may be something that no turn took yet."""
        self.spent = 0
        """How many lines the last turn took."""

    def put(self, data: bytes) -> None:
        """Take what was read. It is cut lazily, so that what is over costs nothing yet."""
        self._pieces = _then(self._pieces, self._cut, data) if self.over else self._cut.pieces(data)
        self.over = True

    def first(self, payload: bytes) -> None:
        """Take a message that was put together of fragments, to be next."""
        self._payload, self._at = payload, 0

    def turn(self, messages: int = MESSAGES, size: int = BYTES) -> Iterator[Piece]:
        """Yield what one turn may take: at most so many lines, then none once *size* is used."""
        self.over, self.spent = True, 0
        while self.spent < messages and size > 0:
            if self._at < len(self._payload):
                piece: Piece = True, self._part(messages - self.spent, size)
            else:
                self._payload, self._at = b"", 0
                found = next(self._pieces, None)
                if found is None:
                    self.over = False
                    return
                piece = found
                if piece[0]:
                    lines = piece[1].count(b"\n")
                    if lines >= messages - self.spent or (lines and len(piece[1]) > size):
                        self._payload = piece[1]
                        continue
            ended = piece[1].count(b"\n") if piece[0] else 0
            self.spent += max(1, ended + (not piece[1].endswith(b"\n")))
            size -= len(piece[1])
            yield piece

    def _part(self, lines: int, size: int) -> bytes:
        """Cut off the next part of a message of many lines, at least one line."""
        begin, end = self._at, self._at
        for _ in range(lines):
            end = self._payload.find(b"\n", end)
            if end < 0:
                end = len(self._payload)
                break
            end += 1
            if end - begin >= size:
                break
        self._at = end
        return self._payload[begin:end]


def _then(pieces: Iterable[Piece], cut: Cut, data: bytes) -> Iterator[Piece]:
    yield from pieces
    yield from cut.pieces(data)
