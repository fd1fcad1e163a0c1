"""What a transcript cannot say, because it is below the lines: against every served house.

What was a fault in well-known servers when they moved to a Sans-I/O protocol
(uvicorn #2883, #3041, #3048, #3050, #3053) is a case here or in test_server.
"""

from __future__ import annotations

import asyncio
import json
import struct
from urllib.request import urlopen

import pytest
from conftest import HOSTED, Player
from houses import PATIENCE, ServedHouse
from test_metrics import samples
from websockets.exceptions import InvalidStatus
from wire import CLOSE, PING, PONG, TEXT, Wire

from broadcast_server.metrics import CONTENT_TYPE

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
)
KEY = b"MDEyMzQ1Njc4OWFiY2RlZg=="


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /?name=\xc3\xb6 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
        (UPGRADE + b"\xff\r\n\r\n", 400),
        (UPGRADE + KEY + b"\r\nSec-WebSocket-Protocol: \xe9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /prefix/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    ],
)
def test_requests_that_are_no_handshake(dialled: Player, request_bytes: bytes, status: int) -> None:
    """What is not a WebSocket handshake gets an HTTP status, and is closed where it has to be."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.dial(house.url)
        wire.send(request_bytes)
        head = await wire.head()
        assert head.startswith(f"HTTP/1.1 {status} "), head
        await wire.ended()
        await alice.heard_nothing(1)

    dialled.visit(part)


def test_an_answer_ends_its_connection(dialled: Player) -> None:
    """A connection is for one request: a proxy that kept it might ask for an upgrade on it."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.dial(house.url)
        wire.send(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        head = await wire.head()
        assert head.startswith("HTTP/1.1 404 Not Found")
        assert "connection: close" in head.lower()
        assert await wire.ended() == b"nothing is at /nowhere\n"

    dialled.visit(part)


def test_the_socket_is_at_slash(dialled: Player) -> None:
    """The socket is at / and under any prefix that ends with it, not elsewhere."""

    async def part(house: ServedHouse) -> None:
        await house.open("/some/prefix/?name=alice", as_json=False)
        with pytest.raises(InvalidStatus, match="404"):
            await house.open("/healthz?name=alice", as_json=False)

    dialled.visit(part)


def test_an_unknown_subprotocol_is_text(anywhere: Player) -> None:
    """A client that offers other subprotocols than ours speaks text."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.open(house.url, "/?name=a", "Sec-WebSocket-Protocol: chat, superchat")
        wire.frame(TEXT, b"hi")
        assert await wire.got() == (TEXT, b"a: hi")

    anywhere.visit(part)


# -- frames ---------------------------------------------------------------------


def test_a_message_in_the_packet_of_the_handshake(dialled: Player) -> None:
    """What comes in one packet with the handshake is not lost."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.dial(house.url)
        wire.send(
            b"GET /?name=bob HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00"
        )
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]
        await wire.ended()

    dialled.visit(part)


