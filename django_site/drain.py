"""The drain: how fast a connection flows, under a server that does not care.

uvicorn's `send` waits while a client does not read, and it reads on only as its
application does. Daphne's returns at once, and what the client has not taken piles up in
the transport without a bound (autobahn-python #1574); what it sends piles up in a queue.
But Daphne's `send` is a partial of the connection's protocol, whose transport tells a
producer when it is full, and stops to read when it is told to: so we do both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any


class Drain:
    """One connection's. Where nothing can be learned, it is always free, and never *lost*."""

    def __init__(self, send: object, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._free = asyncio.Event()
        self._free.set()
        self._protocol = send.args[0] if isinstance(send, partial) and send.args else None
        transport = getattr(self._protocol, "transport", None)
        self._transport: Any = transport if hasattr(transport, "registerProducer") else None
        self._send = send

    def watch(self) -> None:
        """Begin to be told; the connection has to be accepted."""
        if self._transport is not None:
            # The HTTP channel's, from before the upgrade: it would stop reading, too.
            self._transport.unregisterProducer()
            self._transport.registerProducer(self, True)

    def watch_answer(self) -> None:
        """Begin to be told of an answer over HTTP, whose head was not sent yet."""
        # A request whose connection is lost has no channel; its disconnect is on the way.
        protocol: Any = self._protocol
        if self._transport is not None and getattr(protocol, "channel", None) is not None:
            protocol.registerProducer(self, True)

    def cut(self) -> None:
        """Cut the connection, of which nobody takes what it was sent."""
        transport = self._transport or getattr(self._cycle, "transport", None)
        for name in ("abortConnection", "abort"):  # Twisted's, asyncio's
            if hasattr(transport, name):
                getattr(transport, name)()
                return

    @property
    def _cycle(self) -> object:
        """What uvicorn's `send` is a method of."""
        return getattr(self._send, "__self__", None)

    async def free(self) -> None:
        """Wait until the connection takes more."""
        await self._free.wait()

    def hold(self) -> None:
        """Read no more from the client, until we `go_on`."""
        if self._transport is not None:
            self._transport.pauseProducing()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resumeProducing()

    # -- twisted.internet.interfaces.IPushProducer --

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the transport is full."""
        self._free.clear()

    def resumeProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the transport takes more."""
        self._free.set()

    def stopProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the connection is lost: nobody is to wait for it any more."""
        self._free.set()
        self._lost()
