"""Over HTTP: who says something without coming in, and who only listens, in every house."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import DAPHNE, UVICORN, Player
from curl import Listening, ask, head, heard, post, replied
from houses import ServedHouse, serving
from programs import Running, listening, running
from test_metrics import samples
from wire import Wire

from broadcast_server import exchange, tap
from broadcast_server.cli import settings_of
from broadcast_server.options import parse
from broadcast_server.server import Settings

SESSION = "0123456789abcdef"
SSE = "Accept: text/event-stream"
STOPPING = {"type": "error", "code": "stopping", "text": "the server is stopping"}


def alone(part: Callable[[], Awaitable[None]]) -> None:
    """Run *part*, which has a server of its own."""

    async def whole() -> None:
        try:
            await part()
        finally:
            await Wire.cut_all()

    asyncio.run(whole())


def settings(**more: Any) -> Settings:
    """Return the settings of a server of a test's own."""
    return replace(settings_of(parse(["start"])), port=0, **more)


async def all_of(stream: Listening) -> list[dict[str, Any]]:
    """Return all events of a stream to its end."""
    events = []
    while True:
        try:
            events.append(await stream.event())
        except EOFError:
            return events


def small(wire: Wire) -> Wire:
    """Have the system take little for who does not read."""
    connection = wire.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return wire


# -- saying --


def test_a_post_is_heard_by_everyone_and_nobody_joins(anywhere: Player) -> None:
    """What is posted reaches all who are here, who are told of no coming and no going."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice&room=post", as_json=False)
        bob = await house.open("/?name=bob&room=post", as_json=True)
        assert await alice.line() == "bob joined the chat"
        seq = json.loads(await bob.line())["seq"]
        reply = await post(house.somewhere(), "/any/prefix/?room=post&name=ci&id=a", "hé\n")
        assert reply.said == {"seq": seq + 1, "name": "ci", "room": "post", "count": 2, "id": "a"}
        assert anywhere.hosted or reply.headers["connection"].lower() == "close"
        assert await alice.line() == "ci: hé"
        message = json.loads(await bob.line())
        assert (message["seq"], message["name"], message["text"]) == (seq + 1, "ci", "hé")
        await alice.heard_nothing(2)

    anywhere.visit(part)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a\nb\r\nc", "a\nb\r\nc"),
        ("a\n\n", "a\n"),
        ("a\r\n", "a"),
        (" a ", " a "),
        ("/who", "/who"),
    ],
)
def test_the_body_is_one_message(anywhere: Player, body: str, text: str) -> None:
    """Line breaks and spaces stay, but for one line break at the end."""

    async def part(house: ServedHouse) -> None:
        bob = await house.open("/?name=bob&room=body", as_json=True)
        await bob.line()
        assert (await post(house.somewhere(), "/?room=body", body)).said["count"] == 1
        assert json.loads(await bob.line())["text"] == text

    anywhere.visit(part)


def test_a_post_in_chunks(anywhere: Player) -> None:
    """A body may come in chunks, and each when it likes."""

    async def part(house: ServedHouse) -> None:
        bob = await house.open("/?name=bob&room=chunks", as_json=False)
        url = house.somewhere()
        wire = await Wire.dial(url)
        wire.send(head(url, "POST", "/?room=chunks&name=ci", "Transfer-Encoding: chunked"))
        for piece in (b"3\r\nha", b"l\r\n", b"1\r\nf\r\n0\r\n\r\n"):
            await asyncio.sleep(0)
            wire.send(piece)
        assert (await replied(wire)).said["name"] == "ci"
        assert await bob.line() == "ci: half"

    anywhere.visit(part)


def test_a_post_that_waits_to_be_asked(anywhere: Player) -> None:
    """Who expects 100 is told to go on, as curl wants it for much; or why there is no use."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        wire = await Wire.dial(url)
        expect = "Expect: 100-continue"
        wire.send(head(url, "POST", "/?room=expect&name=ci", "Content-Length: 2", expect))
        assert (await heard(wire))[0] == 100
        wire.send(b"hi")
        assert (await replied(wire)).said["name"] == "ci"
        if anywhere.kind in ("daphne", "cluster"):  # where the whole body is read first
            return
        wire = await Wire.dial(url)
        wire.send(head(url, "POST", "/?room=expect", "Content-Length: 2000000", expect))
        reply = await replied(wire)
        assert (reply.status, reply.words) == (413, "message is 2000000 bytes, limit is 4096")

    anywhere.visit(part)


