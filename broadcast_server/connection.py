"""One WebSocket connection, on websockets' Sans-I/O protocol.

A `Socket` knows how to speak WebSocket and when a peer is dead. What is said in
a room it leaves to its `House`. It has no task: a single timer at a time, for
what it waits for, cancelled when the connection is lost, since a pending timer
would keep all of it in memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from .entry import Entry, parse_entry
from .frames import Cut
from .gate import Refusal, given_token
from .protocol import (
    MAX_FRAME_BYTES,
    SUBPROTOCOL,
    CloseCode,
    Error,
    Format,
    json_line,
    text_line,
)
from .proxies import NOBODY, Trusted
from .quota import Bucket
from .share import MESSAGES, Share
from .web import Site, is_socket_path, origin_allowed

try:
    from websockets.speedups import apply_mask
except ImportError:  # in the single file, and where there was no compiler
    from websockets.utils import apply_mask

BUFFER = 64 * 2**10
"""So many bytes may wait in a transport before its peer counts as stalled."""

UNSENT = 128 * 2**10
"""So many bytes not yet sent may the system hold for a peer, where it can be told so.

By itself it takes megabytes for each one that reads nothing, and a thousand of them are
filled up at once, while the others wait.
"""

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

    @property
    def code(self) -> int | None:
        """The code that a client's connection ended with, None if it was none's."""

    def shut(self) -> None:
        """End it well, since the server stops."""

    def abort(self) -> None:
        """Cut it."""


class House(Site, Protocol):
    """What a socket needs of the server that it belongs to."""

    times: Times
    origins: frozenset[str]
    trusted: Trusted
    rate: int  # messages a second that each may say, 0 for no limit

    def opened(self, connection: Connection) -> None:
        """Remember a connection, until it is `lost`."""

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""

    def knock(
        self, visitor: Visitor, entry: Entry, token: str | None, come: Callable[[], None]
    ) -> None:
        """Let *visitor* `come`, now or later, or refuse it."""

    def enter(self, socket: Socket, entry: Entry) -> None:
        """Let *socket* into the room that it asked for."""

    def receive(self, socket: Socket, frame: str) -> None:
        """Take what *socket* sent."""

    def next_turn(self, socket: Socket, then: Callable[[], None]) -> None:
        """Do *then* when the turn of *socket*'s room is over."""

    def leave(self, socket: Socket) -> None:
        """Take *socket* out of its room, if it is in one."""

    def flow(self, socket: Socket) -> None:
        """Note that *socket* was paused or resumed."""

    def expel(self, socket: Socket, code: CloseCode, fault: str, text: str) -> None:
        """Close *socket* for a fault of its own."""


class Visitor(Protocol):
    """Who wants to come in, or to be heard."""

    @property
    def client(self) -> str | None:
        """The client's address as far as we can tell, None for a socket file."""

    def hold(self, delay: float, then: Callable[[], None]) -> None:
        """Do *then* after *delay*, unless it is lost before."""

    def refuse(self, refusal: Refusal) -> None:
        """Tell it why it is not let in."""


def bound(transport: asyncio.Transport) -> None:
    """See that little waits in *transport*, and in the system, for who does not read."""
    transport.set_write_buffer_limits(BUFFER)
    connection = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_NOTSENT_LOWAT") and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def client_of(
    transport: asyncio.Transport, trusted: Trusted, forwarded: Sequence[str]
) -> str | None:
    """Return a client's address as far as we can tell, None for a socket file."""
    name = transport.get_extra_info("peername")
    return trusted.client(name[0] if isinstance(name, tuple) else None, forwarded)


