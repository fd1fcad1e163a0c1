"""Graceful shutdown: what clients have received from a server that stops under load."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_RATE
from deployments import ANSWER_TIMEOUT_S, INSTALLED, ServedDeployment, WebSocketClient, serving
from programs import Running, running
from wire import CLOSE, TEXT, Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.client.client import ClientTimeouts
from broadcast_server.console.time_limit import run_within
from broadcast_server.server.settings import Settings

MAX_UNCONFIRMED = 200
"""How many messages without an echo each sender may have."""

PAD = "x" * 1000
"""Pads each message, so that a client that does not read lags: the system buffers megabytes."""

MESSAGES_BEFORE_STOP = 8000
"""Messages that are delivered before the server is stopped."""

JSON = "Sec-WebSocket-Protocol: broadcast.v1.json"


@dataclass
class LoadClient:
    """One client of the load: what it received, and how its connection ended."""

    name: str
    wire: Wire
    seqs: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    own_count: int = 0
    code: int = 0
    error: str = ""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> None:
        """Read until the server closes the connection."""
        while True:
            opcode, payload = await self.wire.read_frame()
            if opcode == CLOSE:
                self.code = int.from_bytes(payload[:2], "big")
                self.wire.send_frame(CLOSE, payload)
                return
            for line in payload.split(b"\n") if opcode == TEXT else ():
                event: dict[str, Any] = json.loads(line)
                if event["type"] == "message":
                    self.seqs.append(event["seq"])
                    self.texts.append(event["text"])
                    self.own_count += event["name"] == self.name
                elif event["type"] == "error":
                    self.error = event["code"]
            self.news.set()

    async def publish(self) -> None:
        """Publish without end, at most `MAX_UNCONFIRMED` messages ahead of the echoes."""
        sent = 0
        while True:
            while sent < self.own_count + MAX_UNCONFIRMED:
                request = {"type": "say", "text": f"{self.name} {sent} {PAD}", "id": f"{sent}"}
                self.wire.send_frame(TEXT, json.dumps(request).encode())
                sent += 1
            self.news.clear()
            await self.news.wait()


async def run_load(url: str, stop: Callable[[], None]) -> list[LoadClient]:
    """Run senders, receivers and a client that does not read; call *stop* in the middle."""
    names = [f"sender{n}" for n in range(4)] + [f"receiver{n}" for n in range(8)] + ["slow"]
    clients = [LoadClient(name, await Wire.open(url, f"/?name={name}", JSON)) for name in names]
    slow = clients[-1]
    slow.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
    receiving = [asyncio.ensure_future(client.receive()) for client in clients]
    publishing = [asyncio.ensure_future(client.publish()) for client in clients[:4]]
    while len(clients[0].seqs) < MESSAGES_BEFORE_STOP:
        clients[0].news.clear()
        await run_within(clients[0].news.wait(), ANSWER_TIMEOUT_S)
    stop()
    slow.wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await run_within(asyncio.gather(*receiving), ANSWER_TIMEOUT_S)
    for task in publishing:
        task.cancel()
    await asyncio.wait(publishing)
    return clients


def test_stopping_under_load(tmp_path: Path) -> None:
    """A message that any client received reached all clients, and is in the log after a restart."""
    # A busy machine may need longer than the usual grace period for what all are to receive.
    options = *NO_RATE, "--grace", "30", "--log", str(tmp_path / "log")
    command = *INSTALLED, "start", "--port", "0", *options

    async def before(server: Running) -> list[LoadClient]:
        try:
            return await run_load(server.url, lambda: server.process.send_signal(signal.SIGTERM))
        finally:
            await Wire.cut_all()

    with running(*command) as server:
        clients = asyncio.run(before(server))
        assert server.wait() == 0
    last = max(client.seqs[-1] for client in clients)
    assert last >= MESSAGES_BEFORE_STOP
    for client in clients:
        assert (client.name, client.error, client.code) == (client.name, "stopping", 4001)
        assert (client.name, client.seqs) == (client.name, list(range(1, last + 1)))
        assert client.texts == clients[0].texts

    async def after(server: Running) -> list[str]:
        deployment = ServedDeployment(server.url)
        bob = await deployment.open(f"/?name=bob&history={last}", as_json=True)
        assert json.loads(await bob.line())["seq"] == last
        texts = [json.loads(await bob.line())["text"] for _ in range(last)]
        await deployment.close()
        return texts

    with running(*command) as server:
        assert asyncio.run(after(server)) == clients[0].texts
        assert server.signal(signal.SIGTERM) == 0


def test_a_request_while_the_server_stops() -> None:
    """A handshake that is under way when the server stops gets the error, and not a reset."""

    async def part() -> None:
        async with serving(Settings(port=0, limits=AdmissionLimits(rate=0))) as server:
            wire = await Wire.connect(server.url)
            await until(lambda: bool(server._connections))
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: not server.accepting)
            wire.send(
                b"GET / HTTP/1.1\r\nHost: localhost\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            assert "101" in await wire.read_head()
            assert await wire.read_frame() == (TEXT, b"* the server is stopping")
            opcode, payload = await wire.read_frame()
            assert (opcode, payload[:2]) == (CLOSE, (4001).to_bytes(2, "big"))
            wire.send_frame(CLOSE, payload)
            assert await wire.read_to_end() == b""
            wire.writer.close()
            await stopping
        await Wire.cut_all()

    asyncio.run(part())


def test_messages_are_rejected_while_the_server_stops() -> None:
    """A stopping server accepts no message, since others might not receive it, and says so."""

    async def part() -> None:
        async with serving(Settings(port=0, grace=1, limits=AdmissionLimits(rate=0))) as server:
            deployment = ServedDeployment(server.url)
            alice = await deployment.open("/?name=alice", as_json=False)
            slow = await Wire.open(server.url, "/?name=slow")
            slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await _publish_until(
                alice, lambda: any(socket.paused for socket in server._participants)
            )
            stopping = asyncio.ensure_future(server.stop())
            await until(lambda: not server.accepting)
            wire = await Wire.connect(server.url)
            wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await wire.read_head()).startswith("HTTP/1.1 503 "), "it still answers requests"
            await alice.send("too late")
            lines = []
            while "* the server is stopping" not in lines:
                lines.append(await alice.line())
            assert not any("too late" in line for line in lines)
            await stopping
        await Wire.cut_all()

    asyncio.run(part())


async def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds; check it in each iteration of the event loop."""
    loop = asyncio.get_running_loop()
    end = loop.time() + ANSWER_TIMEOUT_S
    while not condition():
        assert loop.time() < end, "the condition never held"
        await asyncio.sleep(0)


async def _publish_until(client: WebSocketClient, stalled: Callable[[], bool]) -> None:
    while not stalled():
        await client.send("\n".join(["x" * 4000] * 100))
        for _ in range(100):
            await client.line()


@pytest.mark.parametrize("attempt", [0, 1, 2, 10])
def test_reconnects_are_spread(attempt: int) -> None:
    """The reconnects of a thousand clients are spread over the whole delay."""
    timeouts = ClientTimeouts()
    longest = min(timeouts.max_delay, timeouts.first_delay * 2**attempt)
    tenths = [int(10 * timeouts.delay(attempt) / longest) for _ in range(1000)]
    assert all(50 < tenths.count(tenth) < 160 for tenth in range(10))