def test_a_name_that_is_taken(anywhere: Player) -> None:
    """A poster gets the next free name, as a newcomer would, and uses up none."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open(f"/?name=alice&room=taken&session={SESSION}", as_json=False)
        url = house.somewhere()
        for _ in range(3):
            assert (await post(url, "/?room=taken&name=ALICE", "hi")).said["name"] == "ALICE-2"
            assert await alice.line() == "ALICE-2: hi"
        own = await post(url, f"/?room=taken&name=bob&session={SESSION}", "me")
        assert own.said["name"] == "alice"
        assert await alice.line() == "alice: me"
        await house.open("/?name=alice&room=taken", as_json=False)
        assert await alice.line() == "alice-2 joined the chat"
        assert (await post(url, "/?room=taken&name=alice", "hi")).said["name"] == "alice-3"

    anywhere.visit(part)


def test_a_repeat_does_no_harm(anywhere: Player) -> None:
    """What comes again with its session and id is said once, and answered as the first was."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice&room=again", as_json=False)
        target = f"/?room=again&name=ci&session={SESSION}&id=1"
        first = (await post(house.somewhere(), target, "hi")).said
        assert await alice.line() == "ci: hi"
        again = (await post(house.somewhere(), target + "&require=5", "hi")).said
        assert again == {**first, "repeated": True}
        others = (await post(house.somewhere(), "/?room=again&name=ci&id=1", "hi")).said
        assert others["seq"] == first["seq"] + 1 and "repeated" not in others
        assert await alice.line() == "ci: hi"
        await alice.heard_nothing(1)

    anywhere.visit(part)


def test_so_many_are_required(anywhere: Player) -> None:
    """With too few to hear it a message is not said, and there is none in the log."""

    async def part(house: ServedHouse) -> None:
        target = "/?room=required&name=ci&require="
        reply = await post(house.somewhere(), target + "1", "hi")
        assert (reply.status, reply.words) == (409, "0 are here, 1 is required")
        alice = await house.open("/?name=alice&room=required", as_json=False)
        reply = await post(house.somewhere(), target + "3", "hi")
        assert (reply.status, reply.words) == (409, "1 is here, 3 are required")
        stream = await Listening.open(house.somewhere(), "/stream?room=required")
        assert (await stream.event())["count"] == 1
        reply = await post(house.somewhere(), target + "2", "now")
        assert reply.said["count"] == 2
        assert await alice.line() == "ci: now"
        assert (await stream.event())["text"] == "now"

    anywhere.visit(part)


BIG = "x" * 4097


@pytest.mark.parametrize(
    ("target", "body", "status", "words"),
    [
        ("/", BIG, 413, "message is 4097 bytes, limit is 4096"),
        ("/", BIG * 2, 413, "message is 8194 bytes, limit is 4096"),
        ("/", "\n" * 300, 413, "message is 299 lines, limit is 256"),
        ("/", "", 400, "message is empty"),
        ("/", "\r\n", 400, "message is empty"),
        ("/", b"a\xff", 400, "message is not UTF-8: invalid start byte at position 1"),
        ("/?name=a:b", "hi", 400, "name contains a colon"),
        ("/?room=A", "hi", 400, "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/?session=short", "hi", 400, "session is not 16 to 64 of A-Z a-z 0-9 _ -"),
        ("/?id=", "hi", 400, "id is not a string of 1 to 64 characters"),
        ("/?require=x", "hi", 400, "require is not a number of 1 to 18 digits"),
        (
            "/?name=%ff",
            "hi",
            400,
            "query is not percent-encoded UTF-8 of at most 64 parameters",
        ),
    ],
)
def test_what_cannot_be_said(
    anywhere: Player, target: str, body: str | bytes, status: int, words: str
) -> None:
    """What is refused is answered by a line that says why, and nobody hears anything."""

    async def part(house: ServedHouse) -> None:
        reply = await post(house.somewhere(), target, body)
        assert (reply.status, reply.words) == (status, words)

    anywhere.visit(part)


