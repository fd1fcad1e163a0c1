"""A client in the test's own event loop, and a real server for it to connect to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.client.client import ClientError, ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import SUBPROTOCOL, Event, Message
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

SHORT_TIMEOUTS = ClientTimeouts(first_delay=0.01, max_delay=0.02, handshake=0.8, close=0.5)
"""For a server in this process, or one that does not answer."""

EVENT_TIMEOUT_S = 10.0
SCENARIO_TIMEOUT_S = 20.0


class RecordingSink:
    """An event sink that records what it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []
        self._news = asyncio.Event()

    def show(self, events: list[Event]) -> None:
        """Record events."""
        self.events += events
        self._news.set()

    def note(self, text: str) -> None:
        """Record a notice."""
        self.notes.append(text)
        self._news.set()

    async def drain(self) -> None:
        """Return at once: this sink can always take more."""

    @property
    def texts(self) -> list[str]:
        """The texts of the messages, in the order in which they were shown."""
        return [event.text for event in self.events if isinstance(event, Message)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds, which is checked after each event and notice."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        await run_within(wait(), EVENT_TIMEOUT_S)


def new_client(url: str, timeouts: ClientTimeouts = SHORT_TIMEOUTS) -> ReconnectingClient:
    """Return a client with a new session."""
    return ReconnectingClient(url, {}, ClientSession(None, None), timeouts=timeouts)


async def error_of(url: str, timeouts: ClientTimeouts = SHORT_TIMEOUTS) -> str:
    """Return the error with which a client at *url* gives up."""
    with pytest.raises(ClientError) as raised:
        await run_within(new_client(url, timeouts).run(RecordingSink()), 10)
    return str(raised.value)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run the coroutine of a test in a new event loop, with a time limit."""

    async def limited() -> None:
        await run_within(scenario(), SCENARIO_TIMEOUT_S)

    asyncio.run(limited())


@asynccontextmanager
async def deployment(port: int = 0) -> AsyncIterator[tuple[Server, str]]:
    """A standalone server, and its URL."""
    server = Server(Settings(port=port, grace=1, limits=AdmissionLimits(rate=0)))
    await server.listen()
    try:
        yield server, server.url
    finally:
        await server.stop()


@asynccontextmanager
async def member(
    url: str, name: str = "ann", *, handshake: float = EVENT_TIMEOUT_S
) -> AsyncIterator[tuple[ReconnectingClient, RecordingSink]]:
    """A client that is a member of the room inside the block, and its sink."""
    session = ClientSession(name, None)
    # A server in another process may take longer to answer, and a client that fails at first ends.
    timeouts = replace(SHORT_TIMEOUTS, handshake=handshake)
    client = ReconnectingClient(url, {}, session, timeouts=timeouts)
    sink = RecordingSink()
    running = asyncio.ensure_future(client.run(sink))
    try:
        yield client, sink
    finally:
        client.leave()
        await running


# -- other servers --


@asynccontextmanager
async def responding(response: bytes | None) -> AsyncIterator[str]:
    """A TCP server that sends *response* to any request and closes, or sends nothing if None."""
    finished = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        if response is None:
            await finished.wait()
        else:
            writer.write(response)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        finished.set()
        server.close()


@asynccontextmanager
async def websocket_server(
    handler: Callable[[ServerConnection], Awaitable[None]],
    subprotocol: str | None = SUBPROTOCOL,
    **options: Any,
) -> AsyncIterator[str]:
    """A WebSocket server that calls *handler* for each connection."""
    subprotocols = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with serve(handler, "127.0.0.1", 0, subprotocols=subprotocols, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
