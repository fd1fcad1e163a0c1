"""Run by test_zones in a network namespace in which `lo` has the address fe80::1."""

from __future__ import annotations

import asyncio
import re

from broadcast_server.client.address import parse_address
from broadcast_server.client.client import ReconnectingClient
from broadcast_server.client.publisher import HTTPPublisher
from broadcast_server.client.session import ClientSession
from broadcast_server.client.target import Target
from broadcast_server.protocol.messages import Event
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings


class NoSink:
    """An event sink that shows nothing."""

    def show(self, events: list[Event]) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Fail: there is nothing to note."""
        raise AssertionError(text)

    async def drain(self) -> None:
        """Return at once."""


async def main() -> None:
    """Join and publish, by each way to write the address."""
    server = Server(Settings(host="fe80::1%lo", port=0))
    await server.listen()
    (printed,) = server.listener.urls
    match = re.fullmatch(r"ws://\[fe80::1%25lo\]:(\d+)/", printed)
    assert match, printed
    for typed in (printed, f"[fe80::1%lo]:{match[1]}", f"http://[fe80::1%1]:{match[1]}/"):
        url, _ = parse_address(typed)
        client = ReconnectingClient(url, {}, ClientSession(None, None))
        running = asyncio.ensure_future(client.run(NoSink()))
        client.send("hi")
        confirmed = asyncio.ensure_future(client.wait_confirmed())
        await asyncio.wait({running, confirmed}, return_when=asyncio.FIRST_COMPLETED)
        publisher = HTTPPublisher(Target(url, {}, None, None, None), None, None)
        loop = asyncio.get_running_loop()
        assert (await loop.run_in_executor(None, publisher.publish, "there")).receivers == 1
        client.leave()
        await running
    await server.stop()


asyncio.run(main())
