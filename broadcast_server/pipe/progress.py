"""The progress line: how far a long input is, shown on standard error while it is being sent.

The pipe counts; this module decides whether there is a line, and draws and erases it.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

SHOW_AFTER_S = 1.0
"""Seconds for which messages must have been on their way before the line appears."""

REFRESH_INTERVAL_S = 0.2
"""Seconds between two updates of the line."""

FALLBACK_COLUMNS = 80
"""Columns of a terminal that does not report its width."""


def progress_text(sent: int, confirmed: int, read_bytes: int, input_bytes: int | None) -> str:
    """Return the progress: messages sent and confirmed, and the percentage of the input read.

    The percentage is left out if the size of the input is not known.
    """
    percent = f", {min(100, 100 * read_bytes // input_bytes)} %" if input_bytes else ""
    return f"{sent:,} sent, {confirmed:,} confirmed{percent}"


class ProgressGate:
    """Decides whether to show the line: only while messages have been on their way for long."""

    def __init__(self) -> None:
        self._since: float | None = None  # when messages were first seen on their way
        self._sent = 0

    def shows(self, sent: int, confirmed: int, now: float) -> bool:
        """Tell whether to show the line at *now*, in seconds of a monotonic clock."""
        if sent == confirmed and sent == self._sent:
            self._since = None  # nothing is on its way, as with the pauses of `tail -f`
        elif self._since is None:
            self._since = now
        self._sent = sent
        return self._since is not None and now - self._since >= SHOW_AFTER_S


class ProgressLine:
    """A line on standard error that is overwritten in place."""

    def __init__(self) -> None:
        self._columns = 0  # columns that the line occupies

    def show(self, text: str) -> None:
        """Show *text*, cut to the width of the terminal."""
        width = 0
        with suppress(OSError, ValueError):
            width = os.get_terminal_size(sys.stderr.fileno()).columns
        text = text[: (width or FALLBACK_COLUMNS) - 1]  # some terminals report a width of 0
        self._write(f"\r{text:{self._columns}}")
        self._columns = len(text)

    def clear(self) -> None:
        """Erase the line, if it is shown."""
        if self._columns:
            self._write(f"\r{'':{self._columns}}\r")
            self._columns = 0

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # standard error is closed: there is nobody to inform
            sys.stderr.write(text)
            sys.stderr.flush()


def is_progress_wanted() -> bool:
    """Tell whether standard error is a terminal, and standard input is something else."""
    if sys.stderr is None or sys.stdin is None:
        return False
    return sys.stderr.isatty() and not sys.stdin.isatty()


def input_size() -> int | None:
    """Return how many bytes are left to read on standard input, None if it is not a file."""
    if sys.stdin is None:
        return None
    try:
        status = os.fstat(sys.stdin.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        return max(0, status.st_size - os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR))
    except (OSError, ValueError):
        return None
