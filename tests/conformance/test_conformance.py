"""Conformance below the level of transcripts: bytes, frames, HTTP and limits of each deployment.

The regressions that well-known servers had when they moved to a Sans-I/O protocol
(uvicorn #2883, #3041, #3048, #3050, #3053) are cases here or in test_server.
"""

from __future__ import annotations

import asyncio
import json
import struct
from http import HTTPStatus
from urllib.request import urlopen

import pytest
from conftest import DJANGO_KINDS, Player
from deployments import ANSWER_TIMEOUT_S, ServedDeployment
from metrics_samples import samples
from websockets.exceptions import InvalidStatus
from wire import CLOSE, PING, PONG, TEXT, Wire

from broadcast_server.console.time_limit import run_within
from broadcast_server.http.prometheus import CONTENT_TYPE
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.protocol.messages import limit_text

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = HEAD + (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
)
KEY = b"MDEyMzQ1Njc4OWFiY2RlZg=="


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /?name=\xc3\xb6 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n", 400),
        (HEAD + b"Upgrade: websocket\r\nContent-Length: 3\r\n\r\nabc", 400),
        (HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (UPGRADE + b"\xff\r\n\r\n", 400),
        (UPGRADE + KEY + b"\r\nSec-WebSocket-Protocol: \xe9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: 1\r\n" * 4_000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Host: localhost\r\n\r\n", 400),
        (UPGRADE.replace(b"Host: localhost\r\n", b"") + KEY + b"\r\n\r\n", 400),
        (UPGRADE + KEY + b"\r\nHost: localhost\r\n\r\n", 400),
        (UPGRADE.replace(b"localhost", b"evil.example") + KEY + b"\r\n\r\n", 421),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"GET /prefix/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
    ],
)
def test_requests_other_than_handshakes(
    own_server: Player, request_bytes: bytes, status: int
) -> None:
    """A request that is no handshake gets an HTTP status, and the connection is closed."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        wire = await Wire.connect(deployment.url)
        wire.send(request_bytes)
        head = await wire.read_head()
        assert head.startswith(f"HTTP/1.1 {status} "), head
        (_, _, reason), *_ = (line.split(" ", 2) for line in head.splitlines())
        assert reason.strip() in {"Bad request", *(each.phrase for each in HTTPStatus)}, head
        assert reason.strip(), head
        await wire.read_to_end()
        await alice.assert_nothing_new(1)

    own_server.play_served(part)


def test_a_response_ends_its_connection(own_server: Player) -> None:
    """A connection serves one request: a proxy that reused it might request an upgrade on it."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        head = await wire.read_head()
        assert head.startswith("HTTP/1.1 404 Not Found")
        assert "connection: close" in head.lower()
        assert await wire.read_to_end() == b"nothing is at /nowhere\n"

    own_server.play_served(part)


def test_the_websocket_path(own_server: Player) -> None:
    """The WebSocket is at / and at any path that ends with a slash, and nowhere else."""

    async def part(deployment: ServedDeployment) -> None:
        await deployment.open("/some/prefix/?name=alice", as_json=False)
        with pytest.raises(InvalidStatus, match="404"):
            await deployment.open("/healthz?name=alice", as_json=False)

    own_server.play_served(part)


def test_an_unknown_subprotocol_is_text(any_server: Player) -> None:
    """A client that offers only unknown subprotocols speaks plain text."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.open(
            deployment.url, "/?name=a", "Sec-WebSocket-Protocol: chat, superchat"
        )
        wire.send_frame(TEXT, b"hi")
        assert await wire.read_frame() == (TEXT, b"a: hi")

    any_server.play_served(part)


# -- frames ---------------------------------------------------------------------


def test_a_message_in_the_packet_of_the_handshake(own_server: Player) -> None:
    """Frames in the same packet as the handshake are not lost."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        wire = await Wire.connect(deployment.url)
        wire.send(
            b"GET /?name=bob HTTP/1.1\r\nHost: localhost\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00"
        )
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]
        await wire.read_to_end()

    own_server.play_served(part)


