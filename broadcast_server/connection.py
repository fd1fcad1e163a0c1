"""One WebSocket connection, on websockets' Sans-I/O protocol.

A `Socket` knows how to speak WebSocket and when a peer is dead. What is said in
a room it leaves to its `House`. It has no task: a single timer at a time, for
what it waits for, cancelled when the connection is lost, since a pending timer
would keep all of it in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from .entry import Entry, parse_entry
from .frames import Cut
from .protocol import MAX_FRAME_BYTES, SUBPROTOCOL, CloseCode, Format, json_line, text_line
from .web import Site, is_socket_path, origin_allowed

try:
    from websockets.speedups import apply_mask
except ImportError:  # in the single file, and where there was no compiler
    from websockets.utils import apply_mask

BUFFER = 64 * 2**10
"""So many bytes may wait in a transport before its peer counts as stalled."""

MOST = 8 * 2**20
"""With so many bytes in its transport a peer is cut: it asks, and does not read our answers."""

# websockets logs every connection at level info, and our own log says it better.
_silent = logging.getLogger("websockets.broadcast")
_silent.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Times:
    """How long a connection waits for what, in seconds."""

    handshake: float = 10.0  # until the first request is there
    ping: float = 20.0  # between two pings; a peer that was not heard meanwhile is dead
    close: float = 10.0  # until a closing handshake is over


class Connection(Protocol):
    """What a server can do with any of its connections, whatever it speaks."""

    def shut(self) -> None:
        """End it well, since the server stops."""

    def abort(self) -> None:
        """Cut it."""


class House(Site, Protocol):
    """What a socket needs of the server that it belongs to."""

    times: Times
    origins: frozenset[str]

    def opened(self, connection: Connection) -> None:
        """Remember a connection, until it is `lost`."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""

    def enter(self, socket: Socket, entry: Entry) -> None:
        """Let *socket* into the room that it asked for."""

    def receive(self, socket: Socket, frame: str) -> None:
        """Take what *socket* sent."""

    def leave(self, socket: Socket) -> None:
        """Take *socket* out of its room, if it is in one."""

    def flow(self, socket: Socket) -> None:
        """Note that *socket* was paused or resumed."""

    def expel(self, socket: Socket, code: CloseCode, fault: str, text: str) -> None:
        """Close *socket* for a fault of its own."""


