"""The typed line: what is being typed at a terminal that does not edit lines itself. Pure.

It has the keys of a terminal's own line editor: Backspace, Ctrl+U, Ctrl+W, Ctrl+D and Enter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from broadcast_server.protocol.control_sequences import CONTROL_SEQUENCE

MAX_TYPED_CHARS = 2**17
"""Characters of a line; more than any server accepts."""


KEYS = re.compile(f"\x1bO.|{CONTROL_SEQUENCE}")
"""What keys such as arrows send, which move nothing here."""


class Keystroke(NamedTuple):
    """What a key does: the terminal shows *echo*; *line* is complete, or the input has ended."""

    echo: str
    line: str | None = None
    is_end: bool = False


class TypedLine:
    """The line that is being typed. It is empty, or *text*."""

    def __init__(self) -> None:
        self.text = ""
        """What was typed so far."""

    def feed(self, typed: str) -> Iterator[Keystroke]:
        """Take what was typed or pasted, and yield what each key does."""
        for char in KEYS.sub("", typed):
            match char:
                case "\r" | "\n":
                    line, self.text = self.text, ""
                    yield Keystroke("\n", line)
                case "\x04" if not self.text:  # Ctrl+D
                    yield Keystroke("", is_end=True)
                case "\x7f" | "\b":
                    yield self._erase(len(self.text) - 1)
                case "\x15":  # Ctrl+U
                    yield self._erase(0)
                case "\x17":  # Ctrl+W
                    words = self.text.rstrip()
                    yield self._erase(words.rfind(" ") + 1)
                case "\t":
                    yield self._add(" ")
                case _ if unicodedata.category(char) != "Cc":
                    yield self._add(char)

    def _add(self, char: str) -> Keystroke:
        if len(self.text) >= MAX_TYPED_CHARS:
            return Keystroke("")
        self.text += char
        return Keystroke(char)

    def _erase(self, begin: int) -> Keystroke:
        """Erase the text from *begin*, and what combines with the character before that."""
        begin = max(0, begin)
        while begin > 0 and not _columns(self.text[begin : begin + 1]):
            begin -= 1
        erased, self.text = self.text[begin:], self.text[:begin]
        return Keystroke("\b \b" * sum(map(_columns, erased)))


def _columns(char: str) -> int:
    """Return how many columns of a terminal *char* has, as far as most agree."""
    if not char or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