def test_a_byte_at_a_time(dialled: Player) -> None:
    """A handshake and frames that come byte by byte are understood."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.dial(house.url)
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

    dialled.visit(part)


def test_fragments_make_one_message(anywhere: Player) -> None:
    """A fragmented message is put together, with pings answered in the middle of it."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.open(house.url, "/?name=bob")
        wire.frame(TEXT, "gr\u00fc".encode()[:3], fin=False)
        wire.frame(PING, b"are you there")
        assert await wire.got() == (PONG, b"are you there")
        wire.frame(0, "\u00fc".encode()[1:], fin=False)
        wire.frame(0, b"\xc3\x9fe")
        assert await wire.got() == (TEXT, "bob: gr\u00fc\u00dfe".encode())
        wire.frame(TEXT, b"next")
        assert await wire.got() == (TEXT, b"bob: next")

    anywhere.visit(part)


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
def test_broken_framing(dialled: Player, frames: list[bytes], code: int) -> None:
    """What the WebSocket library refuses ends with its own code; the others see one leave."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.open(house.url, "/?name=bob")
        assert await alice.line() == "bob joined the chat"
        for frame in frames:
            wire.send(frame)
        opcode, payload = await wire.got()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, code)
        assert await alice.line() == "bob left the chat"
        assert await wire.ended() == b""

    dialled.visit(part)


def test_a_megabyte_is_not_too_much_for_a_frame(dialled: Player) -> None:
    """A frame of just 1 MiB holds its many messages, and a long message in it is an error."""

    async def part(house: ServedHouse) -> None:
        bob = await house.open("/?name=bob", as_json=False)
        await bob.send("x" * 2**20)
        assert await bob.line() == f"* message is {2**20} bytes, limit is 4096"
        await bob.send("\n".join(f"{number:07}" for number in range(2**17)))
        for number in range(2**17):
            assert await bob.line() == f"bob: {number:07}"

    dialled.visit(part)


def test_a_close_is_answered(dialled: Player) -> None:
    """A client's close is echoed with its code, and the connection ended by the server."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.open(house.url, "/?name=bob")
        wire.frame(TEXT, b"last words")
        wire.frame(CLOSE, b"\x03\xe8bye")
        frames = [await wire.got()]
        if frames[0][0] == TEXT:
            frames = [await wire.got()]
        assert frames == [(CLOSE, b"\x03\xe8bye")]
        assert await wire.ended() == b""

    dialled.visit(part)


def test_last_words_are_heard(anywhere: Player) -> None:
    """What was said before a close, even in its packet, reaches everyone else."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.open(house.url, "/?name=bob")
        wire.send(b"\x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00")
        lines = [await alice.line() for _ in range(3)]
        assert lines == ["bob joined the chat", "bob: hi", "bob left the chat"]

    anywhere.visit(part)


def test_a_wss_client_is_not_left_waiting(dialled: Player) -> None:
    """Who begins to speak TLS to a server without is cut at once."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.dial(house.url)
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00")
        began = asyncio.get_running_loop().time()
        assert await wire.ended() == b""
        assert asyncio.get_running_loop().time() < began + 5

    dialled.visit(part)