def test_a_body_is_said_to_be_one(anywhere: Player) -> None:
    """A post without a length and without chunks is told so; other methods are not allowed."""

    async def part(house: ServedHouse) -> None:
        assert (await ask(house.somewhere(), "POST", "/")).status == 411
        reply = await ask(house.somewhere(), "PUT", "/", "Content-Length: 0")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")
        assert reply.words == "method PUT is not allowed, allowed are GET, HEAD and POST"
        assert (await post(house.somewhere(), "/healthz", "hi")).status == 405

    anywhere.visit(part)


def test_chunks_beyond_the_limit(dialled: Player) -> None:
    """Of a body without a length no more is read than a message may have."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.dial(house.url)
        wire.send(head(house.url, "POST", "/", "Transfer-Encoding: chunked"))
        wire.send(b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"3\r\nxxx\r\n")
        reply = await replied(wire)
        assert (reply.status, reply.words) == (
            413,
            "message is more than 4098 bytes, limit is 4096",
        )

    dialled.visit(part)


# -- listening --


def test_a_stream_of_lines(anywhere: Player) -> None:
    """A listener gets the past that it asks for, then what happens; nobody hears of it."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        for text in ("one", "two"):
            await post(url, "/?room=lines&name=ci", text)
        alice = await house.open("/?name=alice&room=lines", as_json=False)
        stream = await Listening.open(url, "/prefix/stream?room=lines&history=1")
        assert (stream.status, stream.headers["content-type"]) == (200, "application/x-ndjson")
        assert stream.headers["transfer-encoding"] == "chunked"
        welcome = await stream.event()
        assert (welcome["type"], welcome["name"], welcome["members"]) == ("welcome", "", ["alice"])
        assert (welcome["count"], welcome["recovered"], welcome["missed"]) == (1, True, 0)
        two = await stream.event()
        assert (two["text"], two["seq"]) == ("two", welcome["seq"])
        await alice.send("three")
        assert await alice.line() == "alice: three"
        assert (await stream.event())["text"] == "three"
        bob = await house.open("/?name=bob&room=lines", as_json=False)
        assert await stream.event() == {"type": "joined", "name": "bob", "count": 2}
        # Before he leaves: another process might else see nothing of him between two looks.
        assert await alice.line() == "bob joined the chat"
        await bob.close()
        assert await stream.event() == {"type": "left", "name": "bob", "count": 1}
        assert await alice.line() == "bob left the chat"
        await alice.heard_nothing(1)

    anywhere.visit(part)


def test_a_stream_goes_on_where_one_ended(anywhere: Player) -> None:
    """With a cursor comes the gap first, then what is said while it is read."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        first = (await post(url, "/?room=since&name=ci", "0")).said["seq"]
        stream = await Listening.open(url, "/stream?room=since")
        epoch = (await stream.event())["epoch"]
        stream.wire.cut()
        for number in range(1, 200):
            await post(house.somewhere(), "/?room=since&name=ci", str(number))
        stream = await Listening.open(
            house.somewhere(), f"/stream?room=since&since={epoch}.{first}"
        )
        await post(house.somewhere(), "/?room=since&name=ci", "200")
        assert (await stream.event())["recovered"] is True
        events = [await stream.event() for _ in range(200)]
        assert [event["text"] for event in events] == [str(number) for number in range(1, 201)]
        assert [event["seq"] - first for event in events] == list(range(1, 201))

    anywhere.visit(part)


def test_server_sent_events(anywhere: Player) -> None:
    """A browser's stream has cursors as ids, from the first on, and goes on from the last."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        seq = (await post(url, "/?room=sse&name=ci", "one")).said["seq"]
        stream = await Listening.open(url, "/stream?room=sse&history=1", SSE)
        assert stream.headers["content-type"] == "text/event-stream"
        begin = await stream.sent()
        assert 500 <= int(begin["retry"]) < 1500
        welcome = json.loads((await stream.sent())["data"])
        assert welcome["type"] == "welcome"
        assert begin["id"] == f"{welcome['epoch']}.{seq - 1}"
        one = await stream.sent()
        assert one["id"] == f"{welcome['epoch']}.{seq}"
        assert json.loads(one["data"])["text"] == "one"
        stream.wire.cut()
        await post(url, "/?room=sse&name=ci", "two\nlines")
        last = f"Last-Event-ID: {one['id']}"
        stream = await Listening.open(house.somewhere(), "/stream?room=sse&history=9", SSE, last)
        assert (await stream.sent())["id"] == one["id"]
        assert json.loads((await stream.sent())["data"])["recovered"] is True
        assert json.loads((await stream.sent())["data"])["text"] == "two\nlines"

    anywhere.visit(part)


