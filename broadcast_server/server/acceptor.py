"""The acceptor: accepts the connections of one listening socket, and makes their transports."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from .listen_socket import ListenSocket
from .socket_transport import SocketTransport
from .transport import OPTIONS_ARE_INHERITED, set_options

ACCEPTS_PER_PASS = 256
"""How many connections are accepted in one pass of the event loop."""

RETRY_S = 1.0
"""Seconds until the next attempt, if the system is short of something that a connection needs."""

SHORTAGES = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM


class Acceptor:
    """Accepts the connections of *sock*, each for a protocol that *factory* makes."""

    def __init__(self, sock: ListenSocket, factory: Callable[[], asyncio.Protocol]) -> None:
        self._sock = sock
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        """Listen, with *backlog* connections that may wait. Raises OSError."""
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._resume()

    def close(self) -> None:
        """Stop accepting, and close the socket."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        if self._retry is not None:
            self._retry.cancel()

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_PASS):
            try:
                connection, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in SHORTAGES:
                    raise
                self._loop.remove_reader(self._sock.fileno())
                self._retry = self._loop.call_later(RETRY_S, self._resume)
                return
            connection.setblocking(False)
            if not OPTIONS_ARE_INHERITED and isinstance(address, tuple):
                set_options(connection)
            SocketTransport(self._loop, connection, address).start(self._factory())
