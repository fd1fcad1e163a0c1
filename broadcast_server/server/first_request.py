"""The first request: a new connection, until its request line and headers decide its protocol.

It reads the head of the request, with limits on bytes and time, and hands the connection over: to
a `WebSocketConnection` if the client asks for an upgrade, to an `HTTPConnection` otherwise. The
server of websockets is no choice here. It answers only GET requests without a body, so this port
could serve neither POST requests nor event streams.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from broadcast_server.http.site import MAX_HEAD_BYTES

from .api import ServerAPI

if TYPE_CHECKING:
    from .http_connection import HTTPConnection
    from .websocket import WebSocketConnection


TLS_RECORD_PREFIX = b"\x16\x03"
"""The first bytes from a client that takes this for a wss:// or https:// server."""

STOP_GRACE_S = 0.5
"""How long a request may still take when the server stops. It may be on its way."""

_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)


class FirstRequest(asyncio.Protocol):
    """A new connection, until the head of its first request is complete."""

    __slots__ = ("_head", "_server", "_timer", "_transport")

    close_code = None  # it is in no room
    allowance = None

    def __init__(self, server: ServerAPI) -> None:
        self._server = server
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but no longer than the handshake may take."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(
            self._server.timeouts.handshake, self._transport.abort
        )
        self._server.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        """Add *data* to the head, and hand the connection over once it is complete."""
        self._head += data
        if self._head.startswith(TLS_RECORD_PREFIX):
            # The client waits for a TLS handshake. Abort now instead of after the timeout.
            self._transport.abort()
            return
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_HEAD_BYTES:
            return
        self._timer.cancel()
        protocol: WebSocketConnection | HTTPConnection
        # An address that is not percent-encoded goes to h11, where it is answered with 400 and
        # the reason. websockets would close the connection, or name none.
        line = self._head.partition(b"\r\n")[0]
        if (
            0 <= end <= MAX_HEAD_BYTES
            and line.isascii()
            and line.count(b" ") == 2
            and _UPGRADE.search(self._head, 0, end + 2)
        ):
            # Imported here, as loading websockets and h11 takes too long before the server listens.
            # `load_late_modules` loads both right after that.
            from .websocket import WebSocketConnection

            protocol = WebSocketConnection(self._server)
        else:
            from .http_connection import HTTPConnection

            protocol = HTTPConnection(self._server)
        # In this order: a server that stops waits until it has no connection.
        self._server.connection_opened(protocol)
        self._server.connection_closed(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        # The head on its own, as websockets would parse what follows it before the handshake
        # is accepted.
        head_size = end + 4 if 0 <= end <= MAX_HEAD_BYTES else MAX_HEAD_BYTES + 1
        protocol.data_received(self._head[:head_size])
        if self._head[head_size:] and not self._transport.is_closing():
            protocol.data_received(self._head[head_size:])

    def shut_down(self) -> None:
        """Leave the client a moment to send its request, and to be told that the server stops."""
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(STOP_GRACE_S, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that sent no complete request."""
        self._timer.cancel()
        self._server.connection_closed(self)
