"""The stream connection: one subscriber that reads a room's events over HTTP.

It takes over the socket from an `HTTPConnection` once the client is admitted. The room decides
which events to write, and `http.stream` how they are encoded. Nothing that the client sends from
then on is read.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable

from broadcast_server.admission.allowances import Allowance
from broadcast_server.http.stream import (
    LAST_CHUNK,
    STALL_TIMEOUT_S,
    frame_chunked,
    frame_plain,
    sse_preamble,
)
from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, NORMAL_CLOSURE, Cursor, Format
from broadcast_server.protocol.rejection import STOPPING
from broadcast_server.rooms.receiver import FrameEncoder

from .api import ServerAPI
from .transport import describe_client, limit_buffers

CLOSE_TIMEOUT_S = 10.0
"""How long a client may take to read what is left when its stream is closed."""


class StreamConnection(asyncio.Protocol):
    """One subscriber's connection.

    Args:
        server: The server that it belongs to.
        transport: The socket, with no bytes of the response written yet.
        client: The client's address as far as it is known, None for a Unix socket.
        head: The response's status line and headers.
        format: How events are encoded.
        chunked: Whether to use chunked transfer encoding, which HTTP/1.0 does not know.
        poll: Whether the stream ends once the client has what there is.

    """

    def __init__(
        self,
        server: ServerAPI,
        transport: asyncio.Transport,
        client: str | None,
        *,
        head: bytes,
        format: Format,
        chunked: bool,
        poll: bool,
    ) -> None:
        self._server = server
        self._transport = transport
        self.client = client
        self.allowance: Allowance | None = None
        self.encode: FrameEncoder = frame_chunked if chunked else frame_plain
        self._head = head
        self._format = format
        self._chunked = chunked
        self._poll = poll
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.paused = False
        self.close_code: int | None = NORMAL_CLOSURE  # clients end a stream by disconnecting
        limit_buffers(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT") and client is not None:
            # A client that vanished does not acknowledge the heartbeats. The system drops it
            # after the same time as a client that does not read.
            connection = transport.get_extra_info("socket")
            milliseconds = int(STALL_TIMEOUT_S * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    @property
    def address(self) -> str:
        """The client's address and port, for the log."""
        return describe_client(self._transport, self.client)

    @property
    def file_number(self) -> int:
        """The number of its open file, -1 if it is closed."""
        return int(self._transport.get_extra_info("socket").fileno())

    # -- called by the room and the server --

    def start(self, at: Cursor) -> None:
        """Begin the response: the events after *at* follow."""
        preamble = sse_preamble(self._format, at, secrets.randbelow(1000) / 1000)
        self._transport.write(self._head + (b"" if preamble is None else self.encode(preamble)))

    def write(self, frames: Iterable[bytes]) -> None:
        """Write frames that `encode` made, for this stream or one of the same kind."""
        if not self._closing:
            for frame in frames:
                self._transport.write(frame)

    def close(self, code: int, reason: str) -> None:
        """End the response. The last event told the client why."""
        if not self._closing:
            self._closing = True
            self.close_code = code
            if self._chunked:
                self._transport.write(LAST_CHUNK)
            self._start_timer(CLOSE_TIMEOUT_S)
            self._transport.close()

    def shut_down(self) -> None:
        """End the response, because the server stops."""
        self.close(STOPPING.code, STOPPING.text)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # -- called by the transport --

    def eof_received(self) -> bool:
        """Close the connection, unless it polls: then the response ends soon by itself."""
        return self._poll

    def pause_writing(self) -> None:
        """Note that the client does not read. It is cut if it does not read on in time."""
        self.paused = True
        if not self._closing:
            self._start_timer(STALL_TIMEOUT_S)
        self._server.flow_changed(self)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self.paused = False
        if self._timer is not None and not self._closing:
            self._timer.cancel()
        self._server.flow_changed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the room, and cancel the timer."""
        if exc is not None:
            self.close_code = ABNORMAL_CLOSURE
        if self._timer is not None:
            self._timer.cancel()
        self._server.leave(self)
        self._server.connection_closed(self)

    def _start_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._timed_out)

    def _timed_out(self) -> None:
        self.close_code = ABNORMAL_CLOSURE
        self._transport.abort()
