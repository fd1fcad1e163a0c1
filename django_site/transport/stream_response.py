"""The stream response: one event stream over HTTP, once its client is admitted.

It sends what the room gives it, and takes nothing. What it sends waits here, so that no client
waits for another; that is bounded, because a paused subscriber is given nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from broadcast_server.console.time_limit import run_within
from broadcast_server.http.stream import STALL_TIMEOUT_S, frame_plain, sse_preamble
from broadcast_server.protocol.messages import ABNORMAL_CLOSURE, NORMAL_CLOSURE, Cursor, Format
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from django_site.replication.replica import RoomReplica

from .flow_control import FlowControl

PAUSE_AT_BYTES = 64 * 2**10
"""With more bytes waiting to be sent, a connection counts as paused."""

CLOSE_TIMEOUT_S = 2.0
"""Seconds in which the client has to take the rest when its server stops."""


class StreamResponse:
    """One event stream: the body of a response, whose head is sent by its owner."""

    encode = staticmethod(frame_plain)

    def __init__(
        self,
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        format: Format,
        metrics: Metrics,
    ) -> None:
        self._receive = receive
        self._send = send
        self._format = format
        self._metrics = metrics
        self._lost = asyncio.Event()
        self._flow_control = FlowControl(send, self._lost.set)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._more = asyncio.Event()
        self._ended = False
        self._close_code = NORMAL_CLOSURE  # a client ends a stream by disconnecting
        self.paused = False
        self.replica: RoomReplica | None = None
        self.participant: Participant | None = None

    # -- the room writes --

    def start(self, at: Cursor) -> None:
        """Start the stream: events follow the place *at* in the log."""
        preamble = sse_preamble(self._format, at, secrets.randbelow(1000) / 1000)
        if preamble is not None:
            self.write([frame_plain(preamble)])

    def write(self, frames: Iterable[bytes]) -> None:
        """Send frames as soon as the client takes them."""
        if not self._ended:
            for frame in frames:
                self._queue.append(frame)
                self._queued_bytes += len(frame)
            self._more.set()
            self._set_paused(self._queued_bytes > PAUSE_AT_BYTES)

    def close(self, code: int, reason: str) -> None:
        """End the stream cleanly, after what was written. The last event has said why."""
        if not self._ended:
            self._ended = True
            self._close_code = int(code)
            self._more.set()

    # -- sending --

    async def run(self) -> None:
        """Send until the stream ends or the client is gone. The head was sent before."""
        self._flow_control.watch_response()
        disconnected = asyncio.ensure_future(self._wait_disconnected())
        lost = asyncio.ensure_future(self._lost.wait())
        sending = asyncio.ensure_future(self._send_all())
        try:
            await asyncio.wait({disconnected, lost, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is not None:
                self._close_code = ABNORMAL_CLOSURE
                self._flow_control.abort()
                # uvicorn would otherwise miss that the connection has ended.
                await asyncio.wait({disconnected}, timeout=1)
        finally:
            if self._ended:  # Daphne cancels this before the last of it is sent
                await asyncio.wait({sending}, timeout=CLOSE_TIMEOUT_S)
            self._ended = True
            for task in (disconnected, lost, sending):
                task.cancel()
            self._metrics.closes[self._close_code] += 1

    async def _wait_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _send_all(self) -> None:
        """Send to the end. Raises TimeoutError if the client takes nothing for too long."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                self._queued_bytes = 0
                await run_within(self._send_body(data, more=True), STALL_TIMEOUT_S)
            self._set_paused(False)
            if self._ended:
                await run_within(self._send_body(b"", more=False), STALL_TIMEOUT_S)
                return

    async def _send_body(self, data: bytes, *, more: bool) -> None:
        await self._flow_control.wait_writable()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _set_paused(self, paused: bool) -> None:
        if paused != self.paused:
            self.paused = paused
            if self.replica is not None and self.participant is not None:
                self.replica.flow_changed(self.participant)