def test_a_byte_at_a_time(own_server: Player) -> None:
    """A handshake and frames that arrive byte by byte are understood."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        data = (
            b"GET /?name=bob HTTP/1.1\r\nHost: localhost\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            b"\x81\x82\x00\x00\x00\x00hi"
        )
        for byte in data:
            wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert "101" in await wire.read_head()
        assert await wire.read_frame() == (TEXT, b"bob: hi")

    own_server.play_served(part)


def test_fragments_make_one_message(any_server: Player) -> None:
    """The fragments of a message are joined, and pings between them are answered."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.open(deployment.url, "/?name=bob")
        wire.send_frame(TEXT, "gr\u00fc".encode()[:3], fin=False)
        wire.send_frame(PING, b"are you there")
        assert await wire.read_frame() == (PONG, b"are you there")
        wire.send_frame(0, "\u00fc".encode()[1:], fin=False)
        wire.send_frame(0, b"\xc3\x9fe")
        assert await wire.read_frame() == (TEXT, "bob: gr\u00fc\u00dfe".encode())
        wire.send_frame(TEXT, b"next")
        assert await wire.read_frame() == (TEXT, b"bob: next")

    any_server.play_served(part)


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe9bye", b"\x0f\xa0"])
def test_a_close_amid_fragments(own_server: Player, payload: bytes) -> None:
    """A close frame may come between the fragments of a message, and is answered with its code."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=fragments", as_json=False)
        wire = await Wire.open(deployment.url, "/?name=bob&room=fragments")
        assert await alice.line() == "bob joined the chat"
        wire.send_frame(TEXT, b"half", fin=False)
        wire.send_frame(0, b" of it", fin=False)
        wire.send_frame(CLOSE, payload)
        assert await wire.read_frame() == (CLOSE, payload)
        assert await alice.line() == "bob left the chat"
        assert await wire.read_to_end() == b""

    own_server.play_served(part)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\x81\x02hi"], 1002),  # not masked
        ([b"\x83\x80\x00\x00\x00\x00"], 1002),  # unknown opcode
        ([b"\x80\x80\x00\x00\x00\x00"], 1002),  # a continuation without a first frame
        ([b"\x09\x80\x00\x00\x00\x00"], 1002),  # a fragmented ping
        ([b"\xc1\x80\x00\x00\x00\x00"], 1002),  # a reserved bit
        # a second message before the first one ended
        ([b"\x01\x80\x00\x00\x00\x00", b"\x81\x80\x00\x00\x00\x00"], 1002),
        ([b"\x81\xff" + struct.pack("!Q", 2**20 + 1) + bytes(4)], 1009),
        ([b"\x01\xff" + struct.pack("!Q", 2**20) + bytes(4 + 2**20), b"\x80\x81" + bytes(5)], 1009),
        ([b"\x88\x81\x00\x00\x00\x00x"], 1002),  # a close code of one byte
    ],
)
def test_broken_framing(own_server: Player, frames: list[bytes], code: int) -> None:
    """Broken frames close the connection with the library's code; the others see a `left`."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        wire = await Wire.open(deployment.url, "/?name=bob")
        assert await alice.line() == "bob joined the chat"
        for frame in frames:
            wire.send(frame)
        opcode, payload = await wire.read_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert await alice.line() == "bob left the chat"
        assert await wire.read_to_end() == b""

    own_server.play_served(part)


