"""The server's sockets: what a transcript cannot say, because it is below the lines.

What was a fault in well-known servers when they moved to a Sans-I/O protocol
(uvicorn #2883, #3041, #3048, #3050, #3053) is a case here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import struct
from collections.abc import Awaitable, Callable
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from houses import PATIENCE, ServedHouse, SocketVisitor, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from broadcast_server.connection import Door, Socket, Times
from broadcast_server.exchange import Exchange
from broadcast_server.server import Server, Settings

Play = Callable[[Server, ServedHouse], Awaitable[None]]


def play(part: Play, settings: Settings | None = None) -> None:
    """Play *part* against a server in the same loop."""

    async def run() -> None:
        async with serving(settings or Settings(port=0)) as server:
            house = ServedHouse(server.url)
            try:
                await part(server, house)
            finally:
                await house.close()
                for wire in Wire.dialled:
                    wire.cut()
                Wire.dialled.clear()
                await asyncio.sleep(0)  # for the transports to let go

    asyncio.run(run())


class Wire:
    """A client that is bytes."""

    dialled: ClassVar[list[Wire]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, server: Server, *, buffer: int = 2**16) -> Wire:
        """Open a connection, and say nothing."""
        parts = urlsplit(server.url)
        wire = cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=buffer))
        cls.dialled.append(wire)
        return wire

    @classmethod
    async def open(cls, server: Server, target: str, *more: str) -> Wire:
        """Open a WebSocket."""
        wire = await cls.dial(server)
        key = base64.b64encode(b"0123456789abcdef").decode()
        wire.send(
            "\r\n".join(
                [
                    f"GET {target} HTTP/1.1",
                    "Host: " + urlsplit(server.url).netloc,
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


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
QUICK = Settings(port=0, times=Times(handshake=0.1, ping=0.1, close=0.1))


async def nothing_more(visitor: SocketVisitor, count: int) -> None:
    """Find by asking that *visitor* got nothing, and that *count* are here."""
    await visitor.send("/who")
    assert (await visitor.line()).startswith(f"* {count} here: ")


# -- before there is a socket ---------------------------------------------------


def test_half_a_handshake_is_dropped() -> None:
    """Who sends half a request, or none, and waits, is cut; the others notice nothing."""

    async def part(server: Server, house: ServedHouse) -> None:
        for half in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"):
            wire = await Wire.dial(server)
            wire.send(half)
            assert await wire.ended() == b""
        assert not server._open

    play(part, Settings(port=0, times=Times(handshake=0.1)))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /?name=\xc3\xb6 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /prefix/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /broadcast-server.pyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_requests_that_are_no_handshake(request_bytes: bytes, status: int) -> None:
    """What is not a WebSocket handshake gets an HTTP status, and is closed where it has to be."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.dial(server)
        wire.send(request_bytes)
        head = await wire.head()
        assert head.startswith(f"HTTP/1.1 {status} "), head
        await wire.ended()
        await nothing_more(alice, 1)

    play(part)


def test_requests_one_after_another() -> None:
    """A connection serves one request after another, also when they come together."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.dial(server)
        ask = b"GET /broadcast-server.pyz HTTP/1.1\r\nHost: x\r\n\r\n"
        for data, count in ((ask, 1), (ask * 3, 3)):
            wire.send(data)
            for _ in range(count):
                head = await wire.head()
                assert head.startswith("HTTP/1.1 404 Not Found")
                length = int(head.lower().split("content-length: ")[1].split()[0])
                assert b"build_zipapp.py" in await wire.reader.readexactly(length)

    play(part)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://HOST", True),
        ("https://friend.example", True),
        ("http://friend.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("http://[", False),
    ],
)
def test_origin(origin: str | None, allowed: bool) -> None:
    """A page of this very host or of a listed origin may come in, a foreign one gets 403."""

    async def part(server: Server, house: ServedHouse) -> None:
        given = origin and Origin(origin.replace("HOST", urlsplit(server.url).netloc))
        try:
            async with connect(server.url, origin=given, proxy=None):
                assert allowed
        except InvalidStatus as error:
            assert not allowed and error.response.status_code == 403

    play(part, Settings(port=0, origins=frozenset({"https://friend.example"})))


def test_the_socket_is_at_slash() -> None:
    """The socket is at / and under any prefix that ends with it, not elsewhere."""

    async def part(server: Server, house: ServedHouse) -> None:
        await house.open("/some/prefix/?name=alice", as_json=False)
        with pytest.raises(InvalidStatus, match="404"):
            await house.open("/healthz?name=alice", as_json=False)

    play(part)


def test_an_unknown_subprotocol_is_text() -> None:
    """A client that offers other subprotocols than ours speaks text."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server, "/?name=a", "Sec-WebSocket-Protocol: chat, superchat")
        wire.frame(TEXT, b"hi")
        assert await wire.got() == (TEXT, b"a: hi")

    play(part)


