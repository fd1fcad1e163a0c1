"""Members of a Django deployment that runs in other processes, and ways to wait for events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from programs import PATIENCE, pause
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broadcast_server.protocol.messages import Event, Message


class Member:
    """A JSON client that records the events it receives, and when."""

    def __init__(self, name: str, socket: ClientConnection) -> None:
        self.name = name
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.code: int | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                frame = str(await self.socket.recv())
                now = time.monotonic()
                for line in frame.split("\n"):
                    self.events.append(json.loads(line))
                    self.times.append(now)
        except ConnectionClosed as closed:
            self.code = 1006 if closed.rcvd is None else closed.rcvd.code

    async def ask(self, type: str, **fields: Any) -> None:
        """Send a request."""
        await self.socket.send(json.dumps({"type": type, **fields}))

    async def publish(self, *texts: str) -> None:
        """Publish each text, with its first 64 characters as the id."""
        requests = [json.dumps({"type": "say", "text": text, "id": text[:64]}) for text in texts]
        await self.socket.send("\n".join(requests))

    def events_of(self, type: str) -> list[dict[str, Any]]:
        """Return the received events of a type."""
        return [event for event in self.events if event["type"] == type]

    @property
    def messages(self) -> list[tuple[int, str]]:
        """The received messages, as pairs of seq and text."""
        return [(event["seq"], event["text"]) for event in self.events_of("message")]

    def received_at(self, text: str) -> float | None:
        """Return the time at which *text* was received, None if it was not yet."""
        for event, moment in zip(self.events, self.times, strict=True):
            if event.get("text") == text:
                return moment
        return None

    async def close(self) -> None:
        """Close the connection, and read what is left."""
        await self.socket.close()
        await self._reading


async def until(condition: Callable[[], object], what: str) -> None:
    """Poll until *condition* holds. *what* names it in the failure."""
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < PATIENCE, f"timed out: {what}"
        await asyncio.sleep(pause(waited))


async def join(
    url: str, name: str, room: str, parameters: str = "", token: str | None = None
) -> Member:
    """Join a room, and return when the server has welcomed or rejected the client."""
    socket = await connect(
        f"{url}?name={name}&room={room}{parameters}",
        subprotocols=[Subprotocol("broadcast.v1.json")],
        additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        max_queue=None,
        open_timeout=PATIENCE,
    )
    member = Member(name, socket)
    await until(lambda: member.events or member.code, "a first line")
    return member


@asynccontextmanager
async def members(*joining: Awaitable[Member]) -> AsyncIterator[list[Member]]:
    """Join several members, one after the other; they leave at the end."""
    joined: list[Member] = []
    try:
        for pending in joining:
            member = await pending
            joined.append(member)
        yield joined
    finally:
        for member in joined:
            await member.close()


class RecordingSink:
    """A sink of the client library that records the events and notes it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []

    @property
    def messages(self) -> list[tuple[int, str]]:
        """The recorded messages, as pairs of seq and text."""
        return [(each.seq, each.text) for each in self.events if isinstance(each, Message)]

    def show(self, events: list[Event]) -> None:
        """Record events."""
        self.events += events

    def note(self, text: str) -> None:
        """Record a note."""
        self.notes.append(text)

    async def drain(self) -> None:
        """Return at once: this sink is always ready."""
