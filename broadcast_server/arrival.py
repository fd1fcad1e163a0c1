"""An arrival: a new connection, until its first request decides what it speaks.

It reads the head of that request, bounded in bytes and time, and hands the
connection on: to `connection.Socket` if an upgrade is asked for, else to
`exchange.Exchange`. websockets' own server would answer only GET without a body,
so that a POST or an endless stream could not live on this port.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Protocol, cast

from .connection import House, Socket
from .web import HEAD_BYTES

if TYPE_CHECKING:
    from .exchange import Exchange, Keeper
    from .tap import Tap

    class Server(House, Keeper, Protocol):
        """What all that may come of an arrival need of the server."""

        def leave(self, seat: Socket | Tap) -> None:
            """Take *seat* out of its room."""

        def flow(self, seat: Socket | Tap) -> None:
            """Note that *seat* was paused or resumed."""


TLS = b"\x16\x03"
"""How a client begins that takes us for a wss:// server."""

MOMENT = 0.5
"""Seconds that a request may still take when the server stops: it is on its way, or was none."""

_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)


class Arrival(asyncio.Protocol):
    """A new connection, until the head of its first request is there."""

    __slots__ = ("_head", "_house", "_timer", "_transport")

    code = None  # nobody's yet

    def __init__(self, house: Server) -> None:
        self._house = house
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(
            self._house.times.handshake, self._transport.abort
        )
        self._house.opened(self)

    def data_received(self, data: bytes) -> None:
        """Hand the socket on as soon as it is clear to whom."""
        self._head += data
        if self._head.startswith(TLS):  # it would wait for an answer until we lose patience
            self._transport.abort()
            return
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= HEAD_BYTES:
            return
        self._timer.cancel()
        # Late, since h11 costs too much of the start: see server.serve, which fetches it.
        from .exchange import Exchange

        protocol: Socket | Exchange
        # A request line that is not ASCII goes to h11, which answers it with 400;
        # websockets would hang up without a word.
        line = self._head.partition(b"\r\n")[0]
        if 0 <= end <= HEAD_BYTES and line.isascii() and _UPGRADE.search(self._head, 0, end + 2):
            protocol = Socket(self._house)
        else:
            protocol = Exchange(self._house)
        self._house.opened(protocol)
        self._house.lost(self)  # after that: a server that stops waits until it has none
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        # The head first: websockets would read on before the handshake is accepted.
        head = end + 4 if 0 <= end <= HEAD_BYTES else HEAD_BYTES + 1
        protocol.data_received(self._head[:head])
        if self._head[head:] and not self._transport.is_closing():
            protocol.data_received(self._head[head:])

    def shut(self) -> None:
        """Let it still ask, to be told that the server stops; or end it after a moment."""
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(MOMENT, self._transport.abort)

    def abort(self) -> None:
        """Cut it."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection that never asked for anything."""
        self._timer.cancel()
        self._house.lost(self)
