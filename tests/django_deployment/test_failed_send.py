"""A send that fails: the server has lost the client, or rejects a frame that it was given."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django_client import connected, run_async

from broadcast_server.console.time_limit import run_within
from django_site.asgi import application


class Transport:
    """What `FlowControl` uses of a transport of Twisted's."""

    cut = False

    def registerProducer(self, producer: object, streaming: bool) -> None:  # noqa: N802
        """Take the producer."""

    def unregisterProducer(self) -> None:  # noqa: N802  # Twisted's names
        """Forget the producer."""

    def abortConnection(self) -> None:  # noqa: N802
        """Cut the connection."""
        self.cut = True


class Protocol:
    """A connection of Daphne's, whose sends fail once they contain "hello"."""

    def __init__(self, error: Exception) -> None:
        self.transport = Transport()
        self._error = error

    async def handle(self, event: dict[str, Any]) -> None:
        """Take an event of the application."""
        if "hello" in event.get("text", ""):
            raise self._error


@pytest.mark.parametrize("error", [OSError("lost"), RuntimeError("frame is too long")])
def test_a_member_whose_send_fails_is_cut(error: Exception) -> None:
    """Its connection is cut, the others see it leave, and the room goes on."""

    async def part() -> None:
        async with connected("/?name=bob&room=failing") as bob:
            scope = WebsocketCommunicator(application, "/?name=max&room=failing").scope
            scope["headers"] = [(b"host", b"testserver")]
            events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            events.put_nowait({"type": "websocket.connect"})
            protocol = Protocol(error)
            send = partial(Protocol.handle, protocol)  # as Daphne makes it
            member = asyncio.ensure_future(application(scope, events.get, send))
            assert await bob.receive_from(10) == "max joined the chat"
            await bob.send_to("hello")
            lines = [await bob.receive_from(10) for _ in range(2)]
            assert sorted(lines) == ["bob: hello", "max left the chat"]
            assert protocol.transport.cut
            events.put_nowait({"type": "websocket.disconnect", "code": 1006})
            await run_within(member, 10)
            await bob.send_to("goodbye")
            assert await bob.receive_from(10) == "bob: goodbye"

    run_async(part)
