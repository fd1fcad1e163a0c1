"""The TLS transport: TLS between a connection's protocol and its socket, on the server's side.

asyncio's own is no choice for a port that strangers can reach. Each of its connections has a buffer
of 256 KiB from before the first byte of the client, which is not freed by a failed handshake but
only later by the garbage collector. So this transport uses the same `ssl.SSLObject` by itself, with
one buffer for all connections. It encrypts what is written at once: all that waits is in the
transport of the socket, and has the limits of that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from .handshakes import Handshakes

HANDSHAKE_RECORD = 0x16
RECORD_HEADER_BYTES = 5
MAX_RECORD_BYTES = 2**14
"""Constants of a TLS record (RFC 8446, section 5.1)."""

MAX_HELLO_BYTES = 2 * 2**10
"""How much of a ClientHello is awaited before a TLS session is made for it. Few are longer. Before
there is a session no more than this is received, and the rest stays in the system's buffer."""

MAX_HANDSHAKE_BYTES = RECORD_HEADER_BYTES + MAX_RECORD_BYTES
"""How much a client may send until the handshake is complete. OpenSSL would take 128 KiB."""


class TLSTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """One connection: the transport of an application, and the protocol of the socket below.

    Args:
        factory: Makes the application's protocol, when the handshake is complete.
        context: The server's certificate and settings.
        handshakes: Starts the handshake. The first request ends it: when the application sets
            another protocol.
        timeout: How long the handshake may take, in seconds.

    """

    __slots__ = (
        "_application",
        "_below",
        "_closing",
        "_context",
        "_ended",
        "_established",
        "_factory",
        "_handshakes",
        "_hello",
        "_incoming",
        "_number",
        "_outgoing",
        "_reading_paused",
        "_received",
        "_reply_waits",
        "_session",
        "_timeout",
        "_timer",
        "_writing_paused",
    )

    def __init__(
        self,
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        handshakes: Handshakes,
        timeout: float,
    ) -> None:
        self._factory = factory
        self._context = context
        self._handshakes = handshakes
        self._timeout = timeout
        self._application: asyncio.Protocol | None = None
        self._session: ssl.SSLObject | None = None
        self._number = 0  # of its handshake, 0 before it was requested
        self._hello = b""  # what was received before there is a session
        self._received = 0  # bytes, until the handshake is complete
        self._established = False
        self._ended = False  # the client sends nothing more
        self._closing = False
        self._reading_paused = False
        self._writing_paused = False
        # Set while the client is not read, because it takes no answers to its key updates.
        self._reply_waits = False

    # -- called by the transport of the socket --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake."""
        self._below = cast(asyncio.Transport, transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._timeout, self._below.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to receive into."""
        buffer = self._handshakes.receive_buffer
        if self._established:
            return buffer
        rest = MAX_HELLO_BYTES - len(self._hello)
        # asyncio refuses an empty buffer, and on Windows may pass on more while reading is paused.
        return buffer[: rest if rest > 0 else MAX_HELLO_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """Process bytes that the client sent."""
        if self._closing or self._ended:
            return
        data = self._handshakes.receive_buffer[:nbytes]
        if not self._established:
            self._received += nbytes
            if self._received > MAX_HANDSHAKE_BYTES:
                self.abort()
                return
        if self._session is None:
            self._receive_hello(bytes(data))
            return
        self._incoming.write(data)
        self._proceed(self._session)

    def eof_received(self) -> bool:
        """Close the connection, unless the application still has something to send."""
        if not self._established:
            return False
        self._end_reading()
        return True

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._writing_paused = True
        if self._application is not None:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._writing_paused = False
        if self._reply_waits:
            self._reply_waits = False
            if not self._reading_paused:
                self._below.resume_reading()
        if self._application is not None:
            self._application.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on. All that the connection has is free then, as nothing refers to it."""
        self._timer.cancel()
        self._closing = True
        self._handshakes.release(self._number)
        self._session = None
        application, self._application = self._application, None
        if application is not None:
            application.connection_lost(exc)

    # -- the handshake --

    def _receive_hello(self, data: bytes) -> None:
        """Wait for a whole ClientHello: half of one costs no more than half a request."""
        had_hello = self._has_hello
        self._hello += data
        if self._hello[0] != HANDSHAKE_RECORD:  # a client without TLS
            self.abort()
            return
        if len(self._hello) >= MAX_HELLO_BYTES:
            self._below.pause_reading()
        if self._has_hello and not had_hello:
            peer = self._below.get_extra_info("peername")
            self._number = self._handshakes.request(peer, self)

    @property
    def _has_hello(self) -> bool:
        """Whether the first record is complete, or too long to wait for."""
        hello = self._hello
        if len(hello) < RECORD_HEADER_BYTES:
            return False
        size = RECORD_HEADER_BYTES + int.from_bytes(hello[3:RECORD_HEADER_BYTES], "big")
        return len(hello) >= min(size, MAX_HELLO_BYTES)

    def start_handshake(self) -> None:
        """Make a TLS session, and continue with what was received so far."""
        if self._closing:
            return
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._hello)
        self._hello = b""
        self._below.resume_reading()
        self._proceed(self._session)

    def _proceed(self, session: ssl.SSLObject) -> None:
        """Go on with what was received: with the handshake, or with the application's data."""
        if not self._established:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                return
            except ssl.SSLError:
                self.abort()
                return
            self._timer.cancel()
            self._established = True
            self._flush()
            self._application = self._factory()
            self._application.connection_made(self)
        self._decrypt(session)

    def _decrypt(self, session: ssl.SSLObject) -> None:
        """Pass on all that was received, which is at most one buffer and a part of a record."""
        parts = []
        ended = False
        try:
            while part := session.read(MAX_RECORD_BYTES):
                parts.append(part)
            ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError:
            self.abort()
            return
        if self._outgoing.pending:
            self._flush()
            if self._writing_paused:
                self._reply_waits = True
                self._below.pause_reading()
        if parts and self._application is not None:
            self._application.data_received(b"".join(parts))
        if ended:
            self._end_reading()

    def _end_reading(self) -> None:
        if self._ended or self._closing:
            return
        self._ended = True
        if self._application is None or not self._application.eof_received():
            self.close()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._below.write(data)

    # -- called by the application --

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Encrypt and send *data*."""
        session = self._session
        if self._closing or session is None:
            return
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[session.write(rest) :]
        except ssl.SSLError:
            self.abort()
            return
        self._below.write(self._outgoing.read())

    def close(self) -> None:
        """Tell the client that nothing follows, and close the socket once all is written.

        The client need not answer (RFC 8446, section 6.1).
        """
        if self._closing:
            return
        self._closing = True
        if self._session is not None and self._established:
            try:
                self._session.unwrap()
            except ssl.SSLError:  # most often SSLWantReadError: the client has not ended its half
                pass
            self._flush()
        self._below.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or about to be."""
        return self._closing or self._below.is_closing()

    def pause_reading(self) -> None:
        """Receive nothing more until `resume_reading`."""
        self._reading_paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        self._reading_paused = False
        if not self._reply_waits:
            self._below.resume_reading()

    def is_reading(self) -> bool:
        """Return whether it receives."""
        return self._below.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Pass what follows to *protocol*, as the first request is complete."""
        self._application = cast(asyncio.Protocol, protocol)
        self._handshakes.release(self._number)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the application's protocol."""
        return cast(asyncio.BaseProtocol, self._application)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the socket's transport knows."""
        return self._below.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many encrypted bytes may wait until the application is paused."""
        self._below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait."""
        return self._below.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """Return False: `close` ends the connection in both directions."""
        return False
