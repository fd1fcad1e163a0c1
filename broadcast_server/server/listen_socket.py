"""The listening socket: accepts connections, and drops those that the process has no place for.

A `ListenSocket` handles running out of file descriptors. Its `ConnectionTracker` keeps clients
that connect and join no room from using up all of them.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from broadcast_server.admission.pending import PendingConnections
from broadcast_server.admission.trusted_proxies import TrustedProxies, client_key

logger = logging.getLogger("broadcast_server")

ACCEPT_PASSES = 5
"""Passes of the event loop after which an accepted socket has its connection, and one to spare."""

LOG_INTERVAL_S = 60.0
"""How long the same warning is not logged again."""


class ListenError(Exception):
    """The server cannot listen. The text is for the user, and says why."""


class AcceptedSocket(socket.socket):
    """The socket of an accepted connection. Closing it tells the *tracker*."""

    __slots__ = ("file_number", "tracker")  # a dictionary would take 0.3 KiB

    tracker: ConnectionTracker
    file_number: int

    def close(self) -> None:
        """Close the socket."""
        if self.fileno() >= 0:
            self.tracker.closed(self)
        super().close()


class ConnectionTracker:
    """All accepted connections of a server, in a room or *pending*."""

    def __init__(self, pending: PendingConnections, trusted_proxies: TrustedProxies) -> None:
        self._pending = pending
        self._trusted_proxies = trusted_proxies
        self._by_file_number: dict[int, AcceptedSocket] = {}
        self._logged_at = -LOG_INTERVAL_S
        self._stopping = False

    @property
    def full(self) -> bool:
        """Whether no connection can be accepted before another one is closed."""
        return self._stopping or self._pending.full

    def accepted(self, connection: socket.socket, address: object) -> AcceptedSocket:
        """Track a connection that was accepted, and cut a pending one if there are too many."""
        # With its kind, which Python would ask the system for.
        kind = connection.family, connection.type, connection.proto
        accepted = AcceptedSocket(*kind, fileno=connection.detach())
        accepted.tracker, accepted.file_number = self, accepted.fileno()
        self._by_file_number[accepted.file_number] = accepted
        evicted = self._pending.add(accepted.file_number, self.key_of(address))
        if evicted is not None:
            self._evict(self._by_file_number[evicted])
        return accepted

    async def close_all(self, abort: Callable[[], None]) -> None:
        """Accept no more, and *abort* every connection, also those accepted a moment ago.

        With TLS, asyncio makes the transport of an accepted socket, and tells its protocol, in
        later passes of the loop. If it has stopped to listen by then, it leaves the socket open.
        What is left after these passes is in a TLS handshake, and ends with its own time-out.
        """
        self._stopping = True
        abort()
        for _ in range(ACCEPT_PASSES):
            if not self._by_file_number:
                return
            await asyncio.sleep(0)
            abort()

    def key_of(self, address: object) -> str | None:
        """Return the key under which connections from *address* are counted, see `client_key`.

        *address* is what the socket reports. The client behind a proxy is not known before its
        request, so a trusted proxy has the key None.
        """
        peer = address[0] if isinstance(address, tuple) else None
        return None if self._trusted_proxies.trusts(peer) else client_key(peer)

    def _evict(self, connection: AcceptedSocket) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            text = "%d connections have not joined a room, the oldest are closed for new ones"
            logger.warning(text, len(self._pending) + 1)
        with suppress(OSError):  # it was reset
            connection.shutdown(socket.SHUT_RDWR)

    def joined(self, file_number: int) -> None:
        """Note that a connection has joined a room, and is not to be cut for new ones."""
        self._pending.joined(file_number)

    def closed(self, connection: AcceptedSocket) -> None:
        """Note that a connection is about to be closed."""
        del self._by_file_number[connection.file_number]
        self._pending.closed(connection.file_number)


class ListenSocket(socket.socket):
    """A listening socket that drops new connections when no file descriptor is left for them.

    asyncio would log a traceback for each place in the backlog, accept nothing for a second, and
    leave the clients without an answer meanwhile. So this socket keeps one file open in reserve:
    it closes that file, accepts the connection, closes it, and opens the file again.
    """

    tracker: ConnectionTracker | None = None
    _spare_file: int | None = None
    _logged_at = -LOG_INTERVAL_S

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Raises BlockingIOError if there is none, or no place for it."""
        if self.tracker is None:
            return self._accept_or_drop()
        if self.tracker.full:  # until the connections that were cut are closed
            raise BlockingIOError
        connection, address = self._accept_or_drop()
        return self.tracker.accepted(connection, address), address

    def _accept_or_drop(self) -> tuple[socket.socket, Any]:
        if self._spare_file is None:
            with suppress(OSError):
                self._spare_file = os.open(os.devnull, os.O_RDONLY)
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or self._spare_file is None:
                raise
        self._drop_one()
        raise BlockingIOError

    def _drop_one(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            logger.warning("too many files are open, new connections are dropped (raise ulimit -n)")
        if self._spare_file is not None:
            os.close(self._spare_file)
            self._spare_file = None
        with suppress(OSError):
            super().accept()[0].close()
        with suppress(OSError):
            self._spare_file = os.open(os.devnull, os.O_RDONLY)

    def close(self) -> None:
        """Close the socket and the file in reserve."""
        super().close()
        if self._spare_file is not None:
            os.close(self._spare_file)
            self._spare_file = None
