"""The door: a socket that listens, and turns away whom there is no file or no place for."""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from typing import Any

from .porch import Porch
from .proxies import Trusted, one

log = logging.getLogger("broadcast_server")

AGAIN = 60.0
"""Seconds after which it is worth another line that there are no files."""


class NoPlace(Exception):
    """Nothing can listen there; the text says why."""


class Guest(socket.socket):
    """An accepted connection, until it is closed."""

    guests: Guests
    number: int

    def close(self) -> None:
        """Close it."""
        if self.fileno() >= 0:
            self.guests.gone(self)
        super().close()


class Guests:
    """All accepted connections of a server, on the *porch* or in."""

    def __init__(self, porch: Porch, trusted: Trusted) -> None:
        self._porch = porch
        self._trusted = trusted
        self._by: dict[int, Guest] = {}  # by their files
        self._told = -AGAIN

    @property
    def full(self) -> bool:
        """Whether nobody can come before someone is gone."""
        return self._porch.full

    def come(self, connection: socket.socket, address: object) -> Guest:
        """Take a connection that was accepted, for which another may have to go."""
        guest = Guest(fileno=connection.detach())
        guest.guests, guest.number = self, guest.fileno()
        self._by[guest.number] = guest
        peer = address[0] if isinstance(address, tuple) else None
        # Who comes by a proxy is known only when it has asked for something.
        place = None if self._trusted.has_peer(peer) else one(peer)
        other = self._porch.come(guest.number, place)
        if other is not None:
            self._send_away(self._by[other])
        return guest

    def _send_away(self, guest: Guest) -> None:
        now = time.monotonic()
        if now - self._told >= AGAIN:
            self._told = now
            text = "%d connections ask for nothing, so the oldest are cut for who comes now"
            log.warning(text, len(self._porch) + 1)
        with suppress(OSError):  # it was reset
            guest.shutdown(socket.SHUT_RDWR)

    def enter(self, number: int) -> None:
        """Note that someone, by its file, is in and so may stay."""
        self._porch.leave(number)

    def gone(self, guest: Guest) -> None:
        """Note that a connection is about to be closed."""
        del self._by[guest.number]
        self._porch.gone(guest.number)


class Door(socket.socket):
    """A listening socket that sends away at once whom it has no file for.

    asyncio would log a traceback for each place of its queue, try again after a second,
    and leave who comes meanwhile without an answer. One file is kept for this: it is
    closed, the connection accepted and closed, and the file opened again.
    """

    guests: Guests | None = None
    _spare: int | None = None
    _told = -AGAIN

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        if self.guests is None:
            return self._accepted()
        if self.guests.full:  # until those are gone who were sent away
            raise BlockingIOError
        connection, address = self._accepted()
        return self.guests.come(connection, address), address

    def _accepted(self) -> tuple[socket.socket, Any]:
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
