"""File exhaustion: whether enough files are free, which errors say so, and one line a minute."""

from __future__ import annotations

import errno
import logging
import os
import time
from threading import Lock

from broadcast_server.server.file_limit import max_clients_for

LOG_INTERVAL_S = 60.0
"""Seconds between two lines about the same, at least."""

logger = logging.getLogger(__name__)


class RepeatedWarning:
    """A warning that is logged once a minute at most, with how often it was left out."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = Lock()
        self._next = float("-inf")
        self._left_out = 0

    def report(self) -> None:
        """Log the warning, or count it. Any thread may call this."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                self._left_out += 1
                return
            left_out, self._left_out = self._left_out, 0
            self._next = now + LOG_INTERVAL_S
        more = f", and {left_out} more since the last line" if left_out else ""
        logger.warning("too many files are open, %s%s (raise ulimit -n)", self._text, more)


_last_short = float("-inf")

new_connections = RepeatedWarning("new connections wait")
pages = RepeatedWarning("a page was not served")


def is_exhaustion(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it follows from, means that no file is left.

    SQLite and PostgreSQL's library give texts and no numbers. SQLite's is the same for a file that
    is missing, so it counts only if files are or were short.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error).lower()
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if "too many open files" in text:
            return True
        if "unable to open database file" in text and _were_short():
            return True
        error = error.__cause__ or error.__context__
    return False


def files_are_short() -> bool:
    """Tell whether so few files are free that they are kept for the process itself."""
    global _last_short  # noqa: PLW0603  # the files are those of the process as well
    free, reserve = _free_files()
    short = free <= reserve
    if short:
        _last_short = time.monotonic()
    return short


def _were_short() -> bool:
    """Tell whether files are short, or were so recently: others may have been closed since."""
    free, reserve = _free_files()
    return free <= 2 * reserve or time.monotonic() - _last_short < LOG_INTERVAL_S


def _free_files() -> tuple[float, int]:
    """Return how many files can be opened at least, and how many are kept for the process."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return float("inf"), 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return float("inf"), 0
    reserve = soft - max_clients_for(soft)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)  # the system gives out the lowest free number
    except OSError as error:
        return (0 if error.errno in (errno.EMFILE, errno.ENFILE) else float("inf")), reserve
    os.close(lowest)
    return soft - lowest, reserve
