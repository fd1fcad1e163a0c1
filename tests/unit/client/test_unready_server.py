"""A client and a server that is there, but not ready or not a broadcast server."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest
from client_harness import RecordingSink, error_of, new_client, play, responding, websocket_server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response
from websockets.utils import accept_key

from broadcast_server.client.client import ClientError, ClientTimeouts
from broadcast_server.client.handshake_errors import INSTRUCTIONS_BEGIN
from broadcast_server.client.opener import MAX_FRAME_BYTES
from broadcast_server.http.site import INSTRUCTIONS
from broadcast_server.protocol.codec import encode_json
from broadcast_server.protocol.messages import SUBPROTOCOL, Pong, Welcome

WELCOME = Welcome(
    room="lobby",
    name="anonymous",
    epoch="ep",
    seq=0,
    recovered=False,
    missed=None,
    count=1,
    members=("anonymous",),
)


async def welcome(connection: ServerConnection) -> None:
    """Welcome a client, and answer the ping that ends its replay."""
    await connection.send(encode_json(WELCOME))
    ping = json.loads(await connection.recv())
    await connection.send(encode_json(Pong(ping["id"])))


@dataclass(frozen=True)
class RecordedDelays(ClientTimeouts):
    """Timeouts that record for which attempts a delay was asked, and delay none."""

    attempts: list[int] = field(default_factory=list)

    def delay(self, attempt: int) -> float:
        self.attempts.append(attempt)
        return 0.0


@pytest.mark.parametrize(
    ("status", "reason"),
    [(503, "not now"), (502, "not now"), (429, "not now"), (408, "not now"), (504, "not now")],
)
def test_a_server_that_is_not_ready_at_first(status: int, reason: str) -> None:
    """A client tries again after a passing HTTP status, also if it was not connected before.

    `send` does so as well: they have one table.
    """
    count = 0

    def reject(connection: ServerConnection, _: object) -> Response | None:
        nonlocal count
        count += 1
        return connection.respond(HTTPStatus(status), f"{reason}\n") if count < 3 else None

    async def scenario() -> None:
        async def handler(connection: ServerConnection) -> None:
            await connection.close(4503, "enough")

        async with websocket_server(handler, process_request=reject) as url:
            sink = RecordingSink()
            with pytest.raises(ClientError, match="enough"):
                await new_client(url).run(sink)
            assert [note.partition(", try")[0] for note in sink.notes] == [reason] * 2

    play(scenario)


def test_the_client_waits_as_long_as_the_server_asks() -> None:
    """A Retry-After at the handshake is the least delay."""
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n"

    async def scenario() -> None:
        async with responding(head) as url:
            client, sink = new_client(url), RecordingSink()
            running = asyncio.ensure_future(client.run(sink))
            await sink.until(lambda: sink.notes)
            assert sink.notes == ["HTTP status 503, trying again in 77.0 s"]
            client.leave()
            await running

    play(scenario)


@pytest.mark.parametrize("welcomed", [False, True])
def test_a_server_that_goes_silent_before_the_client_is_in_the_room(welcomed: bool) -> None:
    """A server that never sends its welcome, or the end of the replay, is noticed in time."""
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        if count == 3:
            await connection.close(4503, "enough")
        elif welcomed:
            await connection.send(encode_json(WELCOME))
        await connection.wait_closed()

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            sink, timeouts = RecordingSink(), RecordedDelays(welcome=0.02, close=0.5)
            with pytest.raises(ClientError, match="enough"):
                await new_client(url, timeouts).run(sink)
            what = "part of the replay" if welcomed else "welcome"
            text = f"the server sent no {what} within 0.02 s, trying again in 0.0 s"
            assert sink.notes == [text] * 2
            assert timeouts.attempts == [0, 1]

    play(scenario)


@pytest.mark.parametrize(("first_delay", "attempts"), [(3600, [0, 1, 2, 3]), (0, [0] * 4)])
def test_a_server_that_breaks_off_after_each_welcome(
    first_delay: float, attempts: list[int]
) -> None:
    """The delays grow, unless a connection has lasted for as long as the next delay may be."""
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        if count > len(attempts):
            await connection.close(4503, "enough")
            return
        await welcome(connection)
        await connection.close(1001)

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            client = new_client(url, RecordedDelays(first_delay=first_delay, max_delay=3600))
            with pytest.raises(ClientError, match="enough"):
                await client.run(RecordingSink())
            assert client.has_been_live
            assert isinstance(client._timeouts, RecordedDelays)
            assert client._timeouts.attempts == attempts

    play(scenario)


# -- servers that are none --


@pytest.mark.parametrize(("count", "joins"), [(1, True), (5, True), (6, False)])
def test_a_redirect_on_the_same_server_is_followed(count: int, joins: bool) -> None:
    """A proxy may add a slash to the path. Without an end, it is an error."""
    paths: list[str] = []

    def redirect(connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        paths.append(path)
        if len(path) > count + 4:
            return None
        response = connection.respond(HTTPStatus.PERMANENT_REDIRECT, "")
        response.headers["Location"] = f"{path}x"
        return response

    async def scenario() -> None:
        async def handler(connection: ServerConnection) -> None:
            assert connection.request is not None
            assert "name=" not in connection.request.path
            await connection.close(4503, "enough")

        async with websocket_server(handler, process_request=redirect) as url:
            error = await error_of(f"{url}chat")
            text = "the server redirects from one path to the next without an end"
            assert error == "enough" if joins else text in error
            assert paths == ["/chat" + "x" * number for number in range(min(count, 5) + 1)]

    play(scenario)


def test_the_words_of_a_server_without_an_upgrade_are_those_that_the_client_knows() -> None:
    """The client recognises a broadcast server behind a proxy by its instructions."""
    assert INSTRUCTIONS.encode().startswith(INSTRUCTIONS_BEGIN)


def test_a_server_with_another_subprotocol() -> None:
    """The error names a subprotocol that the client did not offer."""
    response = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    )

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r")[0]
        writer.write(response % accept_key(key).encode())
        await reader.read()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            reason = "no broadcast server is there: unsupported subprotocol: mqtt"
            assert await error_of(url) == f"Could not connect to server at {url} ({reason})"

    play(scenario)


INVALID_FRAMES = [
    (b"\x81\x02\xff\xfe", "the server sent text that is not UTF-8: invalid start byte at "),
    (
        b"\x81\x7f" + (MAX_FRAME_BYTES + 1).to_bytes(8, "big"),
        "the server sent too much in one message: frame with 4194305 bytes exceeds limit of",
    ),
    (b"\xc1\x01a", "the server sent an invalid frame: reserved bits must be 0"),
]
"""What no broadcast server sends, and what the client says of it."""

NAMES_OF_FRAMES = ["not UTF-8", "too big", "reserved bits"]


@pytest.mark.parametrize(("frame", "reason"), INVALID_FRAMES, ids=NAMES_OF_FRAMES)
def test_what_a_client_finds_out_is_named(frame: bytes, reason: str) -> None:
    """A client that closes a connection because of what it received says what that was.

    Before it was in the room, it gives up; after that, it tries again.
    """
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        if count == 1:
            connection.transport.write(frame)
        elif count == 2:
            await welcome(connection)
            connection.transport.write(frame)
        else:
            await connection.close(4503, "enough")
        await connection.wait_closed()

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            assert (await error_of(url)).startswith(f"Could not join at {url} ({reason}")
            sink = RecordingSink()
            with pytest.raises(ClientError, match="enough"):
                await new_client(url).run(sink)
            (note,) = sink.notes
            assert note.startswith(reason)

    play(scenario)


@pytest.mark.parametrize(("frame", "reason"), INVALID_FRAMES, ids=NAMES_OF_FRAMES)
def test_what_a_client_finds_out_ends_a_connection_that_is_left_open(
    frame: bytes, reason: str
) -> None:
    """The same, if the server takes no notice of the closing handshake."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r")[0]
        response = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        )
        writer.write(response.encode() + frame)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            assert (await error_of(url)).startswith(f"Could not join at {url} ({reason}")

    play(scenario)
