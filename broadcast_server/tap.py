"""A tap: one stream of events over HTTP, once it is let in.

It writes what the room gives it, and takes nothing. Which events these are is the room's
matter, and how they are written `eventstream`'s.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterable
from typing import Protocol

from .connection import bound, client_name
from .eventstream import LAST_CHUNK, STALLED, bare, chunk, preface
from .openroom import DONE, Encode
from .protocol import CloseCode, Cursor, Format

LAST = 10.0
"""Seconds in which it has to take the last of it."""

CUT = 1006


class House(Protocol):
    """What a tap needs of the server."""

    def lost(self, connection: Tap) -> None:
        """Forget a connection."""

    def leave(self, tap: Tap) -> None:
        """Take *tap* off its room's stream."""

    def flow(self, tap: Tap) -> None:
        """Note that *tap* was paused or resumed."""


class Tap(asyncio.Protocol):
    """One stream: *head* is that of its answer, *chunked* unless the client is of HTTP/1.0."""

    def __init__(
        self,
        house: House,
        transport: asyncio.Transport,
        client: str | None,
        head: bytes,
        format: Format,
        *,
        chunked: bool,
        poll: bool,
    ) -> None:
        self._house = house
        self._transport = transport
        self.client = client
        self.encode: Encode = chunk if chunked else bare
        self._head = head
        self._format = format
        self._chunked = chunked
        self._poll = poll
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self.paused = False
        self.code: int | None = DONE  # a client ends a stream by hanging up
        bound(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT") and client is not None:
            # Who vanished is found by the heads, after the same time.
            connection = transport.get_extra_info("socket")
            milliseconds = int(STALLED * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    @property
    def address(self) -> str:
        """Where the client is, for the log."""
        return client_name(self._transport, self.client)

    @property
    def file(self) -> int:
        """The number of its open file, -1 if it is closed."""
        return int(self._transport.get_extra_info("socket").fileno())

    # -- what the room says --

    def begin(self, at: Cursor) -> None:
        """Begin the answer."""
        first = preface(self._format, at, secrets.randbelow(1000) / 1000)
        self._transport.write(self._head + (b"" if first is None else self.encode(first)))

    def write(self, frames: Iterable[bytes]) -> None:
        """Write what was encoded for this stream and all that are like it."""
        if not self._closing:
            for frame in frames:
                self._transport.write(frame)

    def close(self, code: int, reason: str) -> None:
        """End it well; the last event said why."""
        if not self._closing:
            self._closing = True
            self.code = code
            if self._chunked:
                self._transport.write(LAST_CHUNK)
            self._wait(LAST)
            self._transport.close()

    def shut(self) -> None:
        """End it: the server stops."""
        self.close(CloseCode.STOPPING, "the server is stopping")

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    # -- what the transport says --

    def eof_received(self) -> bool:
        """Take it that the client has gone, unless it waits for an end that comes anyway."""
        return self._poll

    def pause_writing(self) -> None:
        """Note that the client takes no more for now; if it goes on so, it is cut."""
        self.paused = True
        if not self._closing:
            self._wait(STALLED)
        self._house.flow(self)

    def resume_writing(self) -> None:
        """Note that it takes more again."""
        self.paused = False
        if self._timer is not None and not self._closing:
            self._timer.cancel()
        self._house.flow(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything about it."""
        if exc is not None:
            self.code = CUT
        if self._timer is not None:
            self._timer.cancel()
        self._house.leave(self)
        self._house.lost(self)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._cut)

    def _cut(self) -> None:
        self.code = CUT
        self._transport.abort()
