"""A tap: one stream of events over HTTP, once it is let in.

It sends what the node gives it, and takes nothing. What it is sent waits here, so that
nobody waits for anybody, and is bounded because the node gives no more while much waits.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from broadcast_server.eventstream import STALLED, bare, preface
from broadcast_server.openroom import DONE
from broadcast_server.protocol import Cursor, Format
from broadcast_server.room import Peer

from .drain import Drain
from .node import Node
from .nodes import nodes

BUFFER = 64 * 2**10
"""So many bytes may wait to be sent before a listener counts as stalled."""

LAST = 2.0
"""Seconds in which it has to take the last of it when its server ends."""

CUT = 1006


class Tap:
    """One stream."""

    encode = staticmethod(bare)

    def __init__(
        self,
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        format: Format,
    ) -> None:
        self._receive = receive
        self._send = send
        self._format = format
        self._lost = asyncio.Event()
        self._drain = Drain(send, self._lost.set)
        self._queue: deque[bytes] = deque()
        self._waiting = 0  # bytes in it
        self._more = asyncio.Event()
        self._over = False
        self._code = DONE  # a client ends a stream by hanging up
        self.paused = False
        self.node: Node | None = None
        self.peer: Peer | None = None

    # -- what the node says --

    def begin(self, at: Cursor) -> None:
        """Begin the answer."""
        first = preface(self._format, at, secrets.randbelow(1000) / 1000)
        if first is not None:
            self.write([bare(first)])

    def write(self, frames: Iterable[bytes]) -> None:
        """Send frames, as soon as they are taken."""
        if not self._over:
            for frame in frames:
                self._queue.append(frame)
                self._waiting += len(frame)
            self._more.set()
            self._flow(self._waiting > BUFFER)

    def close(self, code: int, reason: str) -> None:
        """End it well, after what was written; the last event said why."""
        if not self._over:
            self._over = True
            self._code = int(code)
            self._more.set()

    # -- in here --

    async def run(self) -> None:
        """Send to the end, however that comes. The head of the answer is under way."""
        self._drain.watch_answer()
        gone = asyncio.ensure_future(self._until_gone())
        lost = asyncio.ensure_future(self._lost.wait())
        sending = asyncio.ensure_future(self._send_all())
        try:
            await asyncio.wait({gone, lost, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.exception() is not None:
                self._code = CUT
                self._drain.cut()
                await asyncio.wait({gone}, timeout=1)  # or uvicorn would miss the end of it
        finally:
            if self._over:  # Daphne cancels before what was written last is sent
                await asyncio.wait({sending}, timeout=LAST)
            self._over = True
            for task in (gone, lost, sending):
                task.cancel()
            nodes().metrics.closes[self._code] += 1

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _send_all(self) -> None:
        """Send until the end. Raises TimeoutError if nobody takes it."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                self._waiting = 0
                await asyncio.wait_for(self._give(data, more=True), STALLED)
            self._flow(False)
            if self._over:
                await asyncio.wait_for(self._give(b"", more=False), STALLED)
                return

    async def _give(self, data: bytes, *, more: bool) -> None:
        await self._drain.free()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _flow(self, paused: bool) -> None:
        if paused != self.paused:
            self.paused = paused
            if self.node is not None and self.peer is not None:
                self.node.flow(self.peer)
