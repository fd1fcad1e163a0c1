"""Writing at once: writes keep their order, whether the server's `send` waits or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, cast

import pytest
from django_client import run_async

from django_site.transport.flow_control import FlowControl
from django_site.transport.websocket import RoomConsumer


class Transport:
    """What `FlowControl` uses of a transport of Twisted's."""

    def registerProducer(self, producer: FlowControl, streaming: bool) -> None:  # noqa: N802
        """Take the producer."""
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802  # Twisted's names
        """Forget the producer."""


class Server:
    """A server that can be told to wait, and notes what it was sent in `sent`."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.writable = asyncio.Event()
        self.writable.set()
        self.sent: list[str] = []

    async def send_at_once(self, event: dict[str, Any]) -> None:
        """Send like Daphne."""
        self.sent.append(event["text"])

    async def send_if_writable(self, event: dict[str, Any]) -> None:
        """Send like uvicorn."""
        await self.writable.wait()
        self.sent.append(event["text"])

    async def send_slowly(self, event: dict[str, Any]) -> None:
        """Send, and wait even so, as neither does."""
        await self.writable.wait()
        self.sent.append(event["text"])
        for _ in range(3):
            await asyncio.sleep(0)

    def hold(self) -> None:
        """Take no more."""
        self.writable.clear()
        if hasattr(self.transport, "producer"):
            self.transport.producer.pauseProducing()

    def release(self) -> None:
        """Take more."""
        self.writable.set()
        if hasattr(self.transport, "producer"):
            self.transport.producer.resumeProducing()


Send = Callable[[dict[str, Any]], Awaitable[None]]


def daphne(server: Server) -> Send:
    """Return *server*'s `send` as Daphne makes it."""
    return partial(Server.send_at_once, server)


def uvicorn(server: Server) -> Send:
    """Return *server*'s `send` as uvicorn makes it."""
    return server.send_if_writable


def unforeseen(server: Server) -> Send:
    """Return a `send` that waits when it should not."""
    return server.send_slowly


@asynccontextmanager
async def opened(send: Send) -> AsyncIterator[RoomConsumer]:
    """Make a consumer whose handshake has been answered."""
    consumer = RoomConsumer()
    consumer.base_send = cast(Any, send)
    consumer._flow_control = FlowControl(send, lambda: None)
    consumer._flow_control.watch_websocket()
    consumer._sending = asyncio.ensure_future(consumer._send_all(consumer._flow_control))
    yield consumer
    consumer._sending.cancel()


def in_order(texts: list[str], length: int) -> bool:
    """Tell whether *texts* are all *length* of them, in order."""
    return texts == [str(each) for each in range(length)]


@pytest.mark.parametrize("make", [daphne, uvicorn])
def test_a_write_is_sent_before_it_returns(make: Callable[[Server], Send]) -> None:
    """Nothing is left for the task that sends, as long as the server takes it."""

    async def part() -> None:
        server = Server()
        async with opened(make(server)) as consumer:
            consumer.write(["0", "1"])
            consumer.write(["2"])
            assert in_order(server.sent, 3)
            assert not consumer._queue

    run_async(part)


@pytest.mark.parametrize("make", [daphne, uvicorn, unforeseen])
@pytest.mark.parametrize("seed", range(8))
def test_writes_keep_their_order(make: Callable[[Server], Send], seed: int) -> None:
    """A write does not overtake what waits, at whichever step of it the server takes more."""

    async def part() -> None:
        server, chance, length = Server(), Random(seed), 0  # not a secret
        async with opened(make(server)) as consumer:
            for _ in range(500):
                match chance.choice(("write", "hold", "release", "turn")):
                    case "write":
                        consumer.write([str(length)])
                        length += 1
                    case "hold":
                        server.hold()
                    case "release":
                        server.release()
                    case "turn":
                        await asyncio.sleep(0)
            server.release()
            for _ in range(10 * length):
                await asyncio.sleep(0)
            assert in_order(server.sent, length)
            assert (len(consumer._queue), consumer._queued_chars) == (0, 0)

    run_async(part)
