"""The consumer: one WebSocket under Channels, an adapter and no more.

What is said is `broadcast_server.room`'s matter, and where it goes the node's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, cast

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from django.conf import settings
from django.db import Error as DatabaseError

from broadcast_server.entry import Entry, parse_entry
from broadcast_server.protocol import SUBPROTOCOL, CloseCode, Error, Format, json_line, text_line
from broadcast_server.quota import BURST, Bucket
from broadcast_server.room import Peer
from broadcast_server.web import is_socket_path, origin_allowed

from . import ends, outage
from .address import whence
from .drain import Drain
from .ends import End, Refused
from .identity import account_of, known
from .node import Node
from .nodes import nodes
from .threshold import Seat

Tell = Callable[[dict[str, Any]], Awaitable[None]]

BUFFER = 64 * 2**10
"""So many characters may wait to be sent before a client counts as stalled."""

GOODBYE = 10.0
"""Seconds after which a client that takes nothing is closed without what it was owed."""

LATE = 1.0
"""Seconds within which it is said that a connection has ended, if it is said at all."""

REASON = 123
"""So many bytes of a reason fit into a close frame."""


class RoomConsumer(AsyncConsumer):
    """One client. A task of its own sends, so that nobody waits for anybody."""

    channel_layer_alias = ""  # none: the node listens for all

    encode = staticmethod(bytes.decode)

    def __init__(self) -> None:
        self.paused = False
        self._node: Node | None = None
        self._peer: Peer | None = None
        self._token = secrets.token_hex(8)
        self._queue: deque[dict[str, Any]] = deque()
        self._waiting = 0  # characters in it
        self._more = asyncio.Event()
        self._closed = False
        self._sending: asyncio.Task[None] | None = None
        self._drain: Drain | None = None
        self._seat: Seat | None = None
        self._bucket: Bucket | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    # -- what ASGI says --

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the connection to its end, however that comes: servers cancel, too."""
        self._drain = Drain(send, self._lose)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._gone()
            if self._goodbye is not None:
                self._goodbye.cancel()
            if self._sending is not None:
                self._sending.cancel()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Take an event of the connection."""
        match message["type"]:
            case "websocket.connect":
                await self._connect()
            case "websocket.receive":
                for part in _portions(message.get("text")):
                    if self._closed:
                        break
                    await self._wait_to_say(part or "")
                    self._receive(part)
            case "websocket.disconnect":
                if not self._closed:
                    nodes().metrics.closed(message.get("code") or 1006)
                raise StopConsumer

    async def _connect(self) -> None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        allowed = origin_allowed(headers, settings.BROADCAST_ALLOW_ORIGIN)
        if not (allowed and is_socket_path(self.scope["path"])):
            await self._tell({"type": "websocket.close"})  # which is a 403
            return
        as_json = SUBPROTOCOL in self.scope["subprotocols"]
        format = Format.JSON if as_json else Format.TEXT
        entry = parse_entry(self.scope["query_string"].decode("ascii", "replace"), format)
        if isinstance(entry, Entry):
            # In first and then accepted: who sees its handshake answered is in the room,
            # as in the single file.
            await self._come(entry)
        else:
            self._refuse(End(CloseCode.REFUSED, entry.code, entry.text), format)
        await self._accept()

    async def _accept(self) -> None:
        """Answer the handshake, if that was not done yet."""
        if self._sending is not None or self._drain is None:
            return
        as_json = SUBPROTOCOL in self.scope["subprotocols"]
        await self._tell(
            {"type": "websocket.accept", "subprotocol": SUBPROTOCOL if as_json else None}
        )
        self._drain.watch()
        self._sending = asyncio.ensure_future(self._send_all(self._drain))

    async def _come(self, entry: Entry) -> None:
        threshold, address = nodes().threshold, whence(self.scope)
        try:
            threshold.come(address, asyncio.get_running_loop().time())
            account = await known(self.scope, threshold, address, self._hold_up)
            seat = Seat(address, entry.room, entry.session)
            threshold.enter(seat)
            self._seat = seat
            node = await nodes().get(entry.room)
            self._peer = await node.come(entry, account, self._token, self)
            self._node = node
            rate = settings.BROADCAST_RATE
            if rate:
                now = asyncio.get_running_loop().time()
                self._bucket = Bucket(rate, rate * BURST, now)
            nodes().metrics.joins += 1
            # Only now is it known who is here by it: it may have ended while they came in.
            if account is not None and await account_of(self.scope) != account:
                raise Refused(ends.SIGN_IN_CHANGED)
        except Refused as refused:
            self._refuse(refused.end, entry.format)
        except DatabaseError as error:
            outage.database.met(error)
            self._refuse(ends.NO_LOG, entry.format)

    async def _hold_up(self, seconds: float) -> None:
        """Have the client wait, unread."""
        if self._drain is None:
            return
        await self._accept()  # Daphne has little patience for an answer
        self._drain.hold()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._drain.go_on()

    async def _wait_to_say(self, text: str) -> None:
        """Wait while the log is behind, or this client is over its rate; it is not read then."""
        loop = asyncio.get_running_loop()
        if self._bucket is not None:
            self._bucket.fill(loop.time())
            self._bucket.take(text.count("\n") + 1)
        wait = 0.0 if self._bucket is None else self._bucket.wait()
        if self._node is None or self._drain is None or not (wait or self._node.full):
            return
        self._drain.hold()
        try:
            await asyncio.sleep(wait)
            await self._node.room_to_say()
        finally:
            self._drain.go_on()

    def _refuse(self, end: End, format: Format) -> None:
        error = Error(end.fault, end.text)
        line = json_line(error) if format is Format.JSON else text_line(error)
        self.write([line or ""])
        self.close(end.code, end.text)

    def _receive(self, text: str | None) -> None:
        if self._node is None or self._peer is None or self._closed:
            return
        if text is None:
            fault = "binary frames are not understood"
            self._node.expel(self._peer, CloseCode.FAULTS, "binary", fault)
        else:
            nodes().metrics.received += len(text) if text.isascii() else len(text.encode())
            self._node.receive(self._peer, text)

    def _lose(self) -> None:
        """Be gone soon, also if Daphne never says that the client is: now and then it does not."""
        asyncio.get_running_loop().call_later(LATE, self._lost)

    def _lost(self) -> None:
        if not self._closed:
            nodes().metrics.closed(1006)
            self._gone()

    def _gone(self) -> None:
        if self._node is not None and self._peer is not None and not self._closed:
            self._node.go(self._peer, self._token)
        self._closed = True
        if self._seat is not None:
            nodes().threshold.leave(self._seat)
            self._seat = None

    async def _tell(self, message: dict[str, Any]) -> None:
        await cast(Tell, self.base_send)(message)

    # -- what the node says --

    def write(self, frames: Iterable[str]) -> None:
        """Send frames, as soon as they are taken."""
        if self._closed:
            return
        for frame in frames:
            self._queue.append({"type": "websocket.send", "text": frame})
            self._waiting += len(frame)
        self._more.set()
        self._flow(self._waiting > BUFFER)

    def close(self, code: int, reason: str) -> None:
        """Close, after what was written."""
        if not self._closed:
            reason = reason.encode()[:REASON].decode(errors="ignore")
            self._queue.append({"type": "websocket.close", "code": int(code), "reason": reason})
            self._more.set()
            self._gone()
            nodes().metrics.closed(int(code))
            if self._drain is not None:
                loop = asyncio.get_running_loop()
                self._goodbye = loop.call_later(GOODBYE, self._drain.resumeProducing)

    async def _send_all(self, drain: Drain) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                message = self._queue.popleft()
                self._waiting -= len(message.get("text", ""))
                await drain.free()
                try:
                    await self._tell(message)
                except Exception:  # each server raises its own; the disconnect comes as well
                    return
            self._flow(False)

    def _flow(self, paused: bool) -> None:
        if paused != self.paused:
            self.paused = paused
            if self._node is not None and self._peer is not None:
                self._node.flow(self._peer)


def _portions(text: str | None) -> Iterator[str | None]:
    """Cut a frame into what may be said in a second: a whole one might wait for an hour."""
    lines = text.split("\n") if text else []
    rate = settings.BROADCAST_RATE
    if not rate or len(lines) <= rate:
        yield text
        return
    for start in range(0, len(lines), rate):
        yield "\n".join(lines[start : start + rate])