def test_the_largest_frame(own_server: Player) -> None:
    """A frame of exactly 1 MiB is accepted; a single message of that size is an error."""

    async def part(deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob", as_json=False)
        await bob.send("x" * 2**20)
        assert await bob.line() == f"* message is {2**20} bytes, {limit_text(MAX_MESSAGE_BYTES)}"
        await bob.send("\n".join(f"{number:07}" for number in range(2**17)))
        for number in range(2**17):
            assert await bob.line() == f"bob: {number:07}"

    own_server.play_served(part)


def test_a_close_is_answered(own_server: Player) -> None:
    """The server echoes a client's close with its code, and ends the connection."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.open(deployment.url, "/?name=bob")
        wire.send_frame(TEXT, b"last message")
        wire.send_frame(CLOSE, b"\x03\xe8bye")
        frames = [await wire.read_frame()]
        if frames[0][0] == TEXT:
            frames = [await wire.read_frame()]
        assert frames == [(CLOSE, b"\x03\xe8bye")]
        assert await wire.read_to_end() == b""

    own_server.play_served(part)


def test_a_message_before_a_close_is_delivered(any_server: Player) -> None:
    """A message before a close, even in the same packet, reaches everyone else."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        wire = await Wire.open(deployment.url, "/?name=bob")
        wire.send(b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00")
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]

    any_server.play_served(part)


def test_a_tls_client_is_cut_at_once(own_server: Player) -> None:
    """A client that starts a TLS handshake with a server without TLS is cut at once."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00")
        began = asyncio.get_running_loop().time()
        assert await wire.read_to_end() == b""
        assert asyncio.get_running_loop().time() < began + 5

    own_server.play_served(part)


def test_a_too_large_request_is_read_to_its_end(own_server: Player) -> None:
    """A client whose body is over the limit still receives the response."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=body", as_json=False)
        wire = await Wire.connect(deployment.url)
        wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n")
        assert (await wire.read_head()).startswith("HTTP/1.1 413 ")
        # If the server had closed the connection already, the rest would cause a reset.
        for _ in range(4):
            wire.send(b"x" * 2**18)
            await wire.writer.drain()
            await alice.assert_nothing_new(1)
        told = f"message is 1048576 bytes, {limit_text(MAX_MESSAGE_BYTES)}\n"
        assert await wire.read_to_end() == told.encode()

    own_server.play_served(part)


