"""A thousand clients join, publish one message each, and leave; each receives every message."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Iterable
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import pytest
from conftest import Player
from deployments import ANSWER_TIMEOUT_S, Deployment, ServedDeployment

from broadcast_server.console.time_limit import run_within

CLIENTS = 1000


def allow_open_files(files: int) -> bool:
    """Raise the limit of open files to *files* if possible; return whether that many may be open.

    Windows has no such limit.
    """
    if sys.platform == "win32":
        return True
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
        return True
    return soft >= files


class MinimalClient(asyncio.Protocol):
    """A WebSocket client that keeps the lines it receives.

    A thousand clients of a library would be too slow.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[bytes] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.all_received: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.messages = 0
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /?name={self.name}&room=crowd HTTP/1.1\r\nHost: localhost\r\n"
            f"Upgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def frame(self, opcode: int, payload: bytes) -> None:
        """Send a frame of at most 125 bytes, masked with zeros."""
        self.transport.write(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            head, found, self._data = self._data.partition(b"\r\n\r\n")
            if not found:
                self._data = head
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.opened.set_result(None)
        position = 0
        while len(self._data) >= position + 2:
            opcode, size, start = self._data[position] & 15, self._data[position + 1], position + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size = int.from_bytes(self._data[start : start + width], "big")
                start += width
            if len(self._data) < start + size:
                break
            position = start + size
            payload = self._data[start:position]
            if opcode == 9:
                self.frame(10, payload)
            elif opcode == 1:
                lines = payload.split(b"\n")
                self.lines += lines
                self.messages += sum(b": " in line for line in lines)
        self._data = self._data[position:]
        if self.messages >= CLIENTS and not self.all_received.done():
            self.all_received.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def all_of(futures: Iterable[asyncio.Future[None]]) -> None:
    """Wait for all *futures*."""
    await run_within(asyncio.gather(*futures), 6 * ANSWER_TIMEOUT_S)


def test_a_thousand(own_server: Player) -> None:
    """Each of a thousand clients receives every message exactly once, all in the same order."""
    if not allow_open_files(2 * CLIENTS + 100):
        pytest.skip(f"this system lets a process open too few files for {CLIENTS} clients")

    async def part(deployment: Deployment) -> None:
        loop = asyncio.get_running_loop()
        parts = urlsplit(cast(ServedDeployment, deployment).url)
        host, port = str(parts.hostname), int(parts.port or 0)
        connecting = (
            loop.create_connection(partial(MinimalClient, f"n{number}"), host, port)
            for number in range(CLIENTS)
        )
        clients = [client for _, client in await asyncio.gather(*connecting)]
        await all_of(client.opened for client in clients)
        for client in clients:
            client.frame(1, f"from {client.name}".encode())
        await all_of(client.all_received for client in clients)

        order = [line for line in clients[0].lines if b": " in line]
        assert sorted(order) == sorted(f"n{n}: from n{n}".encode() for n in range(CLIENTS))
        joins = [
            [line for line in client.lines if line.endswith(b" joined the chat")]
            for client in clients
        ]
        # Each client was told of those that joined after it: the first of all, the last of none.
        joins.sort(key=len, reverse=True)
        assert [len(lines) for lines in joins] == list(range(CLIENTS - 1, -1, -1))
        for client in clients:
            joined = joins[0][len(joins[0]) - len(client.lines) + CLIENTS :]
            assert client.lines == joined + order
        for client in clients:
            client.frame(8, b"")
        await all_of(client.closed for client in clients)
        assert [client.messages for client in clients] == [CLIENTS] * CLIENTS

    own_server.play(part)
