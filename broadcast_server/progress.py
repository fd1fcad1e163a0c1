"""The progress line: how far a long input is, on a terminal's standard error and gone at its end.

What it counts is told to it.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

PATIENCE = 1.0
"""Seconds that something has to be under way before there is a line."""

TICK = 0.2
"""Seconds between two looks."""


def progress_words(said: int, back: int, read: int, size: int | None) -> str:
    """Say how much is done, and of an input with a *size* in bytes, how much that is."""
    share = f", {min(100, 100 * read // size)} %" if size else ""
    return f"{said:,} said, {back:,} came back{share}"


class Pace:
    """Decides whether there is to be a line: of what is over in a moment nobody wants one."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._said = 0

    def shows(self, said: int, back: int, now: float) -> bool:
        """Tell whether so much has been under way for long enough."""
        if said == back and said == self._said:
            self._since = None  # all is done, and nothing comes: a log that is followed
        elif self._since is None:
            self._since = now
        self._said = said
        return self._since is not None and now - self._since >= PATIENCE


class ProgressLine:
    """A line of standard error that is written over again and again."""

    def __init__(self) -> None:
        self._shown = 0  # columns that it takes

    def show(self, words: str) -> None:
        """Have the line say *words*, as far as the terminal is wide."""
        width = 0
        with suppress(OSError, ValueError):
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        words = words[: (width or 80) - 1]  # some do not know how wide they are
        self._write(f"\r{words:{self._shown}}")
        self._shown = len(words)

    def clear(self) -> None:
        """Take the line away, if there is one."""
        if self._shown:
            self._write(f"\r{'':{self._shown}}\r")
            self._shown = 0

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # it is closed: nobody wants to know
            sys.stderr.write(text)
            sys.stderr.flush()


def wanted() -> bool:
    """Tell whether somebody sees standard error, and standard input is not what they type."""
    if sys.stderr is None or sys.stdin is None:
        return False
    return sys.stderr.isatty() and not sys.stdin.isatty()


def input_size() -> int | None:
    """Return how many bytes there are to read, None where that cannot be known."""
    if sys.stdin is None:
        return None
    try:
        found = os.fstat(sys.stdin.fileno())
        if not stat.S_ISREG(found.st_mode):
            return None
        return max(0, found.st_size - os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR))
    except (OSError, ValueError):
        return None