def frame_of(payload: bytes) -> bytes:
    """Serialise a text frame as a server sends it: once, for any number of sockets."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Socket(asyncio.Protocol):
    """One WebSocket connection, from its handshake on."""

    __slots__ = (
        "_closing",
        "_cut",
        "_heard",
        "_house",
        "_parts",
        "_protocol",
        "_timer",
        "_transport",
        "paused",
    )

    def __init__(self, house: House) -> None:
        self._house = house
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            select_subprotocol=_select_subprotocol,
            max_size=MAX_FRAME_BYTES,
            logger=_silent,
        )
        self._cut = Cut(apply_mask)
        self._parts: bytearray | None = None  # of a fragmented message
        self._heard = True
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self.paused = False

    # -- what the transport says --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from its arrival."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER)
        self._wait(self._house.times.ping, self._beat)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._heard = True
        protocol = self._protocol
        if protocol.state is State.CONNECTING:
            self._hear(data)
        else:
            for ordinary, piece in self._cut.pieces(data):
                if not ordinary:
                    self._hear(piece)
                elif protocol.state is State.OPEN:
                    self._text(piece)
        if protocol.state is State.CONNECTING and protocol.writes == [b""]:
            # Not HTTP as websockets will have it: it would hang up without a word.
            refusal = protocol.reject(400, "request is not a valid handshake\n")
            self._transport.write(refusal.serialize())
        if protocol.state is not State.OPEN:  # closed by the peer, or failed by a fault
            self._house.leave(self)
        self._flush()

    def eof_received(self) -> None:
        """Take it that the peer sends no more, and close."""
        self._protocol.receive_eof()
        self._house.leave(self)
        self._flush()
        # The transport closes when all is written, which a peer that reads nothing
        # could put off for ever.
        self._closing = True
        self._wait(self._house.times.close, self._transport.abort)

    def pause_writing(self) -> None:
        """Note that the peer takes no more for now."""
        self.paused = True
        self._house.flow(self)

    def resume_writing(self) -> None:
        """Note that the peer takes more again."""
        self.paused = False
        self._house.flow(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything about it."""
        if self._timer is not None:
            self._timer.cancel()
        self._house.leave(self)
        self._house.lost(self)

    # -- what the house says --

    @property
    def address(self) -> str:
        """The peer's address, for the log."""
        name = self._transport.get_extra_info("peername")
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "a local socket"

    @property
    def code(self) -> int:
        """The code that it ended with: that of who began to close, 1006 if nobody did."""
        protocol = self._protocol
        first = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
        first = first or protocol.close_rcvd
        return 1006 if first is None else int(first.code)

    def write(self, frames: Iterable[bytes]) -> None:
        """Write frames that are serialised already."""
        if self._protocol.state is State.OPEN and not self._transport.is_closing():
            for frame in frames:
                self._transport.write(frame)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, after what was written."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    def shut(self) -> None:
        """Close it if nobody did: the server stops."""
        self.close(CloseCode.STOPPING, "the server is stopping")

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    # -- in here --

    def _hear(self, data: bytes) -> None:
        """Let the library understand *data*."""
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._frame(event)

    def _open(self, request: Request) -> None:
        protocol = self._protocol
        path, _, query = request.path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        if not is_socket_path(path):
            response = protocol.reject(404, "the socket is at / and nowhere else\n")
        elif not origin_allowed(headers, self._house.origins):
            response = protocol.reject(403, "this origin is not allowed\n")
        else:
            response = protocol.accept(request)
        protocol.send_response(response)
        if response.status_code != 101:
            return
        self._flush()
        entry = parse_entry(query, Format.JSON if protocol.subprotocol else Format.TEXT)
        if isinstance(entry, Entry):
            self._house.enter(self, entry)
        else:
            line = json_line(entry) if protocol.subprotocol else text_line(entry)
            self.write([frame_of((line or "").encode())])
            self.close(CloseCode.REFUSED, entry.text)

    def _frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT if frame.fin:
                self._text(bytes(frame.data))
            case Opcode.TEXT:
                self._parts = bytearray(frame.data)
            case Opcode.CONT if self._parts is not None:
                self._parts += frame.data
                if frame.fin:
                    parts, self._parts = self._parts, None
                    self._text(bytes(parts))
            case Opcode.BINARY:
                text = "binary frames are not understood"
                self._house.expel(self, CloseCode.FAULTS, "binary", text)

    def _text(self, data: bytes) -> None:
        try:
            frame = data.decode()
        except UnicodeDecodeError as error:
            if self._protocol.state is State.OPEN:
                self._protocol.fail(1007, f"{error.reason} at position {error.start}")
        else:
            self._house.receive(self, frame)

    def _beat(self) -> None:
        """Ping a peer that was heard since the last time; take another for dead."""
        if self._heard:
            self._heard = False
            self._protocol.send_ping(b"")
            self._wait(self._house.times.ping, self._beat)
        else:
            self._protocol.fail(1011, "keepalive ping timeout")
            self._house.leave(self)
        self._flush()

    def _flush(self) -> None:
        """Write what the protocol has to say; see that a closing connection ends."""
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()
        if self._protocol.close_expected() and not self._closing:
            self._closing = True  # once: who goes on sending does not put it off
            self._wait(self._house.times.close, self._transport.abort)
        if self.paused and self._transport.get_write_buffer_size() > MOST:
            self._transport.abort()

    def _wait(self, delay: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, then)


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    # The library's own choice refuses a client that offers none.
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
