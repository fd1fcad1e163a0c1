"""The message limit: how long a message may be, and what becomes of a text that is longer. Pure.

A server says its limit in the welcome, or in the error with which it rejects a message.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from broadcast_server.protocol.bounds import BYTES_PER_LINE, MAX_MESSAGE_BYTES, MAX_TEXT_BYTES

from .oversize import CUT, CUT_MARK

MAX_CLUSTER_CHARS = 64
"""The longest sequence of characters that is seen as one and is not taken apart."""

_LIMIT = re.compile(r"message is (?:more than )?[0-9]+ (bytes|lines), limit is ([0-9]{1,9})\b")
_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # those of `str.splitlines`
_JOINER = "\u200d"


class MessageLimit(NamedTuple):
    """How long a message may be: *max_bytes* of UTF-8, and *max_lines*."""

    max_bytes: int
    max_lines: int

    @classmethod
    def of_bytes(cls, max_bytes: int) -> MessageLimit:
        """Return the limit of a server whose messages have at most *max_bytes*."""
        return cls(max_bytes, max(1, max_bytes // BYTES_PER_LINE))

    def lowered_by(self, error: str) -> MessageLimit | None:
        """Return the lower limit that the text of an *error* names, None if it names none."""
        found = _LIMIT.search(error)
        if found is None:
            return None
        number = int(found[2])
        if found[1] == "bytes":
            return MessageLimit.of_bytes(number) if 0 < number < self.max_bytes else None
        return self._replace(max_lines=number) if 0 < number < self.max_lines else None

    def fits(self, text: str) -> bool:
        """Return whether *text* can be a message."""
        return self._end(text, 0) == len(text)

    def fit(self, text: str, oversize: str) -> list[str]:
        """Return the messages to send for *text*: one if it fits, else as *oversize* says."""
        if self.fits(text):
            return [text]
        return [self._cut(text)] if oversize == CUT else self._split(text)

    def _split(self, text: str) -> list[str]:
        """Return the parts of *text*: whole lines if possible, else whole characters.

        Together they are *text*, but for the line breaks between them.
        """
        parts, start = [], 0
        while start < len(text):
            end = self._end(text, start)
            if end == start:  # an empty line, which is no message, or too long a character
                parts += [] if text[start] == "\n" else ["?"]
                start += 1
                continue
            if end < len(text) and text[end] != "\n":
                line_end = text.rfind("\n", (start + end) // 2, end)
                end = line_end if line_end > start else last_boundary(text, start, end)
            parts.append(text[start:end])
            start = end + (text[end : end + 1] == "\n")
        return parts

    def _cut(self, text: str) -> str:
        mark = next(
            each for each in (CUT_MARK, "…", ".") if len(each.encode()) <= max(1, self.max_bytes)
        )
        room = self._replace(max_bytes=self.max_bytes - len(mark.encode()))
        end = room._end(text, 0)
        return text[: last_boundary(text, 0, end)].rstrip(_LINE_ENDS) + mark

    def _end(self, text: str, start: int) -> int:
        """Return where the longest message ends that begins at *start*."""
        part = text[start : start + max(0, self.max_bytes)]
        if not part.isascii():
            data = part.encode(errors="replace")
            if len(data) > self.max_bytes:
                part = data[: self.max_bytes].decode(errors="ignore")
        if len(part) > self.max_lines:
            lines = part.splitlines(keepends=True)
            if len(lines) > self.max_lines:
                part = "".join(lines[: self.max_lines]).removesuffix("\n")
        return start + len(part)


ANY_LIMIT = MessageLimit.of_bytes(MAX_TEXT_BYTES)
"""The highest limit that a server can have."""

DEFAULT_LIMIT = MessageLimit.of_bytes(MAX_MESSAGE_BYTES)
"""The limit of a server that says nothing of it."""


def last_boundary(text: str, start: int, end: int) -> int:
    """Return the last place up to *end* where no character is taken apart, as people see them."""
    for place in range(end, max(start, end - MAX_CLUSTER_CHARS), -1):
        if place >= len(text) or _is_boundary(text, place):
            return place
    return end


def _is_boundary(text: str, place: int) -> bool:
    """Return whether a character ends before *place*: a part of UAX #29, section 3."""
    before, after = text[place - 1], text[place]
    if after.isascii():
        return (before, after) != ("\r", "\n")
    if _is_flag(after):
        run = place
        while run > max(0, place - MAX_CLUSTER_CHARS) and _is_flag(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 0
    joined = _JOINER in (before, after) or unicodedata.category(after)[0] == "M"
    modified = "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f"
    syllable = "\u1160" <= after <= "\u11ff"  # of conjoining jamo
    return not (joined or modified or syllable)


def _is_flag(character: str) -> bool:
    """Whether it is one of the two letters of a flag."""
    return "\U0001f1e6" <= character <= "\U0001f1ff"
