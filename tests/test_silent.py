"""The silent: clients that never read cost little, hold nobody up, and are found out.

How little, and how that is with a thousand of them under load, is what
`python -m benchmarks.silent` measures; docs/limits.md tells the figures.
"""

from __future__ import annotations

import asyncio
import sys

import pytest
from conftest import Processes
from houses import INSTALLED, ServedHouse
from test_server import play
from wire import Wire

from broadcast_server.connection import BUFFER, UNSENT, Times
from broadcast_server.server import Server, Settings

OPTIONS = ("--log-messages", "1000")
SILENT = 100
SIOCOUTQNSD = 0x894B  # asks a socket for its bytes that are not sent yet


def test_those_who_never_read_cost_little(processes: Processes) -> None:
    """What a hundred clients never read is not kept for them, and holds up nobody else."""
    url = processes.url(INSTALLED, OPTIONS)
    program = processes.running((*INSTALLED,), OPTIONS)

    async def part() -> None:
        house = ServedHouse(url)
        bob = await house.open("/?name=bob&room=unread", as_json=False)
        silent = [await Wire.open(url, "/?name=silent&room=unread") for _ in range(SILENT)]
        for each in silent:
            each.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
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
        # Each holds what stalls it and one turn, of the eight megabytes that it was sent.
        assert program.rss - before < SILENT * (BUFFER + 2 * len(frame)) + 8 * 2**20
        assert longest < 2
        await bob.heard_nothing(1 + SILENT)
        await house.close()
        await Wire.cut_all()

    asyncio.run(part())


def test_who_never_reads_is_found_out_and_let_go() -> None:
    """Who reads nothing is out within two pings, and gone, though it cannot be told why."""
    times = Times(ping=0.4, close=0.2)

    async def part(server: Server, house: ServedHouse) -> None:
        loud = await house.open("/?name=loud", as_json=False)
        silent = await Wire.open(server.url, "/?name=silent")
        clock = asyncio.get_running_loop().time
        begin = clock()
        silent.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
        assert await loud.line() == "silent joined the chat"
        (socket,) = [each for each in server._seats if server._seats[each][1].name == "silent"]
        lines = [""]
        while "silent left the chat" not in lines:
            assert clock() - begin < 2 * times.ping + 2
            await loud.send("\n".join(["x" * 4000] * 20))
            lines = []
            while sum(line.startswith("loud: ") for line in lines) < 20:
                lines.append(await loud.line())
        assert clock() - begin >= times.ping
        assert socket.paused, "its last ping could not even be written to the network"
        for _ in range(500):
            if socket not in server._open:
                break
            await asyncio.sleep(0.01)
        assert socket not in server._open

    play(part, Settings(port=0, times=times))


@pytest.mark.skipif(sys.platform != "linux", reason="it is asked of Linux how much it holds")
def test_the_system_holds_little_for_who_never_reads() -> None:
    """What the system has taken and not yet sent for a silent client is bounded as well."""

    async def part(server: Server, house: ServedHouse) -> None:
        import fcntl

        silent = await Wire.open(server.url, "/?name=silent")
        silent.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
        (socket,) = server._seats
        loud = await house.open("/?name=loud", as_json=False)
        while not socket.paused:
            await loud.send("\n".join(["x" * 4000] * 20))
            for _ in range(20):
                await loud.line()
        descriptor = socket._transport.get_extra_info("socket").fileno()
        unsent = fcntl.ioctl(descriptor, SIOCOUTQNSD, bytes(4))
        assert 0 < int.from_bytes(unsent, sys.byteorder) < 2 * UNSENT

    play(part)


def test_the_dead_are_found_within_forty_seconds() -> None:
    """By default a handshake has ten seconds, and who was last heard forty seconds ago is out."""
    times = Settings().times
    assert times.handshake <= 10
    # It is pinged after one period at the latest, and has the next one to be heard in. What it
    # holds is let go when the closing handshake, which it does not take part in, is over.
    assert 2 * times.ping <= 40
    assert 2 * times.ping + times.close <= 50
