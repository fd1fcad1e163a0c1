"""A crowd: a thousand come, each says one thing, all go, and nobody misses anything."""

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
from houses import PATIENCE, House, ServedHouse

CROWD = 1000


def room_for(files: int) -> bool:
    """Tell whether this process may open so many files; Windows has no such limit."""
    if sys.platform == "win32":
        return True
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files <= hard or hard == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
        return True
    return soft >= files


class Ear(asyncio.Protocol):
    """A client that keeps what it hears: no library could keep a thousand of in step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[bytes] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.heard: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.messages = 0
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /?name={self.name}&room=crowd HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def frame(self, opcode: int, payload: bytes) -> None:
        """Send a short frame, masked by zeros."""
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
        place = 0
        while len(self._data) >= place + 2:
            opcode, size, start = self._data[place] & 15, self._data[place + 1], place + 2
            if size > 125:
                width = 2 if size == 126 else 8
                size = int.from_bytes(self._data[start : start + width], "big")
                start += width
            if len(self._data) < start + size:
                break
            place = start + size
            payload = self._data[start:place]
            if opcode == 9:
                self.frame(10, payload)
            elif opcode == 1:
                lines = payload.split(b"\n")
                self.lines += lines
                self.messages += sum(b": " in line for line in lines)
        self._data = self._data[place:]
        if self.messages >= CROWD and not self.heard.done():
            self.heard.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def all_of(futures: Iterable[asyncio.Future[None]]) -> None:
    """Wait for all of them."""
    await asyncio.wait_for(asyncio.gather(*futures), 6 * PATIENCE)


def test_a_thousand(dialled: Player) -> None:
    """Of a thousand clients each gets every message exactly once, all in one order."""
    if not room_for(2 * CROWD + 100):
        pytest.skip(f"this system lets a process open too few files for {CROWD} clients")

    async def part(house: House) -> None:
        loop = asyncio.get_running_loop()
        parts = urlsplit(cast(ServedHouse, house).url)
        host, port = str(parts.hostname), int(parts.port or 0)
        dialling = (
            loop.create_connection(partial(Ear, f"n{number}"), host, port)
            for number in range(CROWD)
        )
        crowd = [ear for _, ear in await asyncio.gather(*dialling)]
        await all_of(ear.opened for ear in crowd)
        for ear in crowd:
            ear.frame(1, f"from {ear.name}".encode())
        await all_of(ear.heard for ear in crowd)

        order = [line for line in crowd[0].lines if b": " in line]
        assert sorted(order) == sorted(f"n{n}: from n{n}".encode() for n in range(CROWD))
        came = [[line for line in ear.lines if line.endswith(b" joined the chat")] for ear in crowd]
        # Each heard of those who came after it: the first of all others, the last of none.
        came.sort(key=len, reverse=True)
        assert [len(lines) for lines in came] == list(range(CROWD - 1, -1, -1))
        for ear in crowd:
            joined = came[0][len(came[0]) - len(ear.lines) + CROWD :]
            assert ear.lines == joined + order
        for ear in crowd:
            ear.frame(8, b"")
        await all_of(ear.closed for ear in crowd)
        assert [ear.messages for ear in crowd] == [CROWD] * CROWD

    dialled.play(part)