def test_half_a_handshake_is_dropped(installed: Player) -> None:
    """A connection without a complete request is cut after ten seconds; no member notices."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=half", as_json=False)
        loop = asyncio.get_running_loop()
        began = loop.time()
        silent, half = await Wire.connect(deployment.url), await Wire.connect(deployment.url)
        half.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n")
        for wire in (silent, half):
            assert await run_within(wire.reader.read(), 20) == b""
            assert 9.5 < loop.time() - began < 15
        await alice.assert_nothing_new(1)

    installed.play_served(part)


def test_health_and_metrics(any_server: Player) -> None:
    """Each deployment reports its health, and counts clients and messages in the same metrics."""

    def get(url: str, path: str) -> tuple[int, str, str]:
        with urlopen(url.replace("ws:", "http:") + path, timeout=ANSWER_TIMEOUT_S) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()

    async def part(deployment: ServedDeployment) -> None:
        if any_server.kind == "cluster":
            deployment = ServedDeployment(deployment.url)  # each process has its own metrics
        assert (await asyncio.to_thread(get, deployment.url, "healthz"))[0] == 200
        symbol = await asyncio.to_thread(get, deployment.url, "qr.svg?text=http%3A%2F%2Fx%2F")
        assert symbol[:2] == (200, "image/svg+xml") and symbol[2].startswith("<svg")

        async def figures() -> dict[str, float]:
            _, type, text = await asyncio.to_thread(get, deployment.url, "metrics")
            assert type == CONTENT_TYPE
            return samples(text)

        before = await figures()
        for _ in range(200):  # the replica of the previous test's room stops within two polls
            if any_server.kind not in DJANGO_KINDS or before["broadcast_rooms"] == 0:
                break
            await asyncio.sleep(0.05)
            before = await figures()
        alice = await deployment.open("/?name=alice&room=counted", as_json=False)
        bob = await deployment.open("/?name=bob&room=counted", as_json=True)
        assert await alice.line() == "bob joined the chat"
        await alice.send("hé")
        assert await alice.line() == "alice: hé"
        await bob.line(), await bob.line()
        during = await figures()
        await bob.close()
        assert await alice.line() == "bob left the chat"
        await alice.send(b"x", text=False)
        assert await alice.line() == "* binary frames are not understood"
        with pytest.raises(EOFError, match="4502"):
            await alice.line()
        after = await figures()

        def increase(name: str, before: dict[str, float], after: dict[str, float]) -> float:
            return after.get(f"broadcast_{name}", 0) - before.get(f"broadcast_{name}", 0)

        assert increase("clients", before, during) == 2
        assert increase("rooms", before, during) == 1
        assert increase("joins_total", before, during) == 2
        assert increase("messages_total", before, during) == 1
        assert increase("deliveries_total", before, during) == 2
        assert increase("received_bytes_total", before, during) == 3
        text = "bob joined the chat, alice: hé"
        assert increase("sent_bytes_total", before, during) > len(text.encode())
        assert increase("turn_seconds_count", before, during) >= 2
        assert increase("clients", before, after) == 0
        assert increase('closes_total{code="1000"}', before, after) == 1
        assert increase('closes_total{code="4502"}', before, after) == 1
        await deployment.close()

    any_server.play_served(part)


# -- authentication -------------------------------------------------------------


BEARER = "Authorization: Bearer s3cret"
JSON = "Sec-WebSocket-Protocol: broadcast.v1.json"


def test_a_token_by_header_or_subprotocol(own_server: Player, token_file: str) -> None:
    """A client joins with the token in a header; a page sends it as an additional subprotocol."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.open(deployment.url, "/?name=bob", BEARER)
        wire.send_frame(TEXT, b"hi")
        assert await wire.read_frame() == (TEXT, b"bob: hi")
        wire.send_frame(CLOSE, b"")
        await wire.read_to_end()
        page = await Wire.connect(deployment.url)
        page.send(
            b"GET /?name=eve HTTP/1.1\r\nHost: localhost\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: bearer.czNjcmV0, broadcast.v1.json\r\n\r\n"
        )
        head = (await page.read_head()).lower()
        assert "\r\nsec-websocket-protocol: broadcast.v1.json\r\n" in head
        assert "bearer" not in head
        assert b'"type":"welcome"' in (await page.read_frame())[1]

    own_server.play_served(part, ("--token-file", token_file))


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ((), "this server requires a token: ask its operator for one"),
        (
            ("Authorization: Bearer guess",),
            "token is wrong: ask the operator of the server for the right one",
        ),
    ],
)
def test_without_the_token(
    own_server: Player, token_file: str, headers: tuple[str, ...], message: str
) -> None:
    """A missing or wrong token is reported and closed with 4501; no member notices."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await Wire.open(deployment.url, "/?name=alice", BEARER)
        eve = await Wire.open(deployment.url, "/?name=eve", *headers)
        assert await eve.read_frame() == (TEXT, f"* {message}".encode())
        opcode, payload = await eve.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (4501).to_bytes(2, "big"))
        eve = await Wire.open(deployment.url, "/?name=eve", JSON, *headers)
        opcode, payload = await eve.read_frame()
        error = {"type": "error", "code": "token", "text": message}
        assert (opcode, json.loads(payload)) == (TEXT, error)
        alice.send_frame(TEXT, b"/who")
        assert await alice.read_frame() == (TEXT, b"* 1 here: alice")
        for path in (b"/", b"/broadcast-server.pyz"):
            wire = await Wire.connect(deployment.url)
            wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await wire.read_head()).split()[1] in ("200", "404")

    own_server.play_served(part, ("--token-file", token_file))


def test_wrong_tokens_are_throttled(own_server: Player, token_file: str) -> None:
    """After wrong tokens, an address has to wait even with the right one; no message is lost."""
    proxied = "--token-file", token_file, "--trusted-proxy", "127.0.0.1"

    async def part(deployment: ServedDeployment) -> None:
        loop = asyncio.get_running_loop()
        mallory = "X-Forwarded-For: 192.0.2.1"
        for _ in range(3):
            wire = await Wire.open(deployment.url, "/", mallory, "Authorization: Bearer guess")
            await wire.read_frame()
        began = loop.time()
        wire = await Wire.open(deployment.url, "/?name=bob", mallory, BEARER)
        wire.send_frame(TEXT, b"hi")
        assert await wire.read_frame() == (TEXT, b"bob: hi")
        assert 0.45 < loop.time() - began < 5
        began = loop.time()
        wire = await Wire.open(deployment.url, "/?name=eve", "X-Forwarded-For: 192.0.2.254", BEARER)
        wire.send_frame(TEXT, b"hi")
        assert await wire.read_frame() == (TEXT, b"eve: hi")
        assert loop.time() - began < 0.4

    own_server.play_served(part, proxied)


# -- limits ---------------------------------------------------------------------


async def rejected_as_full(deployment: ServedDeployment, target: str, *more: str) -> str:
    """Assert that a client is closed with 4013, and return the error's text."""
    wire = await Wire.open(deployment.url, target, JSON, *more)
    error = json.loads((await wire.read_frame())[1])
    opcode, payload = await wire.read_frame()
    assert (error["code"], opcode, payload[:2]) == ("full", CLOSE, (4013).to_bytes(2, "big"))
    return str(error["text"])


