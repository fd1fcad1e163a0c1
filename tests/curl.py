"""curl: requests over HTTP as bytes, one a connection, and streams that are read line by line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from houses import PATIENCE
from wire import Wire


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its headers by their names in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def said(self) -> dict[str, Any]:
        """What it says, if it is 200 and one line of JSON."""
        assert self.status == 200, self
        assert self.headers["content-type"] == "application/json"
        (line,) = self.body.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def words(self) -> str:
        """Its one line of plain text."""
        assert self.headers["content-type"] == "text/plain; charset=utf-8", self
        (line,) = self.body.splitlines()
        return line


def head(url: str, method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
    """Write the head of a request."""
    host = "Host: " + urlsplit(url).netloc
    return "\r\n".join([f"{method} {target} HTTP/{version}", host, *lines, "", ""]).encode()


async def heard(wire: Wire) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of what comes."""
    first, *rest = (await wire.head()).removesuffix("\r\n\r\n").split("\r\n")
    pairs = [line.split(": ", 1) for line in rest]
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return int(first.split()[1]), headers


async def replied(wire: Wire) -> Reply:
    """Return the answer that comes."""
    status, headers = await heard(wire)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while piece := await _chunk(wire):
            body += piece
    elif "content-length" in headers:
        reading = wire.reader.readexactly(int(headers["content-length"]))
        body = await asyncio.wait_for(reading, PATIENCE)
    else:
        body = await wire.ended()
    return Reply(status, headers, body.decode())


async def ask(url: str, method: str, target: str, *lines: str) -> Reply:
    """Ask for something that needs no body."""
    wire = await Wire.dial(url)
    wire.send(head(url, method, target, *lines))
    return await _once(wire)


async def post(url: str, target: str, body: bytes | str, *lines: str) -> Reply:
    """Say something."""
    data = body.encode() if isinstance(body, str) else body
    wire = await Wire.dial(url)
    wire.send(head(url, "POST", target, f"Content-Length: {len(data)}", *lines) + data)
    return await _once(wire)


async def _once(wire: Wire) -> Reply:
    try:
        return await replied(wire)
    finally:
        wire.cut()


async def _chunk(wire: Wire) -> bytes:
    line = await asyncio.wait_for(wire.reader.readline(), PATIENCE)
    assert line.endswith(b"\r\n"), line
    data = await asyncio.wait_for(wire.reader.readexactly(int(line, 16) + 2), PATIENCE)
    assert data.endswith(b"\r\n")
    return data[:-2]


class Listening:
    """A stream that is read."""

    def __init__(self, wire: Wire, status: int, headers: dict[str, str]) -> None:
        self.wire = wire
        self.status = status
        self.headers = headers
        self._text = b""
        self.over = False

    @classmethod
    async def open(cls, url: str, target: str, *lines: str, version: str = "1.1") -> Listening:
        """Ask for a stream."""
        wire = await Wire.dial(url)
        wire.send(head(url, "GET", target, *lines, version=version))
        return cls(wire, *await heard(wire))

    async def line(self) -> str:
        """Return the next line. Raises EOFError at an end as it should be."""
        while b"\n" not in self._text:
            if self.headers.get("transfer-encoding") == "chunked":
                piece = b"" if self.over else await _chunk(self.wire)
            else:
                piece = await asyncio.wait_for(self.wire.reader.read(2**16), PATIENCE)
            if not piece:
                assert not self._text
                self.over = True
                raise EOFError
            self._text += piece
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    async def event(self) -> dict[str, Any]:
        """Return the next event."""
        found: dict[str, Any] = json.loads(await self.line())
        return found

    async def sent(self) -> dict[str, str]:
        """Return the fields of the next server-sent event."""
        fields = {}
        while line := await self.line():
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields
