"""An HTTP client on raw bytes: one request for each connection, and streams read by lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deployments import ANSWER_TIMEOUT_S
from wire import Wire

from broadcast_server.console.time_limit import run_within


@dataclass(frozen=True)
class Response:
    """A response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON object of a response that is 200 and one line of JSON."""
        assert self.status == 200, self
        assert self.headers["content-type"] == "application/json"
        (line,) = self.body.splitlines()
        value: dict[str, Any] = json.loads(line)
        return value

    @property
    def line(self) -> str:
        """The text of a response that is one line of plain text."""
        assert self.headers["content-type"] == "text/plain; charset=utf-8", self
        (line,) = self.body.splitlines()
        return line


def request_head(url: str, method: str, target: str, *lines: str, version: str = "1.1") -> bytes:
    """Return the head of a request; *lines* are further headers."""
    host = "Host: " + urlsplit(url).netloc
    return "\r\n".join([f"{method} {target} HTTP/{version}", host, *lines, "", ""]).encode()


async def read_head(wire: Wire) -> tuple[int, dict[str, str]]:
    """Read the head of a response, and return its status and headers."""
    first, *rest = (await wire.read_head()).removesuffix("\r\n\r\n").split("\r\n")
    pairs = [line.split(": ", 1) for line in rest]
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return int(first.split()[1]), headers


async def read_response(wire: Wire) -> Response:
    """Read a response."""
    status, headers = await read_head(wire)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while chunk := await _read_chunk(wire):
            body += chunk
    elif "content-length" in headers:
        reading = wire.reader.readexactly(int(headers["content-length"]))
        body = await run_within(reading, ANSWER_TIMEOUT_S)
    else:
        body = await wire.read_to_end()
    return Response(status, headers, body.decode())


async def send_request(url: str, method: str, target: str, *lines: str) -> Response:
    """Send a request without a body, and return the response."""
    wire = await Wire.connect(url)
    wire.send(request_head(url, method, target, *lines))
    return await _read_and_close(wire)


async def post(url: str, target: str, body: bytes | str, *lines: str) -> Response:
    """Send a POST, and return the response."""
    data = body.encode() if isinstance(body, str) else body
    wire = await Wire.connect(url)
    wire.send(request_head(url, "POST", target, f"Content-Length: {len(data)}", *lines) + data)
    return await _read_and_close(wire)


async def _read_and_close(wire: Wire) -> Response:
    try:
        return await read_response(wire)
    finally:
        wire.cut()


async def _read_chunk(wire: Wire) -> bytes:
    line = await run_within(wire.reader.readline(), ANSWER_TIMEOUT_S)
    if not line:
        raise ConnectionResetError
    assert line.endswith(b"\r\n"), line
    data = await run_within(wire.reader.readexactly(int(line, 16) + 2), ANSWER_TIMEOUT_S)
    assert data.endswith(b"\r\n")
    return data[:-2]


class Stream:
    """An open response to ``GET /stream``."""

    def __init__(self, wire: Wire, status: int, headers: dict[str, str]) -> None:
        self.wire = wire
        self.status = status
        self.headers = headers
        self._buffer = b""
        self.ended = False

    @classmethod
    async def open(cls, url: str, target: str, *lines: str, version: str = "1.1") -> Stream:
        """Request a stream, and read the head of the response."""
        wire = await Wire.connect(url)
        wire.send(request_head(url, "GET", target, *lines, version=version))
        return cls(wire, *await read_head(wire))

    async def line(self) -> str:
        """Return the next line. Raises EOFError at the end of the response."""
        while b"\n" not in self._buffer:
            if self.headers.get("transfer-encoding") == "chunked":
                data = b"" if self.ended else await _read_chunk(self.wire)
            elif "content-length" in self.headers:  # a rejection
                length = 0 if self.ended else int(self.headers["content-length"])
                data = await run_within(self.wire.reader.readexactly(length), ANSWER_TIMEOUT_S)
                self.ended = True
            else:
                data = await run_within(self.wire.reader.read(2**16), ANSWER_TIMEOUT_S)
            if not data:
                assert not self._buffer
                self.ended = True
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    async def event(self) -> dict[str, Any]:
        """Return the next line as an event. Heartbeats are left out: they come by the clock."""
        event: dict[str, Any] = json.loads(await self.line())
        while event["type"] == "head":
            event = json.loads(await self.line())
        return event

    async def server_sent_event(self) -> dict[str, str]:
        """Return the fields of the next server-sent event."""
        fields = {}
        while line := await self.line():
            name, _, value = line.partition(": ")
            fields[name] = value
        return fields