def test_a_poll_ends(anywhere: Player) -> None:
    """Who polls gets what there is, and the end; with a cursor nothing twice."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        stream = await Listening.open(url, "/stream?room=poll&poll=1")
        welcome = await stream.event()
        with pytest.raises(EOFError):
            await stream.event()
        for number in range(100):
            await post(url, "/?room=poll&name=ci", str(number))
        cursor = f"{welcome['epoch']}.{welcome['seq']}"
        stream = await Listening.open(house.somewhere(), f"/stream?room=poll&poll=1&since={cursor}")
        await stream.event()
        assert [(await stream.event())["text"] for _ in range(100)] == list(map(str, range(100)))
        with pytest.raises(EOFError):
            await stream.event()

    anywhere.visit(part)


def test_a_stream_for_the_oldest_clients(anywhere: Player) -> None:
    """HTTP/1.0 knows no chunks: there the lines come as they are, to the end of the connection."""

    async def part(house: ServedHouse) -> None:
        await post(house.url, "/?room=old&name=ci", "hi")
        target = "/stream?room=old&history=1&poll=1"
        stream = await Listening.open(house.url, target, version="1.0")
        assert "transfer-encoding" not in stream.headers
        await stream.event()
        assert (await stream.event())["text"] == "hi"
        with pytest.raises(EOFError):
            await stream.event()

    anywhere.visit(part)


def test_the_head_of_a_stream(anywhere: Player) -> None:
    """HEAD is answered by what GET would be, without a stream."""

    async def part(house: ServedHouse) -> None:
        wire = await Wire.dial(house.url)
        wire.send(head(house.url, "HEAD", "/stream?room=head", "Connection: close"))
        status, headers = await heard(wire)
        assert (status, headers["content-type"]) == (200, "application/x-ndjson")
        assert await wire.ended() == b""
        wire = await Wire.dial(house.url)
        wire.send(head(house.url, "HEAD", "/stream?room=A", "Connection: close"))
        assert (await heard(wire))[0] == 400
        assert await wire.ended() == b""

    anywhere.visit(part)


@pytest.mark.parametrize(
    ("target", "line", "words"),
    [
        ("/stream?room=A", "", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/stream?since=x", "", "since is not a cursor EPOCH.SEQ"),
        ("/stream", "Last-Event-ID: x", "Last-Event-ID is not a cursor EPOCH.SEQ"),
        ("/stream?history=x", "", "history is not a number of 1 to 18 digits"),
        ("/stream?poll=x", "", "poll is not 0 or 1"),
    ],
)
def test_what_cannot_be_listened_to(anywhere: Player, target: str, line: str, words: str) -> None:
    """What is wrong with a request for a stream is said in a line."""

    async def part(house: ServedHouse) -> None:
        reply = await ask(house.somewhere(), "GET", target, *filter(None, [line]))
        assert (reply.status, reply.words) == (400, words)

    anywhere.visit(part)


def test_a_slow_stream_misses_nothing(anywhere: Player) -> None:
    """A stream that is not read for a while gets everything when it is, in order."""

    async def part(house: ServedHouse) -> None:
        alice = await house.open("/?name=alice&room=slow", as_json=False)
        stream = await Listening.open(house.somewhere(), "/stream?room=slow")
        await stream.event()
        text = "x" * 4000
        for first in range(0, 1500, 50):
            await alice.send("\n".join(f"{number} {text}" for number in range(first, first + 50)))
            for _ in range(50):
                await alice.line()
        numbers: list[int] = []
        while len(numbers) < 1500:
            event = await stream.event()
            if event["type"] == "message":  # and no head
                numbers.append(int(event["text"].split()[0]))
        assert numbers == list(range(1500))

    anywhere.visit(part)


def test_a_stream_that_the_log_leaves_behind_ends() -> None:
    """When what it has not read is gone, a stream's last event says that it was too slow."""

    async def part() -> None:
        async with serving(
            replace(settings_of(parse(["start"])), port=0, log_messages=50)
        ) as server:
            wire = await Wire.dial(server.url)
            small = wire.writer.get_extra_info("socket")
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(head(server.url, "GET", "/stream"))
            stream = Listening(wire, *await heard(wire))
            alice = await ServedHouse(server.url).open("/?name=alice", as_json=False)
            for _ in range(20):
                await alice.send("\n".join(["x" * 4000] * 20))
                for _ in range(20):
                    await alice.line()
            events = await all_of(stream)
            last = events[-1]
            assert (last["type"], last["code"]) == ("error", "too_slow")
            assert events[2]["seq"] == 1, "it got what it could take before"

    alone(part)