def test_a_request_with_a_body_is_heard_out(dialled: Player) -> None:
    """A client that sends a megabyte where less is wanted gets the answer all the same."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice&room=body", as_json=False)
        wire = await Wire.dial(house.url)
        wire.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n")
        assert (await wire.head()).startswith("HTTP/1.1 413 ")
        # Had it been closed by now, the rest would be answered by a reset.
        for _ in range(4):
            wire.send(b"x" * 2**18)
            await wire.writer.drain()
            await alice.heard_nothing(1)
        assert await wire.ended() == b"message is 1048576 bytes, limit is 4096\n"

    dialled.visit(part)


def test_half_a_handshake_is_dropped(installed: Player) -> None:
    """Who sends half a request, or none, and waits is cut after ten seconds; nobody notices."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice&room=half", as_json=False)
        loop = asyncio.get_running_loop()
        began = loop.time()
        silent, half = await Wire.dial(house.url), await Wire.dial(house.url)
        half.send(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
        for wire in (silent, half):
            assert await asyncio.wait_for(wire.reader.read(), 20) == b""
            assert 9.5 < loop.time() - began < 15
        await alice.heard_nothing(1)

    installed.visit(part)


def test_it_is_seen_from_outside(anywhere: Player) -> None:
    """Every house says that it is well, and counts who is here and what was said, alike."""

    def get(url: str, path: str) -> tuple[int, str, str]:
        with urlopen(url.replace("ws:", "http:") + path, timeout=PATIENCE) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()

    async def part(house: ServedHouse) -> None:
        if anywhere.kind == "cluster":
            house = ServedHouse(house.url)  # each process counts for itself
        assert (await asyncio.to_thread(get, house.url, "healthz"))[0] == 200

        async def figures() -> dict[str, float]:
            _, type, text = await asyncio.to_thread(get, house.url, "metrics")
            assert type == CONTENT_TYPE
            return samples(text)

        before = await figures()
        for _ in range(200):  # the room of the test before ends within two polls
            if anywhere.kind not in HOSTED or before["broadcast_rooms"] == 0:
                break
            await asyncio.sleep(0.05)
            before = await figures()
        alice = await house.open("/?name=alice&room=counted", as_json=False)
        bob = await house.open("/?name=bob&room=counted", as_json=True)
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

        def more(name: str, than: dict[str, float], now: dict[str, float]) -> float:
            return now.get(f"broadcast_{name}", 0) - than.get(f"broadcast_{name}", 0)

        assert more("clients", before, during) == 2
        assert more("rooms", before, during) == 1
        assert more("joins_total", before, during) == 2
        assert more("messages_total", before, during) == 1
        assert more("deliveries_total", before, during) == 2
        assert more("received_bytes_total", before, during) == 3
        text = "bob joined the chat, alice: hé"
        assert more("sent_bytes_total", before, during) > len(text.encode())
        assert more("turn_seconds_count", before, during) >= 2
        assert more("clients", before, after) == 0
        assert more('closes_total{code="1000"}', before, after) == 1
        assert more('closes_total{code="4502"}', before, after) == 1
        await house.close()

    anywhere.visit(part)


# -- who may come in ------------------------------------------------------------


BEARER = "Authorization: Bearer s3cret"
JSON = "Sec-WebSocket-Protocol: broadcast.v1.json"


def test_a_token_by_header_or_subprotocol(dialled: Player, token_file: str) -> None:
    """Who has the token comes in, a program by a header, a page by a subprotocol beside ours."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.open(house.url, "/?name=bob", BEARER)
        wire.frame(TEXT, b"hi")
        assert await wire.got() == (TEXT, b"bob: hi")
        wire.frame(CLOSE, b"")
        await wire.ended()
        page = await Wire.dial(house.url)
        page.send(
            b"GET /?name=eve HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: bearer.czNjcmV0, broadcast.v1.json\r\n\r\n"
        )
        head = (await page.head()).lower()
        assert "\r\nsec-websocket-protocol: broadcast.v1.json\r\n" in head
        assert "bearer" not in head
        assert b'"type":"welcome"' in (await page.got())[1]

    dialled.visit(part, ("--token-file", token_file))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "this server wants a token: ask who runs it for one"),
        (
            ("Authorization: Bearer guess",),
            "token is wrong: ask who runs the server for the right one",
        ),
    ],
)
def test_without_the_token(
    dialled: Player, token_file: str, given: tuple[str, ...], words: str
) -> None:
    """Who has no token, or another, is told so and closed with 4501, and nobody hears of it."""

    async def part(house: ServedHouse) -> None:
        alice = await Wire.open(house.url, "/?name=alice", BEARER)
        eve = await Wire.open(house.url, "/?name=eve", *given)
        assert await eve.got() == (TEXT, f"* {words}".encode())
        opcode, payload = await eve.got()
        assert (opcode, payload[:2]) == (CLOSE, (4501).to_bytes(2, "big"))
        eve = await Wire.open(house.url, "/?name=eve", JSON, *given)
        opcode, payload = await eve.got()
        error = {"type": "error", "code": "token", "text": words}
        assert (opcode, json.loads(payload)) == (TEXT, error)
        alice.frame(TEXT, b"/who")
        assert await alice.got() == (TEXT, b"* 1 here: alice")
        for path in (b"/", b"/broadcast-server.pyz"):
            wire = await Wire.dial(house.url)
            wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await wire.head()).split()[1] in ("200", "404")

    dialled.visit(part, ("--token-file", token_file))


def test_a_guesser_waits(dialled: Player, token_file: str) -> None:
    """After wrong tokens an address waits, also with the right one; what it says meanwhile too."""
    proxied = "--token-file", token_file, "--trusted-proxy", "127.0.0.1"

    async def part(house: ServedHouse) -> None:
        loop = asyncio.get_running_loop()
        mallory = "X-Forwarded-For: 192.0.2.1"
        for _ in range(3):
            wire = await Wire.open(house.url, "/", mallory, "Authorization: Bearer guess")
            await wire.got()
        began = loop.time()
        wire = await Wire.open(house.url, "/?name=bob", mallory, BEARER)
        wire.frame(TEXT, b"hi")
        assert await wire.got() == (TEXT, b"bob: hi")
        assert 0.45 < loop.time() - began < 5
        began = loop.time()
        wire = await Wire.open(house.url, "/?name=eve", "X-Forwarded-For: 192.0.2.254", BEARER)
        wire.frame(TEXT, b"hi")
        assert await wire.got() == (TEXT, b"eve: hi")
        assert loop.time() - began < 0.4

    dialled.visit(part, proxied)


# -- limits ---------------------------------------------------------------------


async def turned_away(house: ServedHouse, target: str, *more: str) -> str:
    """Find that someone is closed with 4013, and return the error's text."""
    wire = await Wire.open(house.url, target, JSON, *more)
    error = json.loads((await wire.got())[1])
    opcode, payload = await wire.got()
    assert (error["code"], opcode, payload[:2]) == ("full", CLOSE, (4013).to_bytes(2, "big"))
    return str(error["text"])


def test_full(dialled: Player) -> None:
    """Who comes to a full server is closed with 4013, but not who replaces its own connection."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        rooms = await turned_away(house, "/?room=other")
        assert rooms == "server is full with 1 of 1 rooms, go to one that there is"
        await house.open("/?name=bob&session=0123456789abcdef", as_json=False)
        assert await alice.line() == "bob joined the chat"
        clients = await turned_away(house, "/?name=eve")
        assert clients == "server is full with 2 of 2 clients, come back later"
        again = await house.open("/?name=bob&session=0123456789abcdef", as_json=False)
        await again.heard_nothing(2)
        await again.close()
        assert await alice.line() == "bob left the chat"
        eve = await house.open("/?name=eve", as_json=False)
        assert await alice.line() == "eve joined the chat"
        await eve.heard_nothing(2)

    dialled.visit(part, ("--max-clients", "2", "--max-rooms", "1"))


def test_full_of_one_address(dialled: Player) -> None:
    """Behind a proxy that is trusted each client counts by its own address."""
    proxied = "--trusted-proxy", "127.0.0.1", "--max-clients-per-address", "1"

    async def part(house: ServedHouse) -> None:
        await Wire.open(house.url, "/?name=alice", "X-Forwarded-For: 192.0.2.1")
        await Wire.open(house.url, "/?name=bob", "X-Forwarded-For: 192.0.2.1, 192.0.2.2")
        for name in ("192.0.2.1", "192.0.2.2", "192.0.2.1, 192.0.2.2"):
            text = await turned_away(house, "/?name=eve", f"X-Forwarded-For: {name}")
            assert text == "your address is full with 1 of 1 clients, come back later"

    dialled.visit(part, proxied)


def test_full_of_one_address_on_a_site(onsite: Player) -> None:
    """Behind a proxy that is trusted the last address counts there too, of several headers."""

    async def part(house: ServedHouse) -> None:
        spoofed = "X-Forwarded-For: 192.0.2.3", "X-Forwarded-For: 192.0.2.1, 192.0.2.2"
        await Wire.open(house.url, "/?name=alice", *spoofed)
        text = await turned_away(house, "/?name=eve", "X-Forwarded-For: 192.0.2.2")
        assert text == "your address is full with 1 of 1 clients, come back later"
        for name in ("192.0.2.1", "192.0.2.3"):
            await Wire.open(house.url, "/?name=bob", f"X-Forwarded-For: {name}")

    onsite.visit(part)


def test_a_flood_delays_its_sender_alone(dialled: Player) -> None:
    """What others say comes in the middle of a flood, of which nothing is lost."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        loud = await house.open("/?name=loud", as_json=False)
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

    dialled.visit(part)


def test_a_rate(dialled: Player) -> None:
    """What a client says over its rate waits, and is lost no more than its close is."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        wire = await Wire.open(house.url, "/?name=bob")
        assert await alice.line() == "bob joined the chat"
        began = asyncio.get_running_loop().time()
        for number in range(140):
            wire.frame(TEXT, b"%d" % number)
        wire.frame(CLOSE, b"")
        lines = [await alice.line() for _ in range(141)]
        assert lines == [*(f"bob: {number}" for number in range(140)), "bob left the chat"]
        assert 0.35 < asyncio.get_running_loop().time() - began < 5

    dialled.visit(part, ("--rate", "100"))
