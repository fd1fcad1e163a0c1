"""The WebSocket consumer: one connection under Channels. An adapter and no more.

What a frame means is `rooms.room`'s matter, and where it goes the replica's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.conf import settings
from django.db import Error as DatabaseError

from broadcast_server.admission.allowances import TURN_TOKENS, Allowance
from broadcast_server.admission.message_cost import chargeable_size, end_of_affordable_lines
from broadcast_server.protocol.codec import encode_json, encode_text
from broadcast_server.protocol.join import JoinRequest, parse_join
from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, SUBPROTOCOL, CloseCode, Format
from broadcast_server.protocol.rejection import BINARY, Rejection
from broadcast_server.rooms.participant import Participant
from django_site.client_address import scope_address
from django_site.replication.admission import ProcessPlace
from django_site.replication.replica import RoomReplica
from django_site.replication.replica_registry import ReplicaRegistry, registry_of
from django_site.store import outage, rejections
from django_site.store.rejections import Rejected
from django_site.store.site_key import site_key

from .authentication import account_of, authenticate, is_operator_of, login_of, session_headers
from .flow_control import Begun, FlowControl

PAUSE_AT_CHARS = 64 * 2**10
"""With more characters waiting to be sent, a connection counts as paused."""

CLOSE_TIMEOUT_S = 10.0
"""Seconds after which a client that takes nothing is closed without what it was still owed."""

DISCONNECT_GRACE_S = 1.0
"""Seconds in which the server reports that a connection is lost, if it reports it at all."""

NO_CODE = 1005
"""The code that stands for a close frame without one (RFC 6455, section 7.4.1)."""

MAX_REASON_BYTES = 123
"""How many bytes of a reason fit into a close frame (RFC 6455, section 5.5)."""


class RoomConsumer(AsyncConsumer):
    """One WebSocket connection. A task of its own sends, so that no client waits for another."""

    channel_layer_alias = ""  # none: the replica receives notifications for all connections

    encode = staticmethod(bytes.decode)

    def __init__(self) -> None:
        self.paused = False
        self._registry: ReplicaRegistry | None = None
        self._replica: RoomReplica | None = None
        self._participant: Participant | None = None
        self._connection_id = secrets.token_hex(8)  # names this connection on the roster
        self._queue: deque[dict[str, Any]] = deque()
        self._queued_chars = 0
        self._more = asyncio.Event()
        self._begun: Begun | None = None  # what sends the first of the queue already
        self._closed = False
        self._code = 0  # the close code, once it is known
        self._sending: asyncio.Task[None] | None = None
        self._flow_control: FlowControl | None = None
        self._place: ProcessPlace | None = None
        self._allowance: Allowance | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # -- ASGI events --

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection to its end. Servers may also cancel it."""
        self._registry = registry_of(scope)
        self._flow_control = FlowControl(send, self._disconnect_soon)
        self.scope, self.base_send = scope, send
        try:
            await self._take_events(receive)
        finally:
            self._leave()
            if self._close_timer is not None:
                self._close_timer.cancel()
            if self._sending is not None:
                self._sending.cancel()

    async def _take_events(self, receive: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """Take the events of the connection to its end, without a task for each.

        Channels' own loop makes one, to wait for its channel layer as well, which nobody here
        listens to.
        """
        with suppress(StopConsumer):
            while True:
                await self.dispatch(await receive())

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Take an event of the connection."""
        match message["type"]:
            case "websocket.connect":
                await self._connect()
            case "websocket.receive":
                if message.get("text") is None:
                    self._receive(None)
                else:
                    await self._receive_text(message["text"])
            case "websocket.disconnect":
                if not self._closed:
                    self._code = self._close_code(message)
                    self._replicas.metrics.count_close(self._code)
                raise StopConsumer

    def _close_code(self, message: dict[str, Any]) -> int:
        """Return the close code of a disconnect event: 1006 without a closing handshake."""
        code = int(message.get("code") or ABNORMAL_CLOSURE)
        # uvicorn's code for that is 1005, but only the event of a close frame has a reason.
        uvicorn = self._flow_control is not None and not self._flow_control.is_needed
        lost = uvicorn and code == NO_CODE and "reason" not in message
        return ABNORMAL_CLOSURE if lost else code

    @property
    def _replicas(self) -> ReplicaRegistry:
        assert self._registry is not None, "the connection has its scope"  # noqa: S101
        return self._registry

    async def _connect(self) -> None:
        format = Format.JSON if SUBPROTOCOL in self.scope["subprotocols"] else Format.TEXT
        join = parse_join(
            self.scope["query_string"].decode("ascii", "replace"),
            format,
            site_key(),
            headers=session_headers(self.scope),
            subprotocols=self.scope["subprotocols"],
        )
        if isinstance(join, JoinRequest):
            # It joins before the handshake is answered, as in the standalone server: a client
            # that sees the answer is in the room.
            await self._join(join)
        else:
            self._reject(Rejection(CloseCode.REJECTED, join), format)
        await self._accept()

    async def _accept(self) -> None:
        """Answer the handshake, if that was not done yet."""
        if self._sending is not None or self._flow_control is None:
            return
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.scope["subprotocols"] else None
        await self._send_event({"type": "websocket.accept", "subprotocol": subprotocol})
        self._flow_control.watch_websocket()
        self._sending = asyncio.ensure_future(self._send_all(self._flow_control))

    async def _join(self, join: JoinRequest) -> None:
        replicas, address = self._replicas, scope_address(self.scope)
        try:
            now = asyncio.get_running_loop().time()
            replicas.admission.check_join_rate(address, join.session, now)
            account = await authenticate(self.scope, replicas.admission, address, self._delay)
            if await is_operator_of(self.scope, account):
                join = replace(join, operator=True)
            if self._closed:  # the connection was lost while it waited
                return
            await self._wait_to_join(replicas, address, join)
            if self._closed:
                return
            self._place = replicas.admission.admit(address, join.room, join.session)
            replica = await replicas.get(join.room)
            participant = await replica.admit(join, account, self._connection_id, self, address)
            if self._closed:
                replica.leave_roster(participant, self._connection_id)
                return
            self._participant, self._replica = participant, replica
            replicas.metrics.joins += 1
            # Only a member is closed when its account changes: look again, now that it is one.
            if account is not None:
                replicas.logins.add(self._connection_id, login_of(self.scope, account))
                if await account_of(self.scope) != account:
                    raise Rejected(rejections.SIGN_IN_CHANGED)
        except Rejected as rejected:
            self._reject(rejected.rejection, join.format)
        except DatabaseError as error:
            outage.database.began(error)
            self._reject(rejections.of_error(error), join.format)

    async def _wait_to_join(
        self, replicas: ReplicaRegistry, address: str | None, join: JoinRequest
    ) -> None:
        """Wait until the client may send something, which a join counts as."""
        now = asyncio.get_running_loop().time()
        self._allowance = replicas.admission.open_allowance(address, join.session, now)
        delay = 0.0 if self._allowance is None else self._allowance.join(now)
        if delay:
            await self._delay(delay)

    async def _delay(self, seconds: float) -> None:
        """Let the client wait, without reading from it."""
        if self._flow_control is None:
            return
        await self._accept()  # Daphne does not wait long for the answer to a handshake
        self._flow_control.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flow_control.resume_reading()

    async def _receive_text(self, text: str) -> None:
        """Handle a frame, as much of it at a time as the client may send."""
        begin = 0
        while not self._closed:
            await self._wait_to_read(text, begin)
            end = len(text)
            if self._allowance is not None:
                available = self._allowance.available(asyncio.get_running_loop().time())
                end = end_of_affordable_lines(text, begin, available)
                part = text[begin:end]
                size = chargeable_size(part.encode(), settings.BROADCAST_MAX_MESSAGE_BYTES)
                self._allowance.spend(part.count("\n", 0, -1) + 1, size)
            self._receive(text[begin:end])
            begin = end
            if begin >= len(text):
                return

    async def _wait_to_read(self, text: str, begin: int) -> None:
        """Wait while the log is behind or this client is over its rate, without reading.

        *text* is a frame, of which nothing from *begin* on was taken yet.
        """
        if self._replica is None or self._flow_control is None:
            return
        loop, turn = asyncio.get_running_loop(), 0

        def reserve() -> float:  # the connection can be lost meanwhile, and its allowance with it
            return 0.0 if self._allowance is None else self._allowance.reserve(loop.time(), turn)

        delay = reserve()
        if delay:
            part = text[begin : end_of_affordable_lines(text, begin, TURN_TOKENS)]
            turn = chargeable_size(part.encode(), settings.BROADCAST_MAX_MESSAGE_BYTES)
            delay = reserve()
        if not (delay or self._replica.is_full):
            return
        self._flow_control.pause_reading()
        try:
            while delay:
                await asyncio.sleep(delay)
                delay = reserve()
            await self._replica.wait_for_space()
        finally:
            self._flow_control.resume_reading()

    def _reject(self, rejection: Rejection, format: Format) -> None:
        error = rejection.error
        line = encode_json(error) if format is Format.JSON else encode_text(error)
        self.write([line or ""])
        self.close(rejection.code, rejection.text)

    def _receive(self, text: str | None) -> None:
        if self._replica is None or self._participant is None or self._closed:
            return
        if text is None:
            self._replica.kick(self._participant, BINARY)
        else:
            size = len(text) if text.isascii() else len(text.encode())
            self._replicas.metrics.received += size
            self._replica.receive(self._participant, text)

    def _disconnect_soon(self) -> None:
        """Leave soon, even if Daphne never reports that the client is gone, as happens."""
        asyncio.get_running_loop().call_later(DISCONNECT_GRACE_S, self._disconnected)

    def _disconnected(self) -> None:
        if not self._closed:
            self._replicas.metrics.count_close(ABNORMAL_CLOSURE)
            self._code = ABNORMAL_CLOSURE
            self._leave()

    def _leave(self) -> None:
        if self._place is not None:
            self._place.release()
        if self._registry is not None:
            self._registry.logins.remove(self._connection_id)
        was_closed, self._closed = self._closed, True
        if self._replica is not None and self._participant is not None and not was_closed:
            self._replica.leave_roster(self._participant, self._connection_id, self._code)
        if self._allowance is not None:
            now = asyncio.get_running_loop().time()
            self._replicas.admission.close_allowance(self._allowance, now)
            self._allowance = None

    async def _send_event(self, event: dict[str, Any]) -> None:
        await cast(Callable[[dict[str, Any]], Awaitable[None]], self.base_send)(event)

    # -- the room writes --

    def write(self, frames: Iterable[str]) -> None:
        """Send frames as soon as the client takes them."""
        if self._closed:
            return
        for frame in frames:
            event = {"type": "websocket.send", "text": frame}
            if not self._send_at_once(event):
                self._queue.append(event)
                self._queued_chars += len(frame)
        if self._queue:
            self._more.set()
            self._set_paused(self._queued_chars > PAUSE_AT_CHARS)

    def _send_at_once(self, event: dict[str, Any]) -> bool:
        """Send *event* if nothing waits before it, and the server's `send` need not wait.

        Without it each frame wakes the task that sends. It makes 1.02 to 1.13 times the deliveries
        of a second of CPU (100 members).
        """
        flow_control = self._flow_control
        if self._queue or self._sending is None or flow_control is None:
            return False
        if not flow_control.sends_at_once:
            return False
        sending = cast(Callable[[Any], Coroutine[Any, Any, None]], self.base_send)(event)
        try:
            self._begun = Begun(sending, sending.send(None))
        except StopIteration:
            return True
        except Exception:  # as in `_send_all`
            self._sending.cancel()
            self._lose_connection(flow_control)
        return False

    def close(self, code: int, reason: str) -> None:
        """Close the connection, after what was written."""
        if not self._closed:
            reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            self._queue.append({"type": "websocket.close", "code": int(code), "reason": reason})
            self._more.set()
            self._code = int(code)
            self._leave()
            self._replicas.metrics.count_close(int(code))
            if self._flow_control is not None:
                loop = asyncio.get_running_loop()
                self._close_timer = loop.call_later(
                    CLOSE_TIMEOUT_S, self._flow_control.resumeProducing
                )

    async def _send_all(self, flow_control: FlowControl) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                event = self._queue[0]  # it stays there meanwhile, so that nothing overtakes it
                try:
                    if self._begun is None:
                        await flow_control.wait_writable()
                        await self._send_event(event)
                    else:
                        await self._begun
                except Exception:
                    self._lose_connection(flow_control)
                    return
                self._begun = None
                self._queue.popleft()
                self._queued_chars -= len(event.get("text", ""))
            self._set_paused(False)

    def _lose_connection(self, flow_control: FlowControl) -> None:
        """End a connection whose server did not send: each raises an exception of its own."""
        # The disconnect event follows. Daphne raises one for a frame over its limit as well, and
        # then no event follows.
        flow_control.abort()
        self._disconnect_soon()

    def _set_paused(self, paused: bool) -> None:
        if paused != self.paused:
            self.paused = paused
            if self._replica is not None and self._participant is not None:
                self._replica.flow_changed(self._participant)