def test_who_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that takes nothing ends after a while, and so does a body that never comes."""
    monkeypatch.setattr(tap, "STALLED", 0.2)
    monkeypatch.setattr(exchange, "PATIENCE", 0.2)

    async def part() -> None:
        async with serving(settings()) as server:
            late = await Wire.dial(server.url)
            late.send(head(server.url, "POST", "/", "Content-Length: 9") + b"half")
            reply = await replied(late)
            assert (reply.status, reply.words) == (408, "message did not come within 0.2 s")
            wire = small(await Wire.dial(server.url))
            wire.send(head(server.url, "GET", "/stream"))
            await heard(wire)
            while 'closes_total{code="1006"} 1' not in server.figures():
                assert (await post(server.url, "/", "x" * 4000)).status == 200

    alone(part)


def test_a_server_that_stops_ends_its_streams() -> None:
    """Who listens is told that the server stops, and the answer is whole."""

    async def part() -> None:
        async with serving(settings()) as server:
            streams = [await Listening.open(server.url, "/stream") for _ in range(2)]
            for stream in streams:
                await stream.event()
            await server.stop()
            for stream in streams:
                assert await stream.event() == STOPPING
                with pytest.raises(EOFError):
                    await stream.event()

    alone(part)


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_a_site_that_stops_ends_its_streams(command: tuple[str, ...], tmp_path: Path) -> None:
    """A stream holds up no server that wants to end, and is told so."""

    async def part(site: Running) -> None:
        stream = await Listening.open(listening(site), "/stream")
        await stream.event()
        site.process.send_signal(signal.SIGTERM)
        assert await stream.event() == STOPPING
        with pytest.raises(EOFError):
            await stream.event()
        await Wire.cut_all()

    with running(*command, BROADCAST_DATA=str(tmp_path)) as site:
        alone(lambda: part(site))
        assert site.wait() == (-signal.SIGTERM if command == UVICORN else 0)


def test_a_browser_goes_on_after_a_restart(tmp_path: Path) -> None:
    """With a log in a file the last id of before the restart is where the next stream begins."""

    async def part() -> None:
        kept = settings(log=tmp_path / "log")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "one")
            stream = await Listening.open(server.url, "/stream?history=1", SSE)
            await stream.sent(), await stream.sent()
            last = (await stream.sent())["id"]
            await post(server.url, "/?name=ci", "two")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "three")
            stream = await Listening.open(server.url, "/stream", SSE, f"Last-Event-ID: {last}")
            await stream.sent(), await stream.sent()
            texts = [json.loads((await stream.sent())["data"])["text"] for _ in range(2)]
            assert texts == ["two", "three"]

    alone(part)


def test_they_are_counted(dialled: Player) -> None:
    """Streams and posts have figures of their own."""

    async def part(house: ServedHouse) -> None:
        before = samples((await ask(house.url, "GET", "/metrics")).body)
        stream = await Listening.open(house.url, "/stream?room=figures")
        await stream.event()
        await post(house.url, "/?room=figures", "hi")
        during = samples((await ask(house.url, "GET", "/metrics")).body)
        for name in ("streams", "clients", "rooms", "joins_total", "posts_total", "messages_total"):
            assert during[f"broadcast_{name}"] == before[f"broadcast_{name}"] + 1, name
        await stream.event()

    dialled.visit(part)


# -- who may --


def test_a_page_from_elsewhere(anywhere: Player) -> None:
    """A page of another origin may neither post nor listen, unless it is listed: then it reads."""

    async def part(house: ServedHouse) -> None:
        url = house.somewhere()
        evil, friend = "Origin: http://evil.example", "Origin: https://friend.example"
        for reply in (
            await post(url, "/?room=origin", "hi", evil),
            await ask(url, "GET", "/stream?room=origin", evil),
            await ask(url, "OPTIONS", "/", evil, "Access-Control-Request-Method: POST"),
        ):
            assert (reply.status, reply.words) == (403, "this origin is not allowed")
            assert "access-control-allow-origin" not in reply.headers
        asked = (
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization",
        )
        reply = await ask(url, "OPTIONS", "/", friend, *asked)
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == "https://friend.example"
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "Authorization" in reply.headers["access-control-allow-headers"]
        for reply in (
            await post(url, "/?room=origin", "hi", friend),
            await post(url, "/?room=origin", "", friend),
            await ask(url, "GET", "/stream?room=origin&poll=1", friend),
        ):
            assert reply.headers["access-control-allow-origin"] == "https://friend.example"
            assert "Origin" in reply.headers["vary"]
        own = await post(url, "/?room=origin", "hi", "Origin: " + url.replace("ws:", "http:")[:-1])
        assert own.status == 200

    anywhere.visit(part, ("--allow-origin", "https://friend.example"))


BEARER = "Authorization: Bearer s3cret"


def test_over_http_the_token_is_wanted_too(dialled: Player, token_file: str) -> None:
    """Without the token nobody says or hears anything; guesses wait as those at the socket."""
    proxied = "--token-file", token_file, "--trusted-proxy", "127.0.0.1"

    async def part(house: ServedHouse) -> None:
        mallory = "X-Forwarded-For: 192.0.2.1"
        for reply in (await post(house.url, "/", "hi"), await ask(house.url, "GET", "/stream")):
            assert reply.status == 401
            assert reply.words == "this server wants a token: ask who runs it for one"
            assert reply.headers["www-authenticate"] == "Bearer"
        wire = await Wire.dial(house.url)
        wire.send(head(house.url, "HEAD", "/stream"))
        assert (await heard(wire))[0] == 401
        assert await wire.ended() == b""
        for _ in range(3):
            reply = await post(house.url, "/", "hi", mallory, "Authorization: Bearer guess")
            assert reply.status == 401
        began = asyncio.get_running_loop().time()
        assert (await post(house.url, "/", "hi", mallory, BEARER)).said["count"] == 0
        assert 0.45 < asyncio.get_running_loop().time() - began < 5
        stream = await Listening.open(house.url, "/stream?history=1", BEARER)
        await stream.event()
        assert (await stream.event())["text"] == "hi"

    dialled.visit(part, proxied)


def test_streams_are_counted_as_clients(dialled: Player) -> None:
    """A stream takes a client's place, and gives it back."""

    async def part(house: ServedHouse) -> None:
        stream = await Listening.open(house.url, "/stream")
        await stream.event()
        reply = await ask(house.url, "GET", "/stream")
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert reply.words == "server is full with 1 of 1 clients, come back later"
        assert (await post(house.url, "/", "hi")).status == 503
        stream.wire.cut()
        reply = await post(house.url, "/", "hi")
        while reply.status == 503:  # it has not noticed yet
            reply = await post(house.url, "/", "hi")
        assert reply.said["count"] == 0

    dialled.visit(part, ("--max-clients", "1"))


def test_too_many_posts_of_one_address(dialled: Player) -> None:
    """Over its rate an address is told when to come again; others are not held up."""
    options = "--rate", "1", "--trusted-proxy", "127.0.0.1"

    async def part(house: ServedHouse) -> None:
        here, there = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
        for _ in range(10):
            assert (await post(house.url, "/", "hi", here)).status == 200
        for _ in range(20):
            reply = await post(house.url, "/", "hi", here)
            if reply.status == 429:
                break
        assert reply.headers["retry-after"] == "1"
        assert reply.words == (
            "more than 1 messages a second come from your address, say it again later"
        )
        assert (await post(house.url, "/", "hi", there)).status == 200

    dialled.visit(part, options)
