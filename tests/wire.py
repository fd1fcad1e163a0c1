"""The wire: a client that is bytes, for what no library would send."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import ClassVar
from urllib.parse import urlsplit

from houses import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Wire:
    """A client that is bytes."""

    dialled: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, url: str) -> Wire:
        """Open a connection, and say nothing."""
        parts = urlsplit(url)
        wire = cls(*await asyncio.open_connection(parts.hostname, parts.port))
        cls.dialled.append(wire)
        return wire

    @classmethod
    async def open(cls, url: str, target: str, *more: str) -> Wire:
        """Open a WebSocket."""
        wire = await cls.dial(url)
        key = base64.b64encode(b"0123456789abcdef").decode()
        wire.send(
            "\r\n".join(
                [
                    f"GET {target} HTTP/1.1",
                    "Host: " + urlsplit(url).netloc,
                    "Upgrade: websocket",
                    "Connection: Upgrade",
                    "Sec-WebSocket-Version: 13",
                    f"Sec-WebSocket-Key: {key}",
                    *more,
                    "",
                    "",
                ]
            ).encode()
        )
        head = await wire.head()
        assert head.startswith("HTTP/1.1 101 "), head
        return wire

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    def frame(self, opcode: int, data: bytes, *, fin: bool = True) -> None:
        """Send a frame, masked by zeros."""
        size = len(data)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 2**16:
            length = struct.pack("!BH", 0x80 | 126, size)
        else:
            length = struct.pack("!BQ", 0x80 | 127, size)
        self.send(bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + data)

    async def got(self) -> tuple[int, bytes]:
        """Return the next frame: its opcode and its payload."""
        first, length = await asyncio.wait_for(self.reader.readexactly(2), PATIENCE)
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(length)

    async def head(self) -> str:
        """Return the head of an HTTP response."""
        until = self.reader.readuntil(b"\r\n\r\n")
        return (await asyncio.wait_for(until, PATIENCE)).decode()

    async def ended(self) -> bytes:
        """Return what comes until the connection ends."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    @classmethod
    async def cut_all(cls) -> None:
        """Let none of them outlive a test."""
        # Off the list first: one of a test that failed in the middle may have no loop any more.
        wires = tuple(cls.dialled)
        cls.dialled.clear()
        for wire in wires:
            wire.cut()
        await asyncio.sleep(0)  # for the transports to let go
