"""The WebSocket connection: one client, from its handshake on.

It speaks WebSocket with the Sans-I/O protocol of websockets, and detects stale connections. What
its messages mean is up to the rooms, behind the `ServerAPI`. A connection has no task. It has a
timer for what it waits for, and another while it must not read. Both are cancelled when the
connection is lost, since a pending timer would keep the whole connection in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from broadcast_server.admission.allowances import TURN_BYTES, Allowance
from broadcast_server.admission.token import find_credentials
from broadcast_server.protocol.codec import encode_json, encode_text
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, CloseCode, Error, Format
from broadcast_server.protocol.rejection import BINARY, STOPPING, Rejection

from .api import ServerAPI
from .frame_splitter import FrameSplitter
from .handshake import (
    INVALID_HANDSHAKE,
    accept,
    check_upgrade,
    final_close_code,
    library_protocol,
    reject,
    upgrade_request,
)
from .read_budget import MAX_BYTES_PER_BATCH, MAX_MESSAGES_PER_BATCH, ReadBudget
from .server_frames import PING_FRAME, encode_frame
from .transport import TIMER_CONTEXT, client_address, describe_client, limit_buffers
from .upgrade_request import UpgradeRequest, accept_response, offers_json, read_upgrade

try:
    from websockets.speedups import apply_mask
except ImportError:  # in the single file, or if websockets was built without a compiler
    from websockets.utils import apply_mask


MAX_BUFFERED_REPLY_BYTES = 8 * 2**20
"""How much may wait in the transport of a client that keeps sending requests and does not read
the replies. Beyond that it is cut."""


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket connection, in a room or not."""

    __slots__ = (
        "_budget",
        "_client",
        "_closing",
        "_format",
        "_fragments",
        "_library",
        "_pause_timer",
        "_reading_paused",
        "_received_since_ping",
        "_server",
        "_state_without_library",
        "_timer",
        "_transport",
        "allowance",
        "paused",
    )

    encode = staticmethod(encode_frame)

    def __init__(self, server: ServerAPI) -> None:
        self._server = server
        self._library: ServerProtocol | None = None  # see `_protocol`
        self._state_without_library = State.CONNECTING
        self._format = Format.TEXT
        self._budget = ReadBudget(FrameSplitter(apply_mask), server.max_message_bytes)
        self._fragments: bytearray | None = None  # of a message that is not complete
        self._received_since_ping = True
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._client: str | None = None
        self.allowance: Allowance | None = None
        self._reading_paused = False
        # Set if reading is paused for a time, not until the end of the batch.
        self._pause_timer: asyncio.TimerHandle | None = None
        # Whether writing is paused, as in `Receiver`. Reading is paused independently of it.
        self.paused = False

    @property
    def _protocol(self) -> ServerProtocol:
        """The library's protocol, from the first bytes on that it has to process.

        Most connections send nothing else than messages and pongs, and never need one. It would be
        a third of the memory of an idle connection.
        """
        if self._library is None:
            self._library = library_protocol(self._state_without_library)
        return self._library

    @property
    def _state(self) -> State:
        return self._state_without_library if self._library is None else self._library.state

    # -- called by the transport --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from `FirstRequest`."""
        self._transport = cast(asyncio.Transport, transport)
        limit_buffers(self._transport)
        self._start_timer(self._server.timeouts.ping, self._keepalive)

    def data_received(self, data: bytes) -> None:
        """Process bytes that the client sent, or keep them while reading is paused."""
        self._received_since_ping = True
        if self._state is State.CONNECTING:
            self._receive_handshake(data)
            self._after_input()
        else:
            self._budget.add(data)
            if not self._reading_paused:
                self._process_pending()

    def eof_received(self) -> None:
        """Close the connection: the client sends nothing more."""
        self._protocol.receive_eof()
        self._leave()
        self._flush()
        # The transport closes itself once its buffer is written. A client that does not read
        # could delay that for ever.
        self._closing = True
        self._start_timer(self._server.timeouts.close, self._transport.abort)

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self.paused = True
        self._server.flow_changed(self)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self.paused = False
        self._server.flow_changed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the room, and cancel the timers."""
        for timer in (self._timer, self._pause_timer):
            if timer is not None:
                timer.cancel()
        self._leave()
        self._server.connection_closed(self)

    # -- called by the server and the room --

    @property
    def client(self) -> str | None:
        """The client's address as far as it is known, None for a Unix socket."""
        return self._client

    @property
    def address(self) -> str:
        """The client's address and port, for the log."""
        return describe_client(self._transport, self._client)

    @property
    def file_number(self) -> int:
        """The number of its open file, -1 if it is closed."""
        return int(self._transport.get_extra_info("socket").fileno())

    @property
    def close_code(self) -> int:
        """The close code of the side that began the closing handshake, 1006 without one."""
        return ABNORMAL_CLOSURE if self._library is None else final_close_code(self._library)

    def write(self, frames: Iterable[bytes]) -> None:
        """Write frames that `encode_frame` made."""
        if self._state is State.OPEN and not self._transport.is_closing():
            for frame in frames:
                self._transport.write(frame)

    def close(self, code: int, reason: str) -> None:
        """Begin the closing handshake, after all that was written before."""
        if self._state is State.OPEN:
            self._protocol.send_close(code, reason)
            self._flush()
            if self._pause_timer is not None:  # the client's close frame must not wait for it
                self._pause_timer.cancel()
                self._pause_timer = None
                asyncio.get_running_loop().call_soon(self._resume_processing)

    def reject(self, rejection: Rejection) -> None:
        """Tell the client why it is not admitted, and begin the closing handshake."""
        self._send_error(rejection.error)
        self.close(rejection.code, rejection.error.text)

    def wait(self, delay: float, then: Callable[[], None]) -> None:
        """Stop reading for *delay* seconds, then call *then*, unless the connection is lost."""
        self._reading_paused = True
        self._transport.pause_reading()

        def resume() -> None:
            self._pause_timer = None
            if self._state is State.OPEN:
                then()
            self._process_pending()

        self._pause_timer = asyncio.get_running_loop().call_later(delay, resume)

    def shut_down(self) -> None:
        """Begin the closing handshake, because the server stops."""
        self.close(STOPPING.code, STOPPING.text)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # -- processing what the client sends --

    def _process_pending(self) -> None:
        """Process what this batch may take of what the client sent, and pause for the rest."""
        budget = self._budget
        was_paused, self._reading_paused = self._reading_paused, False
        limits = MAX_MESSAGES_PER_BATCH, MAX_BYTES_PER_BATCH
        # The client's close frame must not wait for the rate.
        allowance = self.allowance if self._state is State.OPEN else None
        now = asyncio.get_running_loop().time()
        if allowance is not None:
            turn = budget.next_size(TURN_BYTES) if budget.pending and allowance.has_turn else 0
            limits = allowance.limit(*limits, now, turn)
        for count, piece in budget.take(*limits):
            if not count:
                # What the library assembles goes to the front of the budget, and is taken next.
                if piece:
                    self._feed_library(piece)
            else:
                self._handle_text(count, piece)
        self._after_input()
        delay = 0.0
        if allowance is not None:
            allowance.spend(budget.spent, budget.spent_bytes)
            if budget.pending:
                delay = allowance.reserve(now, budget.next_size(TURN_BYTES))
            else:
                allowance.give_back()  # it is to wait again for as much as it will send then
        if delay:
            # `wait` processes the rest after the delay by itself. It needs something to call before
            # that, and `_flush` finds nothing to write then.
            self.wait(delay, self._flush)
        elif budget.pending:
            self._reading_paused = True
            self._transport.pause_reading()
            self._server.call_after_batch(self, self._resume_processing)
        elif was_paused:
            self._transport.resume_reading()

    def _resume_processing(self) -> None:
        if self._reading_paused and self._pause_timer is None:
            self._process_pending()

    def _after_input(self) -> None:
        """Send what the library replies, and leave the room if the connection is closing."""
        if self._state is not State.OPEN:  # the client closed it, or broke the protocol
            self._leave()
        self._flush()

    def _feed_library(self, data: bytes) -> None:
        """Pass *data* to the library, and handle the requests and frames that it returns."""
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                self._handle_handshake(upgrade_request(event), event)
                # The library's parser refers to the request as long as the connection lasts. It is
                # a large part of the memory of an idle connection, and may have the session.
                event.headers.clear()
                event.path = ""
            elif isinstance(event, Frame):
                self._handle_frame(event)

    def _receive_handshake(self, data: bytes) -> None:
        """Take the request, read by the library if `read_upgrade` declines it."""
        request = read_upgrade(data) if self._library is None else None
        if request is not None:
            self._handle_handshake(request)
            return
        protocol = self._protocol
        self._feed_library(data)
        if protocol.writes == [b""] and protocol.state is State.CONNECTING:
            # websockets cannot parse the request, and would close without a response.
            response = protocol.reject(400, INVALID_HANDSHAKE)
            self._transport.write(response.serialize())

    def _handle_handshake(self, request: UpgradeRequest, parsed: Request | None = None) -> None:
        """Answer *request*, which the library has *parsed* or `read_upgrade` has read."""
        server = self._server
        rejection = check_upgrade(request, server.hosts, server.origins)
        if rejection is not None:
            reject(self._protocol, rejection)
            return
        if parsed is None:
            self._state_without_library = State.OPEN
            self._transport.write(accept_response(request, time.time()))
        elif accept(self._protocol, parsed):
            self._flush()
        else:
            return
        if offers_json(request):
            self._format = Format.JSON
        self._client = client_address(self._transport, server.trusted_proxies, request.forwarded)
        credentials = find_credentials(request.headers, request.subprotocols)
        join = parse_join(
            request.target.partition("?")[2],
            self._format,
            server.session_key,
            headers=request.sessions,
            subprotocols=request.subprotocols,
            operator=credentials.operator_key is not None,
        )
        if isinstance(join, JoinRequest):
            server.admit(self, join, credentials, lambda place: server.join(self, join, place))
        else:
            self.reject(Rejection(CloseCode.REJECTED, join))

    def _send_error(self, error: Error) -> None:
        encode = encode_json if self._format is Format.JSON else encode_text
        self.write([encode_frame((encode(error) or "").encode())])

    def _handle_frame(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT if frame.fin:
                self._budget.push_front(bytes(frame.data))
            case Opcode.TEXT:
                self._fragments = bytearray(frame.data)
            case Opcode.CONT if self._fragments is not None:
                self._fragments += frame.data
                if frame.fin:
                    message, self._fragments = self._fragments, None
                    self._budget.push_front(bytes(message))
            case Opcode.BINARY:
                self._server.kick(self, BINARY)

    def _handle_text(self, count: int, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            if count > 1:  # the messages before the invalid one are valid
                for each in data.split(b"\n"):
                    self._handle_text(1, each)
            elif self._state is State.OPEN:
                self._protocol.fail(1007, f"{error.reason} at position {error.start}")
        else:
            if self._state is State.OPEN:
                self._server.receive(self, text, len(data) - count + 1)

    def _keepalive(self) -> None:
        """Ping the client, or close a stale connection: one that did not react to the last ping."""
        # While reading is paused, nothing is received from a live client either.
        if self._received_since_ping or self._reading_paused:
            self._received_since_ping = False
            self._transport.write(PING_FRAME)
            self._start_timer(self._server.timeouts.ping, self._keepalive)
        else:
            self._protocol.fail(1011, "keepalive ping timeout")
            self._leave()
        self._flush()

    def _flush(self) -> None:
        """Write what the library wants to send, and limit how long a closing handshake takes."""
        if self._library is not None:
            for data in self._library.data_to_send():
                if data:
                    self._transport.write(data)
                elif self._transport.can_write_eof():
                    try:
                        self._transport.write_eof()
                    except OSError:  # it was reset, and `connection_lost` is not called yet
                        self._transport.abort()
                else:
                    self._transport.close()
            if self._library.close_expected() and not self._closing:
                self._closing = True  # once: a client that keeps sending does not extend the time
                self._start_timer(self._server.timeouts.close, self._transport.abort)
        if self.paused and self._transport.get_write_buffer_size() > MAX_BUFFERED_REPLY_BYTES:
            self._transport.abort()

    def _leave(self) -> None:
        """Leave the room, or stop waiting to be admitted to it."""
        if self.allowance is not None:
            self.allowance.give_back()  # nobody waits for a connection that is closing
        self._server.cancel_wait(self)
        self._server.leave(self)

    def _start_timer(self, delay: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, then, context=TIMER_CONTEXT)
