"""Leaving well: a server that stops under load, and what its clients have then."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from houses import INSTALLED, PATIENCE, ServedHouse, SocketVisitor, serving
from programs import Running, running
from wire import CLOSE, TEXT, Wire

from broadcast_server.client import Pace
from broadcast_server.server import Settings

WINDOW = 200
"""So many messages each sender has on their way."""

PAD = "x" * 1000
"""So that who does not read is behind: the system takes a few megabytes for it."""

ENOUGH = 8000
"""Messages, before the server is stopped."""

JSON = "Sec-WebSocket-Protocol: broadcast.v1.json"


@dataclass
class Ear:
    """What one client heard, and how it ended."""

    name: str
    wire: Wire
    seqs: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    mine: int = 0
    code: int = 0
    error: str = ""
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self) -> None:
        """Hear until it is closed."""
        while True:
            opcode, payload = await self.wire.got()
            if opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big")
                self.wire.frame(CLOSE, payload)
                return
            for line in payload.split(b"\n") if opcode == TEXT else ():
                event: dict[str, Any] = json.loads(line)
                if event["type"] == "message":
                    self.seqs.append(event["seq"])
                    self.texts.append(event["text"])
                    self.mine += event["name"] == self.name
                elif event["type"] == "error":
                    self.error = event["code"]
            self.more.set()

    async def talk(self) -> None:
        """Say more and more, never more than the window ahead of what has come back."""
        said = 0
        while True:
            while said < self.mine + WINDOW:
                say = {"type": "say", "text": f"{self.name} {said} {PAD}", "id": f"{said}"}
                self.wire.frame(TEXT, json.dumps(say).encode())
                said += 1
            self.more.clear()
            await self.more.wait()


async def load(url: str, stop: Callable[[], None]) -> list[Ear]:
    """Have talkers, listeners and one who does not read; *stop* the server in the middle of it."""
    names = [f"talker{n}" for n in range(4)] + [f"ear{n}" for n in range(8)] + ["slow"]
    ears = [Ear(name, await Wire.open(url, f"/?name={name}", JSON)) for name in names]
    slow = ears[-1]
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
    listening = [asyncio.ensure_future(ear.listen()) for ear in ears]
    talking = [asyncio.ensure_future(ear.talk()) for ear in ears[:4]]
    while len(ears[0].seqs) < ENOUGH:
        ears[0].more.clear()
        await asyncio.wait_for(ears[0].more.wait(), PATIENCE)
    stop()
    slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await asyncio.wait_for(asyncio.gather(*listening), PATIENCE)
    for each in talking:
        each.cancel()
    await asyncio.wait(talking)
    await Wire.cut_all()
    return ears


def test_stopping_under_load(tmp_path: Path) -> None:
    """What anyone saw come back reached everyone who was there, and is there after a restart."""
    command = *INSTALLED, "start", "--port", "0", "--log", str(tmp_path / "log")

    async def before(server: Running) -> list[Ear]:
        return await load(server.url, lambda: server.process.send_signal(signal.SIGTERM))

    with running(*command) as server:
        ears = asyncio.run(before(server))
        assert server.wait() == 0
    said = max(ear.seqs[-1] for ear in ears)
    assert said >= ENOUGH
    for ear in ears:
        assert (ear.name, ear.error, ear.code) == (ear.name, "stopping", 4001)
        assert (ear.name, ear.seqs) == (ear.name, list(range(1, said + 1)))
        assert ear.texts == ears[0].texts

    async def after(server: Running) -> list[str]:
        house = ServedHouse(server.url)
        bob = await house.open(f"/?name=bob&history={said}", as_json=True)
        assert json.loads(await bob.line())["seq"] == said
        texts = [json.loads(await bob.line())["text"] for _ in range(said)]
        await house.close()
        return texts

    with running(*command) as server:
        assert asyncio.run(after(server)) == ears[0].texts
        assert server.signal(signal.SIGTERM) == 0


def test_who_asks_while_it_stops() -> None:
    """A request that was on its way when the server stopped is told so, and not reset."""

    async def part() -> None:
        async with serving(Settings(port=0)) as server:
            wire = await Wire.dial(server.url)
            await until(lambda: bool(server._open))
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: not server.accepting)
            wire.send(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            assert "101" in await wire.head()
            assert await wire.got() == (TEXT, b"* the server is stopping")
            opcode, payload = await wire.got()
            assert (opcode, payload[:2]) == (CLOSE, (4001).to_bytes(2, "big"))
            wire.frame(CLOSE, payload)
            assert await wire.ended() == b""
            wire.writer.close()
            await stopping
        await Wire.cut_all()

    asyncio.run(part())


def test_what_is_said_while_it_stops_is_not_taken() -> None:
    """While it stops nothing more is taken, as others might not get it, and it says so."""

    async def part() -> None:
        async with serving(Settings(port=0, grace=1)) as server:
            house = ServedHouse(server.url)
            alice = await house.open("/?name=alice", as_json=False)
            slow = await Wire.open(server.url, "/?name=slow")
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await _stall(alice, lambda: any(socket.paused for socket in server._seats))
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: not server.accepting)
            wire = await Wire.dial(server.url)
            wire.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await wire.head()).startswith("HTTP/1.1 503 "), "it can still be asked"
            await alice.send("too late")
            lines = []
            while "* the server is stopping" not in lines:
                lines.append(await alice.line())
            assert not any("too late" in line for line in lines)
            await stopping
        await Wire.cut_all()

    asyncio.run(part())


async def until(condition: Callable[[], bool]) -> None:
    """Look in each turn of the loop whether *condition* holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("in vain")


async def _stall(loud: SocketVisitor, stalled: Callable[[], bool]) -> None:
    while not stalled():
        await loud.send("\n".join(["x" * 4000] * 100))
        for _ in range(100):
            await loud.line()


@pytest.mark.parametrize("attempt", [0, 1, 2, 10])
def test_returns_are_spread(attempt: int) -> None:
    """A thousand clients come back all over the time that they have, and not together."""
    pace = Pace()
    most = min(pace.longest, pace.first * 2**attempt)
    tenths = [int(10 * pace.delay(attempt) / most) for _ in range(1000)]
    assert all(50 < tenths.count(tenth) < 160 for tenth in range(10))
