"""Silent clients: those that never read cost little, delay nobody, and are disconnected.

`python -m benchmarks.silent` measures how much a thousand of them cost under load. The figures
are in docs/limits.md.
"""

from __future__ import annotations

import asyncio
import sys

import pytest
from conftest import Processes
from deployments import INSTALLED, ServedDeployment
from server_harness import play
from wire import Wire

from broadcast_server.server.api import Timeouts
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.transport import MAX_UNSENT_BYTES, PAUSE_AT_BYTES
from broadcast_server.server.websocket import WebSocketConnection

OPTIONS = ("--log-messages", "1000")
SILENT_CLIENTS = 100
SIOCOUTQNSD = 0x894B  # the ioctl for how many bytes of a socket are not sent yet


def test_silent_clients_cost_little(processes: Processes) -> None:
    """Messages that a hundred clients never read are not buffered for them, and delay nobody."""
    url = processes.url(INSTALLED, OPTIONS)
    program = processes.running((*INSTALLED,), OPTIONS)

    async def part() -> None:
        deployment = ServedDeployment(url)
        bob = await deployment.open("/?name=bob&room=unread", as_json=False)
        silent = [await Wire.open(url, "/?name=silent&room=unread") for _ in range(SILENT_CLIENTS)]
        for wire in silent:
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in silent:
            await bob.line()
        before = program.rss
        frame = "\n".join(["x" * 1000] * 100)
        clock = asyncio.get_running_loop().time
        longest = 0.0
        for _ in range(80):
            begin = clock()
            await bob.send(frame)
            for _ in range(100):
                assert (await bob.line()).startswith("bob: x")
            longest = max(longest, clock() - begin)
        # Of eight megabytes sent to it, each one buffers up to where it is paused, and one batch.
        assert program.rss - before < SILENT_CLIENTS * (PAUSE_AT_BYTES + 2 * len(frame)) + 8 * 2**20
        assert longest < 2
        await bob.assert_nothing_new(1 + SILENT_CLIENTS)
        await deployment.close()
        await Wire.cut_all()

    asyncio.run(part())


def test_a_silent_client_is_disconnected() -> None:
    """A client that reads nothing has left after two pings, and its connection is closed."""
    timeouts = Timeouts(ping=0.4, close=0.2)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        loud = await deployment.open("/?name=loud", as_json=False)
        silent = await Wire.open(server.url, "/?name=silent")
        clock = asyncio.get_running_loop().time
        begin = clock()
        silent.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert await loud.line() == "silent joined the chat"
        (connection,) = [
            connection
            for connection, (_, participant, _) in server._participants.items()
            if participant.name == "silent"
        ]
        lines = [""]
        while "silent left the chat" not in lines:
            assert clock() - begin < 2 * timeouts.ping + 2
            await loud.send("\n".join(["x" * 4000] * 20))
            lines = []
            while sum(line.startswith("loud: ") for line in lines) < 20:
                lines.append(await loud.line())
        assert clock() - begin >= timeouts.ping
        assert connection.paused, "its last ping could not even be written to the network"
        for _ in range(500):
            if connection not in server._connections:
                break
            await asyncio.sleep(0.01)
        assert connection not in server._connections

    play(part, Settings(port=0, timeouts=timeouts))


@pytest.mark.skipif(sys.platform != "linux", reason="SIOCOUTQNSD is Linux's")
def test_the_system_buffers_little_for_a_silent_client() -> None:
    """What the operating system holds unsent for a silent client is bounded, too."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        import fcntl

        silent = await Wire.open(server.url, "/?name=silent")
        silent.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = server._participants
        assert isinstance(connection, WebSocketConnection)
        loud = await deployment.open("/?name=loud", as_json=False)
        while not connection.paused:
            await loud.send("\n".join(["x" * 4000] * 20))
            for _ in range(20):
                await loud.line()
        descriptor = connection._transport.get_extra_info("socket").fileno()
        unsent = fcntl.ioctl(descriptor, SIOCOUTQNSD, bytes(4))
        assert 0 < int.from_bytes(unsent, sys.byteorder) < 2 * MAX_UNSENT_BYTES

    play(part)


def test_a_stale_connection_is_detected_within_forty_seconds() -> None:
    """By default a handshake may take ten seconds, and a client may be silent for forty."""
    timeouts = Settings().timeouts
    assert timeouts.handshake <= 10
    # A client is pinged after one period at the latest, and has the next one to react. Its
    # connection is closed when the closing handshake, to which it sends nothing, is over.
    assert 2 * timeouts.ping <= 40
    assert 2 * timeouts.ping + timeouts.close <= 50