# -- frames ---------------------------------------------------------------------


def test_a_message_in_the_packet_of_the_handshake() -> None:
    """What comes in one packet with the handshake is not lost."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.dial(server)
        wire.send(
            b"GET /?name=bob HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00"
        )
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]
        await wire.ended()

    play(part)


def test_a_byte_at_a_time() -> None:
    """A handshake and frames that come byte by byte are understood."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.dial(server)
        data = (
            b"GET /?name=bob HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            b"\x81\x82\x00\x00\x00\x00hi"
        )
        for byte in data:
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert "101" in await wire.head()
        assert await wire.got() == (TEXT, b"bob: hi")

    play(part)


def test_fragments_make_one_message() -> None:
    """A fragmented message is put together, with pings answered in the middle of it."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server, "/?name=bob")
        wire.frame(TEXT, "gr\u00fc".encode()[:3], fin=False)
        wire.frame(PING, b"are you there")
        assert await wire.got() == (PONG, b"are you there")
        wire.frame(0, "\u00fc".encode()[1:], fin=False)
        wire.frame(0, b"\xc3\x9fe")
        assert await wire.got() == (TEXT, "bob: gr\u00fc\u00dfe".encode())
        wire.frame(TEXT, b"next")
        assert await wire.got() == (TEXT, b"bob: next")

    play(part)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\x81\x02hi"], 1002),  # not masked
        ([b"\x83\x80\x00\x00\x00\x00"], 1002),  # unknown opcode
        ([b"\x80\x80\x00\x00\x00\x00"], 1002),  # a continuation of nothing
        ([b"\x09\x80\x00\x00\x00\x00"], 1002),  # a fragmented ping
        ([b"\xc1\x80\x00\x00\x00\x00"], 1002),  # a reserved bit
        ([b"\x01\x80\x00\x00\x00\x00", b"\x81\x80\x00\x00\x00\x00"], 1002),  # two begun
        ([b"\x81\xff" + struct.pack("!Q", 2**20 + 1) + bytes(4)], 1009),
        ([b"\x01\xff" + struct.pack("!Q", 2**20) + bytes(4 + 2**20), b"\x80\x81" + bytes(5)], 1009),
        ([b"\x88\x81\x00\x00\x00\x00x"], 1002),  # a close code of one byte
    ],
)
def test_broken_framing(frames: list[bytes], code: int) -> None:
    """What the WebSocket library refuses ends with its own code; the others see one leave."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.open(server, "/?name=bob")
        assert await alice.line() == "bob joined the chat"
        for frame in frames:
            wire.send(frame)
        opcode, payload = await wire.got()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert await alice.line() == "bob left the chat"
        assert await wire.ended() == b""

    play(part)


def test_a_megabyte_is_not_too_much_for_a_frame() -> None:
    """A frame of just 1 MiB holds its many messages, and a long message in it is an error."""

    async def part(server: Server, house: ServedHouse) -> None:
        bob = await house.open("/?name=bob", as_json=False)
        await bob.send("x" * 2**20)
        assert await bob.line() == f"* message is {2**20} bytes, limit is 4096"
        await bob.send("\n".join(f"{number:07}" for number in range(2**17)))
        for number in range(2**17):
            assert await bob.line() == f"bob: {number:07}"

    play(part)


