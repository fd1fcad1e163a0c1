"""The door: a socket that listens, and turns away whom there is no file for."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any

log = logging.getLogger("broadcast_server")

AGAIN = 60.0
"""Seconds after which it is worth another line that there are no files."""


class NoPlace(Exception):
    """Nothing can listen there; the text says why."""


class Door(socket.socket):
    """A listening socket that sends away at once whom it has no file for.

    asyncio would log a traceback for each place of its queue, try again after a second,
    and leave who comes meanwhile without an answer. One file is kept for this: it is
    closed, the connection accepted and closed, and the file opened again.
    """

    _spare: int | None = None
    _told = -AGAIN

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare is None:
                raise
        self._turn_away()
        raise BlockingIOError

    def _turn_away(self) -> None:
        now = time.monotonic()
        if now - self._told >= AGAIN:
            self._told = now
            log.warning("too many files are open, who comes now is turned away (raise ulimit -n)")
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with suppress(OSError):
            super().accept()[0].close()
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        """Close it, and the spare file."""
        super().close()
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