def test_a_full_server(own_server: Player) -> None:
    """A full server closes new clients with 4013, but lets a session replace its own connection."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        rooms = await rejected_as_full(deployment, "/?room=other")
        assert rooms == "server is at its limit of 1 rooms, join an existing room"
        await deployment.open("/?name=bob&session=0123456789abcdef", as_json=False)
        assert await alice.line() == "bob joined the chat"
        clients = await rejected_as_full(deployment, "/?name=eve")
        assert clients == "server is at its limit of 2 clients, try again later"
        again = await deployment.open("/?name=bob&session=0123456789abcdef", as_json=False)
        await again.assert_nothing_new(2)
        await again.close()
        assert await alice.line() == "bob left the chat"
        eve = await deployment.open("/?name=eve", as_json=False)
        assert await alice.line() == "eve joined the chat"
        await eve.assert_nothing_new(2)

    own_server.play_served(part, ("--max-clients", "2", "--max-rooms", "1"))


def test_the_limit_for_one_address(own_server: Player) -> None:
    """Behind a trusted proxy, each client counts by its own address."""
    proxied = "--trusted-proxy", "127.0.0.1", "--max-clients-per-address", "1"

    async def part(deployment: ServedDeployment) -> None:
        await Wire.open(deployment.url, "/?name=alice", "X-Forwarded-For: 192.0.2.1")
        await Wire.open(deployment.url, "/?name=bob", "X-Forwarded-For: 192.0.2.1, 192.0.2.2")
        for name in ("192.0.2.1", "192.0.2.2", "192.0.2.1, 192.0.2.2"):
            text = await rejected_as_full(deployment, "/?name=eve", f"X-Forwarded-For: {name}")
            assert text == "your address is at its limit of 1 clients, try again later"

    own_server.play_served(part, proxied)


def test_the_limit_for_one_address_in_django(django_server: Player) -> None:
    """Behind a trusted proxy, the last address of several headers counts in Django as well."""

    async def part(deployment: ServedDeployment) -> None:
        spoofed = "X-Forwarded-For: 192.0.2.3", "X-Forwarded-For: 192.0.2.1, 192.0.2.2"
        await Wire.open(deployment.url, "/?name=alice", *spoofed)
        text = await rejected_as_full(deployment, "/?name=eve", "X-Forwarded-For: 192.0.2.2")
        assert text == "your address is at its limit of 1 clients, try again later"
        for name in ("192.0.2.1", "192.0.2.3"):
            await Wire.open(deployment.url, "/?name=bob", f"X-Forwarded-For: {name}")

    django_server.play_served(part)


def test_a_flood_delays_only_its_sender(own_server: Player) -> None:
    """During a flood, messages of others are delivered promptly, and none is lost."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        loud = await deployment.open("/?name=loud", as_json=False)
        assert await alice.line() == "loud joined the chat"
        count = 2**17
        await loud.send("\n".join(f"{number:07}" for number in range(count)))
        assert await alice.line() == "loud: 0000000"
        await alice.send("hi")
        lines = [await alice.line() for _ in range(count)]
        at = lines.index("alice: hi")
        assert at < count - 10_000
        del lines[at]
        assert lines == [f"loud: {number:07}" for number in range(1, count)]

    own_server.play_served(part)


def test_the_rate_limit(own_server: Player) -> None:
    """Messages over a client's rate are delayed, and neither they nor its close are lost."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        wire = await Wire.open(deployment.url, "/?name=bob")
        assert await alice.line() == "bob joined the chat"
        began = asyncio.get_running_loop().time()
        for number in range(440):
            wire.send_frame(TEXT, b"%d" % number)
        wire.send_frame(CLOSE, b"")
        lines = [await alice.line() for _ in range(441)]
        assert lines == [*(f"bob: {number}" for number in range(440)), "bob left the chat"]
        # The join and 399 messages at once, and the rest at 20 a second.
        assert asyncio.get_running_loop().time() - began > 40 / 20

    own_server.play_served(part, ("--rate", "20"))