def test_a_close_is_answered() -> None:
    """A client's close is echoed with its code, and the connection ended by the server."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server, "/?name=bob")
        wire.frame(TEXT, b"last words")
        wire.frame(CLOSE, b"\x03\xe8bye")
        frames = [await wire.got()]
        if frames[0][0] == TEXT:
            frames = [await wire.got()]
        assert frames == [(CLOSE, b"\x03\xe8bye")]
        assert await wire.ended() == b""

    play(part)


def test_last_words_are_heard() -> None:
    """What was said before a close, even in its packet, reaches everyone else."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.open(server, "/?name=bob")
        wire.send(b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00")
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]

    play(part)


# -- time -----------------------------------------------------------------------


def test_a_dead_peer_is_found() -> None:
    """Who answers no ping is closed, and the others see it leave."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        dead = await Wire.open(server, "/?name=dead")
        assert await alice.line() == "dead joined the chat"
        assert (await dead.got())[0] == PING
        assert await alice.line() == "dead left the chat"
        opcode, payload = await dead.got()
        assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3")
        assert await dead.ended() == b""
        dead.cut()

    play(part, QUICK)


def test_a_peer_that_answers_stays() -> None:
    """Who answers pings is pinged again and again, and stays."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server, "/?name=bob")
        for _ in range(3):
            opcode, payload = await wire.got()
            assert opcode == PING
            wire.frame(PONG, payload)
        wire.frame(TEXT, b"still here")
        while (got := await wire.got())[0] == PING:
            wire.frame(PONG, got[1])
        assert got == (TEXT, b"bob: still here")

    play(part, QUICK)


def test_a_closing_handshake_has_a_limit() -> None:
    """Who does not answer our close is cut."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server, "/?name=a:b")
        assert await wire.got() == (TEXT, b"* name contains a colon")
        opcode, payload = await wire.got()
        assert (opcode, payload[:2]) == (CLOSE, (4500).to_bytes(2, "big"))
        assert await wire.ended() == b""
        for _ in range(100):
            if not server._open:
                break
            await asyncio.sleep(0.01)
        assert not server._open

    play(part, QUICK)


def test_heads() -> None:
    """JSON clients get the head again and again, text clients nothing."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        bob = await house.open("/?name=bob", as_json=True)
        assert await alice.line() == "bob joined the chat"
        await alice.send("hi")
        assert await alice.line() == "alice: hi"
        got = [json.loads(await bob.line()) for _ in range(6)]
        heads = [each["seq"] for each in got if each["type"] == "head"]
        assert heads[-1] == 1 and len(heads) >= 3
        await nothing_more(alice, 2)

    play(part, Settings(port=0, head=0.02))


# -- slow readers ---------------------------------------------------------------


async def flood(house: ServedHouse, count: int, size: int) -> SocketVisitor:
    """Say a lot, and wait until it has come back."""
    loud = await house.open("/?name=loud", as_json=False)
    text = "x" * size
    for start in range(0, count, 100):
        await loud.send("\n".join(f"{start + each} {text}" for each in range(100)))
        for each in range(100):
            assert (await loud.line()).startswith(f"loud: {start + each} ")
    return loud


def test_a_slow_reader_gets_everything() -> None:
    """Who does not read costs next to nothing, and gets all of it in order when it reads again."""

    async def part(server: Server, house: ServedHouse) -> None:
        slow = await Wire.open(server, "/?name=slow")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport
        loud = await flood(house, 5000, 3000)
        (socket,) = [each for each in server._seats if server._seats[each][1].name == "slow"]
        assert socket.paused
        buffered = socket._transport.get_write_buffer_size()
        assert buffered < 2**20, "what it has not read waits in the log, not in its buffer"
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        lines: list[str] = []
        while len(lines) < 5001:
            opcode, payload = await slow.got()
            assert opcode == TEXT
            lines += payload.decode().split("\n")
        assert lines[0] == "loud joined the chat"
        assert [line.split()[1] for line in lines[1:]] == [str(each) for each in range(5000)]
        await loud.send("and on")
        assert await slow.got() == (TEXT, b"loud: and on")
        slow.cut()

    play(part)


