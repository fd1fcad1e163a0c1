"""Flow control: stops writing to a client that does not read, and reading from it, under Daphne.

uvicorn needs no help: its `send` waits while the client does not read, and it reads no further
than its application does. Daphne's `send` returns at once. What the client has not read is
buffered in the transport without a bound (autobahn-python #1574), and what the client sends is
buffered in a queue.

Daphne's `send` is a `functools.partial` of the connection's protocol. The transport of that
protocol tells a Twisted producer when its buffer is full, and can be told to stop reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any


class Begun:
    """The rest of a `send` that was expected not to wait, and waits for *wanted*."""

    def __init__(self, sending: Coroutine[Any, Any, None], wanted: object) -> None:
        self._sending = sending
        self._wanted = wanted

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait for the end of it."""
        yield self._wanted
        yield from self._sending.__await__()


class FlowControl:
    """The flow control of one connection. Under uvicorn it never has to wait.

    *send* is the connection's ASGI callable. *lost* is called when Daphne loses the connection.
    """

    def __init__(self, send: object, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._writable = asyncio.Event()
        self._writable.set()
        self._protocol = send.args[0] if isinstance(send, partial) and send.args else None
        transport = getattr(self._protocol, "transport", None)
        self._transport: Any = transport if hasattr(transport, "registerProducer") else None
        self._send = send
        # uvicorn's `send` waits for this event and for nothing else.
        writable = getattr(self._uvicorn_cycle, "writable", None)
        self._may_send = writable if isinstance(writable, asyncio.Event) else None
        if self._transport is not None:
            self._may_send = self._writable

    @property
    def is_needed(self) -> bool:
        """Whether the connection is one of Daphne's."""
        return self._transport is not None

    @property
    def sends_at_once(self) -> bool:
        """Whether `send` would not have to wait now."""
        return self._may_send is not None and self._may_send.is_set()

    def watch_websocket(self) -> None:
        """Watch a WebSocket, which must have been accepted."""
        if self._transport is not None:
            # The HTTP channel has been the producer since before the upgrade. It would stop
            # reading whenever writing stops.
            self._transport.unregisterProducer()
            self._transport.registerProducer(self, True)

    def watch_response(self) -> None:
        """Watch an HTTP response, whose body was not sent yet."""
        # A request has no channel once its connection is lost: the disconnect event follows.
        protocol: Any = self._protocol
        if self._transport is not None and getattr(protocol, "channel", None) is not None:
            protocol.registerProducer(self, True)

    def abort(self) -> None:
        """Close the connection without sending what is buffered: the client does not read it."""
        transport = self._transport or getattr(self._uvicorn_cycle, "transport", None)
        for name in ("abortConnection", "abort"):  # Twisted's, asyncio's
            if hasattr(transport, name):
                getattr(transport, name)()
                return

    @property
    def _uvicorn_cycle(self) -> object:
        """The object of which uvicorn's `send` is a method: its request-response cycle."""
        return getattr(self._send, "__self__", None)

    async def wait_writable(self) -> None:
        """Wait until the transport takes more."""
        await self._writable.wait()

    def pause_reading(self) -> None:
        """Stop reading from the client, until `resume_reading`."""
        if self._transport is not None:
            self._transport.pauseProducing()

    def resume_reading(self) -> None:
        """Go on reading from the client."""
        if self._transport is not None:
            self._transport.resumeProducing()

    # -- twisted.internet.interfaces.IPushProducer --

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the transport's buffer is full."""
        self._writable.clear()

    def resumeProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the transport takes more."""
        self._writable.set()

    def stopProducing(self) -> None:  # noqa: N802  # Twisted's name
        """Note that the connection is lost, and let nobody wait for it any longer."""
        self._writable.set()
        self._lost()
