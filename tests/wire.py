"""The wire: a client that sends and reads raw bytes, for what no library would send."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import ClassVar
from urllib.parse import urlsplit

from deployments import ANSWER_TIMEOUT_S

from broadcast_server.console.time_limit import run_within

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Wire:
    """A connection of raw bytes."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, url: str) -> Wire:
        """Open a connection, and send nothing."""
        parts = urlsplit(url)
        wire = cls(*await asyncio.open_connection(parts.hostname, parts.port))
        cls.opened.append(wire)
        return wire

    @classmethod
    async def open(cls, url: str, target: str, *more: str) -> Wire:
        """Open a WebSocket. *more* are further header lines."""
        wire = await cls.connect(url)
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
        head = await wire.read_head()
        assert head.startswith("HTTP/1.1 101 "), head
        return wire

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    def send_frame(self, opcode: int, data: bytes, *, fin: bool = True) -> None:
        """Send a frame with a mask of zeros."""
        size = len(data)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 2**16:
            length = struct.pack("!BH", 0x80 | 126, size)
        else:
            length = struct.pack("!BQ", 0x80 | 127, size)
        self.send(bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + data)

    async def read_frame(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        first, length = await run_within(self.reader.readexactly(2), ANSWER_TIMEOUT_S)
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(length)

    async def read_head(self) -> str:
        """Return the head of an HTTP response."""
        reading = self.reader.readuntil(b"\r\n\r\n")
        return (await run_within(reading, ANSWER_TIMEOUT_S)).decode()

    async def read_to_end(self) -> bytes:
        """Return all bytes until the connection ends."""
        try:
            return await run_within(self.reader.read(), ANSWER_TIMEOUT_S)
        except ConnectionResetError:
            return b""

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    @classmethod
    async def cut_all(cls) -> None:
        """Reset all connections, so that none outlives its test."""
        # Clear the list first: the loop of a connection may be closed, if its test failed.
        wires = tuple(cls.opened)
        cls.opened.clear()
        for wire in wires:
            wire.cut()
        await asyncio.sleep(0)  # in which the transports close their sockets