def test_a_reader_that_the_log_leaves_behind() -> None:
    """Who reads so slowly that the log no longer reaches back is closed with 4008."""

    async def part(server: Server, house: ServedHouse) -> None:
        slow = await Wire.open(server, "/?name=slow", "Sec-WebSocket-Protocol: broadcast.v1.json")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loud = await flood(house, 5000, 3000)
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while (got := await slow.got())[0] == TEXT:
            last = got
        assert last[1].decode().split("\n")[-1] == (
            '{"type":"error","code":"too_slow","text":"you read too slowly"}'
        )
        assert (got[0], got[1][:2]) == (CLOSE, (4008).to_bytes(2, "big"))
        slow.cut()
        assert await loud.line() == "slow left the chat"

    play(part, Settings(port=0, log_messages=100))


# -- the end --------------------------------------------------------------------


def test_stopping_tells_everyone() -> None:
    """When the server stops everyone gets what was said, the reason, and 4001."""

    async def part(server: Server, house: ServedHouse) -> None:
        visitors = [await house.open(f"/?name=v{each}", as_json=each > 4) for each in range(10)]
        idle = await Wire.dial(server)
        await visitors[0].send("last words")
        while "last words" not in await visitors[0].line():
            pass
        await server.stop()
        for visitor in visitors:
            lines = []
            with pytest.raises(EOFError, match="4001"):
                while True:
                    lines.append(await visitor.line())
            assert "the server is stopping" in lines[-1]
            assert visitor is visitors[0] or any("last words" in line for line in lines)
        assert await idle.ended() == b""

    play(part)


def test_stopping_does_not_wait_for_the_dead() -> None:
    """A client that does not answer the goodbye holds a stop up for the grace, no longer."""

    async def part(server: Server, house: ServedHouse) -> None:
        dead = await Wire.open(server, "/?name=dead")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await server.stop()
        assert 0.1 < loop.time() - began < 5
        assert (await dead.got())[0] == TEXT
        dead.cut()

    play(part, Settings(port=0, grace=0.2))


def test_nothing_of_a_connection_stays() -> None:
    """However a connection is lost, no timer or table keeps it in memory."""

    async def lose(server: Server, house: ServedHouse) -> None:
        visitor = await house.open("/?name=closes", as_json=False)
        await visitor.close()
        for ending in (Wire.cut, lambda wire: wire.writer.close()):
            ending(await Wire.open(server, "/?name=cut"))
            ending(await Wire.dial(server))
            half = await Wire.dial(server)
            half.send(b"GET / HTTP/1.1\r\n")
            ending(half)
            asking = await Wire.dial(server)
            asking.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asking.head()
            ending(asking)
        for frame in (b"\x82\x80\x00\x00\x00\x00", b"\x81\x82\x00\x00\x00\x00\xc3\x28", b"\x83\x00"):
            wire = await Wire.open(server, "/?name=broken")
            wire.send(frame)
            wire.frame(CLOSE, b"")
            await wire.ended()
            wire.writer.close()
        refused = await Wire.open(server, "/?name=a:b")
        refused.frame(CLOSE, b"")
        await refused.ended()
        refused.writer.close()
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            await house.open("/nowhere", as_json=False)

    async def part(server: Server, house: ServedHouse) -> None:
        await lose(server, house)
        kinds = (Door, Socket, Exchange)
        for _ in range(200):
            gc.collect()
            left = sum(isinstance(each, kinds) for each in gc.get_objects())
            if not left:
                break
            await asyncio.sleep(0.01)
        assert left == 0
        assert not server._open and not server._seats and not server._rooms

    play(part)


def test_empty_rooms_are_bounded() -> None:
    """Of the rooms that nobody is in, those empty for longest are forgotten, those without a word at once."""

    async def part(server: Server, house: ServedHouse) -> None:
        visitor = await house.open("/?room=silent", as_json=False)
        await visitor.close()
        for number in range(258):
            visitor = await house.open(f"/?room=r{number}", as_json=False)
            await visitor.send("hi")
            await visitor.line()
            await visitor.close()
        watcher = await house.open("/?room=r0", as_json=False)
        await nothing_more(watcher, 1)
        assert len(server._idle) == 256 and "r0" not in server._idle and "r1" not in server._idle
        assert set(server._rooms) == {"r0"}

    play(part)