def client_name(transport: asyncio.Transport, client: str | None) -> str:
    """Return the same, for the log."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and name[0] == client:
        return f"{name[0]}:{name[1]}"
    return client or NOBODY


def frame_of(payload: bytes) -> bytes:
    """Serialise a text frame as a server sends it: once, for any number of sockets."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class Socket(asyncio.Protocol):
    """One WebSocket connection, from its handshake on."""

    __slots__ = (
        "_address",
        "_bucket",
        "_closing",
        "_heard",
        "_held",
        "_hold",
        "_house",
        "_parts",
        "_protocol",
        "_share",
        "_timer",
        "_transport",
        "paused",
    )

    encode = staticmethod(frame_of)

    def __init__(self, house: House) -> None:
        self._house = house
        self._protocol = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            select_subprotocol=_select_subprotocol,
            max_size=MAX_FRAME_BYTES,
            logger=_silent,
        )
        self._share = Share(Cut(apply_mask))
        self._parts: bytearray | None = None  # of a fragmented message
        self._heard = True
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._address: str | None = None
        self._bucket: Bucket | None = None  # its rate, if there is a limit
        self._held = False  # what it sends waits
        self._hold: asyncio.TimerHandle | None = None  # until then, if it is not for a turn
        self.paused = False

    # -- what the transport says --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from its arrival."""
        self._transport = cast(asyncio.Transport, transport)
        bound(self._transport)
        self._wait(self._house.times.ping, self._beat)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._heard = True
        protocol = self._protocol
        if protocol.state is State.CONNECTING:
            self._hear(data)
            if protocol.writes == [b""] and protocol.state is State.CONNECTING:
                # Not HTTP as websockets will have it: it would hang up without a word.
                refusal = protocol.reject(400, "request is not a valid handshake\n")
                self._transport.write(refusal.serialize())
            self._settle()
        else:
            self._share.put(data)
            if not self._held:
                self._take()

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
        for timer in (self._timer, self._hold):
            if timer is not None:
                timer.cancel()
        self._house.leave(self)
        self._house.lost(self)

    # -- what the house says --

    @property
    def client(self) -> str | None:
        """The client's address as far as we can tell, None for a socket file."""
        return self._address

    @property
    def address(self) -> str:
        """The same, for the log."""
        return client_name(self._transport, self._address)

    @property
    def file(self) -> int:
        """The number of its open file, -1 if it is closed."""
        return int(self._transport.get_extra_info("socket").fileno())

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
            if self._hold is not None:  # its answer is not to wait for that
                self._hold.cancel()
                self._hold = None
                asyncio.get_running_loop().call_soon(self._again)

    def refuse(self, refusal: Refusal) -> None:
        """Tell it why it is not let in, and close it."""
        self._say(refusal.error)
        self.close(refusal.code, refusal.error.text)

    def hold(self, delay: float, then: Callable[[], None]) -> None:
        """Leave what it sends unread, and do *then* after *delay*, unless it is lost before."""
        self._held = True
        self._transport.pause_reading()

        def go_on() -> None:
            self._hold = None
            if self._protocol.state is State.OPEN:
                then()
            self._take()

        self._hold = asyncio.get_running_loop().call_later(delay, go_on)

    def shut(self) -> None:
        """Close it if nobody did: the server stops."""
        self.close(CloseCode.STOPPING, "the server is stopping")

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    # -- in here --

    def _take(self) -> None:
        """Take of what it sent what this turn allows; the rest waits for the next."""
        protocol, share, bucket = self._protocol, self._share, self._bucket
        held, self._held = self._held, False
        most = MESSAGES
        if bucket is not None and protocol.state is State.OPEN:
            most = min(most, int(bucket.fill(asyncio.get_running_loop().time())))
        for ordinary, piece in share.turn(most):
            if not ordinary:
                self._hear(piece)
            elif protocol.state is State.OPEN:
                self._text(piece)
        self._settle()
        if bucket is not None:
            bucket.take(share.spent)
        if share.over and bucket is not None and bucket.left < 1:
            self.hold(bucket.wait(), self._flush)
        elif share.over:
            self._held = True
            self._transport.pause_reading()
            self._house.next_turn(self, self._again)
        elif held:
            self._transport.resume_reading()

    def _again(self) -> None:
        if self._held and self._hold is None:
            self._take()

    def _settle(self) -> None:
        """See to what follows from what it sent."""
        if self._protocol.state is not State.OPEN:  # closed by the peer, or failed by a fault
            self._house.leave(self)
        self._flush()

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
            response = _accept(protocol, request)
        protocol.send_response(response)
        if response.status_code != 101:
            return
        self._flush()
        forwarded = request.headers.get_all("X-Forwarded-For")
        self._address = client_of(self._transport, self._house.trusted, forwarded)
        if self._house.rate:
            now = asyncio.get_running_loop().time()
            self._bucket = Bucket(self._house.rate, self._house.rate, now)
        entry = parse_entry(query, Format.JSON if protocol.subprotocol else Format.TEXT)
        if isinstance(entry, Entry):
            token = given_token(headers, _offered(request))
            self._house.knock(self, entry, token, lambda: self._house.enter(self, entry))
        else:
            self.refuse(Refusal(CloseCode.REFUSED, entry))
        # The library's parser holds on to the request for as long as the connection lasts,
        # which is a fifth of what an idle one costs.
        request.headers.clear()

    def _say(self, error: Error) -> None:
        line = json_line(error) if self._protocol.subprotocol else text_line(error)
        self.write([frame_of((line or "").encode())])

    def _frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT if frame.fin:
                self._share.first(bytes(frame.data))
            case Opcode.TEXT:
                self._parts = bytearray(frame.data)
            case Opcode.CONT if self._parts is not None:
                self._parts += frame.data
                if frame.fin:
                    parts, self._parts = self._parts, None
                    self._share.first(bytes(parts))
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
        if self._heard or self._held:  # while it is not read it is not heard, whoever it is
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
                try:
                    self._transport.write_eof()
                except OSError:  # it was reset, which we have not been told yet
                    self._transport.abort()
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


def _offered(request: Request) -> list[str]:
    """Return the subprotocols that a client offers."""
    values = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    return [each.strip() for each in values.split(",")]


def _accept(protocol: ServerProtocol, request: Request) -> Response:
    # websockets 16 trips over what is not ASCII in a header that it reads: it says that the
    # fault is ours, or raises when it wants to say that it is not.
    try:
        response = protocol.accept(request)
    except UnicodeError:
        return protocol.reject(400, "request is not a valid handshake\n")
    if response.status_code == 500:
        return protocol.reject(400, "request is not a valid handshake\n")
    return response


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    # The library's own choice refuses a client that offers none.
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
