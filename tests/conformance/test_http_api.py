"""The HTTP API of each deployment: publishing with POST, and subscribing with GET /stream."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE, UVICORN, Player
from curl import Stream, post, read_head, read_response, request_head, send_request
from deployments import ServedDeployment, serving
from metrics_samples import samples
from programs import Running, listening, running
from wire import Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.server import http_connection, stream_connection
from broadcast_server.server.settings import Settings

SESSION = "0123456789abcdef"
SSE = "Accept: text/event-stream"
STOPPING = {"type": "error", "code": "stopping", "text": "the server is stopping"}


def run_alone(part: Callable[[], Awaitable[None]]) -> None:
    """Run *part*, which starts its own server, and cut all connections after it."""

    async def with_cleanup() -> None:
        try:
            await part()
        finally:
            await Wire.cut_all()

    asyncio.run(with_cleanup())


def settings(**more: Any) -> Settings:
    """Return the default settings, on a free port, with *more*."""
    return replace(settings_of(parse_options(["start"])), port=0, **more)


async def events_of(stream: Stream) -> list[dict[str, Any]]:
    """Read a stream to its end, and return its events."""
    events = []
    while True:
        try:
            events.append(await stream.event())
        except EOFError:
            return events


def with_small_receive_buffer(wire: Wire) -> Wire:
    """Make the receive buffer small, so that the server notices soon that nothing is read."""
    connection = wire.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return wire


# -- publishing --


def test_a_post_is_received_by_everyone_and_nobody_joins(any_server: Player) -> None:
    """A posted message reaches all members, and causes no `joined` or `left` event."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=post", as_json=False)
        bob = await deployment.open("/?name=bob&room=post", as_json=True)
        assert await alice.line() == "bob joined the chat"
        seq = json.loads(await bob.line())["seq"]
        reply = await post(deployment.next_url(), "/any/prefix/?room=post&name=ci&id=a", "hé\n")
        assert reply.json == {"seq": seq + 1, "name": "ci", "room": "post", "count": 2, "id": "a"}
        assert any_server.is_django or reply.headers["connection"].lower() == "close"
        assert await alice.line() == "ci: hé"
        message = json.loads(await bob.line())
        assert (message["seq"], message["name"], message["text"]) == (seq + 1, "ci", "hé")
        await alice.assert_nothing_new(2)

    any_server.play_served(part)


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
def test_the_body_is_one_message(any_server: Player, body: str, text: str) -> None:
    """The body is published with its line breaks and spaces, except one line break at the end."""

    async def part(deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob&room=body", as_json=True)
        await bob.line()
        assert (await post(deployment.next_url(), "/?room=body", body)).json["count"] == 1
        assert json.loads(await bob.line())["text"] == text

    any_server.play_served(part)


def test_no_response_controls_the_terminal_of_curl(any_server: Player) -> None:
    """What a client sent is in no response and in no stream as it is, if a terminal obeys it."""

    async def part(deployment: ServedDeployment) -> None:
        target = "/?room=control&name=ci&session=0123456789abcdef&id=a%C2%9B%E2%80%AE"
        said = "\x1b[2K\x9b2K\x7f\u202ebob: hi"
        url = deployment.next_url()
        replies = [await post(url, target, said) for _ in range(2)]
        assert [reply.json["id"] for reply in replies] == ["a\x9b\u202e"] * 2
        assert replies[1].json["repeated"] is True
        for path in ("/x%1B%5B2J%C2%9B2J%E2%80%AE", "/x%0Aforged"):
            replies.append(await send_request(url, "GET", path))
            assert replies[-1].status == 404
        replies.append(await send_request(url, "GET", "/stream?room=control&history=9&poll=1"))
        assert json.loads(replies[-1].body.splitlines()[1])["text"] == said
        for reply in replies:
            unsafe = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", reply.body)
            assert not unsafe, reply

    any_server.play_served(part)


def test_a_post_in_chunks(any_server: Player) -> None:
    """A body may be chunked, and its chunks may arrive in pieces."""

    async def part(deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob&room=chunks", as_json=False)
        url = deployment.next_url()
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", "/?room=chunks&name=ci", "Transfer-Encoding: chunked"))
        for piece in (b"3\r\nha", b"l\r\n", b"1\r\nf\r\n0\r\n\r\n"):
            await asyncio.sleep(0)
            wire.send(piece)
        assert (await read_response(wire)).json["name"] == "ci"
        assert await bob.line() == "ci: half"

    any_server.play_served(part)


def test_a_post_that_expects_100_continue(any_server: Player) -> None:
    """A client that expects 100 is told to continue, or is rejected before it sends the body."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        expect = "Expect: 100-continue"
        wire.send(request_head(url, "POST", "/?room=expect&name=ci", "Content-Length: 2", expect))
        assert (await read_head(wire))[0] == 100
        wire.send(b"hi")
        assert (await read_response(wire)).json["name"] == "ci"
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", "/?room=expect", "Content-Length: 2000000", expect))
        reply = await read_response(wire)
        assert (reply.status, reply.line) == (413, "message is 2000000 bytes, limit is 4096")

    any_server.play_served(part)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/healthz"),
        ("GET", "/"),
        ("GET", "/stream?room=long"),
        ("HEAD", "/"),
        ("OPTIONS", "/"),
        ("PUT", "/nowhere"),
        ("POST", "/nowhere"),
        ("POST", "/?room=long"),
        ("POST", "/accounts/login/"),
    ],
)
def test_a_body_that_is_too_long(any_server: Player, method: str, target: str) -> None:
    """A body over the limit is rejected by its announced length, before it is sent."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        for expect in ((), ("Expect: 100-continue",)):
            wire = await Wire.connect(url)
            wire.send(request_head(url, method, target, f"Content-Length: {10**9}", *expect))
            status, headers = await read_head(wire)
            assert (status, headers["connection"].lower()) == (413, "close")
            assert headers["x-frame-options"] == "DENY"

    any_server.play_served(part)


@pytest.mark.parametrize(
    "target", ["/?room=long", "/nowhere", "/accounts/login/", "/admin/", "/static/x"]
)
def test_chunks_that_do_not_end(any_server: Player, target: str) -> None:
    """A body whose length was not announced is rejected when it gets too long."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        wire.send(request_head(url, "POST", target, "Transfer-Encoding: chunked"))
        chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
        for _ in range(40):
            wire.send(chunk)
        try:
            status, _ = await read_head(wire)
        except (ConnectionError, EOFError):  # it is closed while the chunks arrive
            return
        # A post to a path without a room may be rejected by its head.
        assert status in (413, 404 if any_server.is_django else 405)

    any_server.play_served(part)


def test_a_name_that_is_taken(any_server: Player) -> None:
    """A post gets the next free name, as a joining member would, and does not occupy it."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open(f"/?name=alice&room=taken&session={SESSION}", as_json=False)
        url = deployment.next_url()
        for _ in range(3):
            assert (await post(url, "/?room=taken&name=ALICE", "hi")).json["name"] == "ALICE-2"
            assert await alice.line() == "ALICE-2: hi"
        own = await post(url, f"/?room=taken&name=bob&session={SESSION}", "me")
        assert own.json["name"] == "alice"
        assert await alice.line() == "alice: me"
        await deployment.open("/?name=alice&room=taken", as_json=False)
        assert await alice.line() == "alice-2 joined the chat"
        assert (await post(url, "/?room=taken&name=alice", "hi")).json["name"] == "alice-3"

    any_server.play_served(part)


def test_a_repeated_post_is_published_once(any_server: Player) -> None:
    """A repeated session and id is published once, and gets the same response as the first."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=again", as_json=False)
        target = f"/?room=again&name=ci&session={SESSION}&id=1"
        first = (await post(deployment.next_url(), target, "hi")).json
        assert await alice.line() == "ci: hi"
        again = (await post(deployment.next_url(), target + "&require=5", "hi")).json
        assert again == {**first, "repeated": True}
        others = (await post(deployment.next_url(), "/?room=again&name=ci&id=1", "hi")).json
        assert others["seq"] == first["seq"] + 1 and "repeated" not in others
        assert await alice.line() == "ci: hi"
        await alice.assert_nothing_new(1)

    any_server.play_served(part)


def test_too_few_receivers(any_server: Player) -> None:
    """A post that requires more receivers than there are is neither published nor logged."""

    async def part(deployment: ServedDeployment) -> None:
        target = "/?room=required&name=ci&require="
        reply = await post(deployment.next_url(), target + "1", "hi")
        assert (reply.status, reply.line) == (409, "0 are here, 1 is required")
        alice = await deployment.open("/?name=alice&room=required", as_json=False)
        reply = await post(deployment.next_url(), target + "3", "hi")
        assert (reply.status, reply.line) == (409, "1 is here, 3 are required")
        stream = await Stream.open(deployment.next_url(), "/stream?room=required")
        assert (await stream.event())["count"] == 1
        reply = await post(deployment.next_url(), target + "2", "now")
        assert reply.json["count"] == 2
        assert await alice.line() == "ci: now"
        assert (await stream.event())["text"] == "now"

    any_server.play_served(part)


BIG = "x" * 4097


@pytest.mark.parametrize(
    ("target", "body", "status", "reason"),
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
def test_rejected_posts(
    any_server: Player, target: str, body: str | bytes, status: int, reason: str
) -> None:
    """A rejected post gets a line that says why."""

    async def part(deployment: ServedDeployment) -> None:
        reply = await post(deployment.next_url(), target, body)
        assert (reply.status, reply.line) == (status, reason)

    any_server.play_served(part)


def test_a_post_without_a_length(any_server: Player) -> None:
    """A post without a length or chunks gets 411; other methods get 405."""

    async def part(deployment: ServedDeployment) -> None:
        assert (await send_request(deployment.next_url(), "POST", "/")).status == 411
        reply = await send_request(deployment.next_url(), "PUT", "/", "Content-Length: 0")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, POST")
        assert reply.line == "method PUT is not allowed, use GET, HEAD or POST"
        assert (await post(deployment.next_url(), "/healthz", "hi")).status == 405

    any_server.play_served(part)


@pytest.mark.parametrize("digits", [5, 19, 20, 21, 30, 4000])
def test_a_length_beyond_the_limit(own_server: Player, digits: int) -> None:
    """A message that is too long is rejected as such, by a length of any number of digits."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "POST", "/", f"Content-Length: {'9' * digits}"))
        reply = await read_response(wire)
        assert reply.status == 413
        assert reply.line == f"message is {'9' * min(digits, 20)} bytes, limit is 4096"
        wire.cut()

    own_server.play_served(part)


def test_chunks_beyond_the_limit(own_server: Player) -> None:
    """Of a chunked body, no more is read than a message may have."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "POST", "/", "Transfer-Encoding: chunked"))
        wire.send(b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"3\r\nxxx\r\n")
        reply = await read_response(wire)
        assert (reply.status, reply.line) == (
            413,
            "message is more than 4098 bytes, limit is 4096",
        )

    own_server.play_served(part)


# -- subscribing --


def test_a_stream_of_lines(any_server: Player) -> None:
    """A subscriber receives the history it asks for, then new events; members do not notice it."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        for text in ("one", "two"):
            await post(url, "/?room=lines&name=ci", text)
        alice = await deployment.open("/?name=alice&room=lines", as_json=False)
        stream = await Stream.open(url, "/prefix/stream?room=lines&history=1")
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
        bob = await deployment.open("/?name=bob&room=lines", as_json=False)
        assert await stream.event() == {"type": "joined", "name": "bob", "count": 2}
        # Before bob leaves: else another process might not see him between two polls.
        assert await alice.line() == "bob joined the chat"
        await bob.close()
        assert await stream.event() == {"type": "left", "name": "bob", "count": 1}
        assert await alice.line() == "bob left the chat"
        await alice.assert_nothing_new(1)

    any_server.play_served(part)


def test_a_stream_resumes_at_its_cursor(any_server: Player) -> None:
    """A stream with a cursor starts with the missed messages, then continues with new ones."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        first = (await post(url, "/?room=since&name=ci", "0")).json["seq"]
        stream = await Stream.open(url, "/stream?room=since")
        epoch = (await stream.event())["epoch"]
        stream.wire.cut()
        for number in range(1, 200):
            await post(deployment.next_url(), "/?room=since&name=ci", str(number))
        stream = await Stream.open(
            deployment.next_url(), f"/stream?room=since&since={epoch}.{first}"
        )
        await post(deployment.next_url(), "/?room=since&name=ci", "200")
        assert (await stream.event())["recovered"] is True
        events = [await stream.event() for _ in range(200)]
        assert [event["text"] for event in events] == [str(number) for number in range(1, 201)]
        assert [event["seq"] - first for event in events] == list(range(1, 201))

    any_server.play_served(part)


def test_server_sent_events(any_server: Player) -> None:
    """Server-sent events have cursors as ids, and Last-Event-ID resumes after the last one."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        seq = (await post(url, "/?room=sse&name=ci", "one")).json["seq"]
        stream = await Stream.open(url, "/stream?room=sse&history=1", SSE)
        assert stream.headers["content-type"] == "text/event-stream"
        begin = await stream.server_sent_event()
        assert 500 <= int(begin["retry"]) < 1500
        welcome = json.loads((await stream.server_sent_event())["data"])
        assert welcome["type"] == "welcome"
        assert begin["id"] == f"{welcome['epoch']}.{seq - 1}"
        one = await stream.server_sent_event()
        assert one["id"] == f"{welcome['epoch']}.{seq}"
        assert json.loads(one["data"])["text"] == "one"
        stream.wire.cut()
        await post(url, "/?room=sse&name=ci", "two\nlines")
        last = f"Last-Event-ID: {one['id']}"
        stream = await Stream.open(deployment.next_url(), "/stream?room=sse&history=9", SSE, last)
        assert (await stream.server_sent_event())["id"] == one["id"]
        assert json.loads((await stream.server_sent_event())["data"])["recovered"] is True
        assert json.loads((await stream.server_sent_event())["data"])["text"] == "two\nlines"

    any_server.play_served(part)


def test_a_poll_ends(any_server: Player) -> None:
    """A poll returns the messages there are, and ends; with a cursor, none is returned twice."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        stream = await Stream.open(url, "/stream?room=poll&poll=1")
        welcome = await stream.event()
        with pytest.raises(EOFError):
            await stream.event()
        for number in range(100):
            await post(url, "/?room=poll&name=ci", str(number))
        cursor = f"{welcome['epoch']}.{welcome['seq']}"
        stream = await Stream.open(
            deployment.next_url(), f"/stream?room=poll&poll=1&since={cursor}"
        )
        await stream.event()
        assert [(await stream.event())["text"] for _ in range(100)] == list(map(str, range(100)))
        with pytest.raises(EOFError):
            await stream.event()

    any_server.play_served(part)


def test_a_stream_over_http_1_0(any_server: Player) -> None:
    """HTTP/1.0 has no chunks: the lines are sent as they are until the connection ends."""

    async def part(deployment: ServedDeployment) -> None:
        await post(deployment.url, "/?room=old&name=ci", "hi")
        target = "/stream?room=old&history=1&poll=1"
        stream = await Stream.open(deployment.url, target, version="1.0")
        assert "transfer-encoding" not in stream.headers
        await stream.event()
        assert (await stream.event())["text"] == "hi"
        with pytest.raises(EOFError):
            await stream.event()

    any_server.play_served(part)


def test_the_head_of_a_stream(any_server: Player) -> None:
    """HEAD gets the same status and headers as GET, without a stream."""

    async def part(deployment: ServedDeployment) -> None:
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "HEAD", "/stream?room=head", "Connection: close"))
        status, headers = await read_head(wire)
        assert (status, headers["content-type"]) == (200, "application/x-ndjson")
        assert await wire.read_to_end() == b""
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "HEAD", "/stream?room=A", "Connection: close"))
        assert (await read_head(wire))[0] == 400
        assert await wire.read_to_end() == b""

    any_server.play_served(part)


@pytest.mark.parametrize(
    ("target", "line", "reason"),
    [
        ("/stream?room=A", "", "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"),
        ("/stream?since=x", "", "since is not a cursor EPOCH.SEQ"),
        ("/stream", "Last-Event-ID: x", "Last-Event-ID is not a cursor EPOCH.SEQ"),
        ("/stream?history=x", "", "history is not a number of 1 to 18 digits"),
        ("/stream?poll=x", "", "poll is not 0 or 1"),
    ],
)
def test_rejected_stream_requests(any_server: Player, target: str, line: str, reason: str) -> None:
    """A rejected stream request gets a line that says why."""

    async def part(deployment: ServedDeployment) -> None:
        reply = await send_request(deployment.next_url(), "GET", target, *filter(None, [line]))
        assert (reply.status, reply.line) == (400, reason)

    any_server.play_served(part)


def test_a_slow_stream_misses_nothing(any_server: Player) -> None:
    """A stream that is not read for a while delivers everything in order once it is read."""

    async def part(deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice&room=slow", as_json=False)
        stream = await Stream.open(deployment.next_url(), "/stream?room=slow")
        await stream.event()
        text = "x" * 4000
        for first in range(0, 1500, 50):
            await alice.send("\n".join(f"{number} {text}" for number in range(first, first + 50)))
            for _ in range(50):
                await alice.line()
        numbers: list[int] = []
        while len(numbers) < 1500:
            event = await stream.event()
            if event["type"] == "message":  # not a heartbeat
                numbers.append(int(event["text"].split()[0]))
        assert numbers == list(range(1500))

    any_server.play_served(part)


def test_a_stream_behind_the_log_ends() -> None:
    """When the log drops messages that a stream has not read, its last event is `too_slow`."""

    async def part() -> None:
        async with serving(
            replace(settings_of(parse_options(["start", "--rate", "0"])), port=0, log_messages=50)
        ) as server:
            wire = await Wire.connect(server.url)
            small = wire.writer.get_extra_info("socket")
            small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(request_head(server.url, "GET", "/stream"))
            stream = Stream(wire, *await read_head(wire))
            alice = await ServedDeployment(server.url).open("/?name=alice", as_json=False)
            for _ in range(20):
                await alice.send("\n".join(["x" * 4000] * 20))
                for _ in range(20):
                    await alice.line()
            events = await events_of(stream)
            last = events[-1]
            assert (last["type"], last["code"]) == ("error", "too_slow")
            assert events[2]["seq"] == 1, "it received what fitted into the buffers before"

    run_alone(part)


def test_stalled_requests_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose client reads nothing is cut after a while, as is a post without its body."""
    monkeypatch.setattr(stream_connection, "STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(http_connection, "BODY_TIMEOUT_S", 0.2)

    async def part() -> None:
        async with serving(settings(limits=AdmissionLimits(rate=0))) as server:
            late = await Wire.connect(server.url)
            late.send(request_head(server.url, "POST", "/", "Content-Length: 9") + b"half")
            reply = await read_response(late)
            assert (reply.status, reply.line) == (408, "message did not arrive within 0.2 s")
            wire = with_small_receive_buffer(await Wire.connect(server.url))
            wire.send(request_head(server.url, "GET", "/stream"))
            await read_head(wire)
            while 'closes_total{code="1006"} 1' not in server.metrics_text():
                assert (await post(server.url, "/", "x" * 4000)).status == 200

    run_alone(part)


def test_a_server_that_stops_ends_its_streams() -> None:
    """When the server stops, subscribers are told so, and the response ends properly."""

    async def part() -> None:
        async with serving(settings()) as server:
            streams = [await Stream.open(server.url, "/stream") for _ in range(2)]
            for stream in streams:
                await stream.event()
            await server.stop()
            for stream in streams:
                assert await stream.event() == STOPPING
                with pytest.raises(EOFError):
                    await stream.event()

    run_alone(part)


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_a_django_server_that_stops_ends_its_streams(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    """A stream does not delay the shutdown of Daphne or uvicorn, and is told about it."""

    async def part(site: Running) -> None:
        stream = await Stream.open(listening(site), "/stream")
        await stream.event()
        site.process.send_signal(signal.SIGTERM)
        assert await stream.event() == STOPPING
        with pytest.raises(EOFError):
            await stream.event()
        await Wire.cut_all()

    with running(*command, BROADCAST_DATA=str(tmp_path)) as site:
        run_alone(lambda: part(site))
        assert site.wait() == (-signal.SIGTERM if command == UVICORN else 0)


def test_last_event_id_after_a_restart(tmp_path: Path) -> None:
    """With a log file, Last-Event-ID resumes a stream across a restart."""

    async def part() -> None:
        kept = settings(log=tmp_path / "log")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "one")
            stream = await Stream.open(server.url, "/stream?history=1", SSE)
            await stream.server_sent_event(), await stream.server_sent_event()
            last = (await stream.server_sent_event())["id"]
            await post(server.url, "/?name=ci", "two")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "three")
            stream = await Stream.open(server.url, "/stream", SSE, f"Last-Event-ID: {last}")
            await stream.server_sent_event(), await stream.server_sent_event()
            texts = [
                json.loads((await stream.server_sent_event())["data"])["text"] for _ in range(2)
            ]
            assert texts == ["two", "three"]

    run_alone(part)


def test_streams_and_posts_are_counted(own_server: Player) -> None:
    """Streams and posts have their own metrics."""

    async def part(deployment: ServedDeployment) -> None:
        before = samples((await send_request(deployment.url, "GET", "/metrics")).body)
        stream = await Stream.open(deployment.url, "/stream?room=figures")
        await stream.event()
        await post(deployment.url, "/?room=figures", "hi")
        during = samples((await send_request(deployment.url, "GET", "/metrics")).body)
        for name in ("streams", "clients", "rooms", "joins_total", "posts_total", "messages_total"):
            assert during[f"broadcast_{name}"] == before[f"broadcast_{name}"] + 1, name
        await stream.event()

    own_server.play_served(part)


# -- authorization and limits --


def test_requests_of_other_origins(any_server: Player) -> None:
    """A page of another origin may neither post nor subscribe, unless its origin is allowed."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        evil, friend = "Origin: http://evil.example", "Origin: https://friend.example"
        for reply in (
            await post(url, "/?room=origin", "hi", evil),
            await send_request(url, "GET", "/stream?room=origin", evil),
            await send_request(url, "OPTIONS", "/", evil, "Access-Control-Request-Method: POST"),
        ):
            assert (reply.status, reply.line) == (403, "this origin is not allowed")
            assert "access-control-allow-origin" not in reply.headers
        asked = (
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization",
        )
        reply = await send_request(url, "OPTIONS", "/", friend, *asked)
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == "https://friend.example"
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert "Authorization" in reply.headers["access-control-allow-headers"]
        for reply in (
            await post(url, "/?room=origin", "hi", friend),
            await post(url, "/?room=origin", "", friend),
            await send_request(url, "GET", "/stream?room=origin&poll=1", friend),
        ):
            assert reply.headers["access-control-allow-origin"] == "https://friend.example"
            assert "Origin" in reply.headers["vary"]
        own = await post(url, "/?room=origin", "hi", "Origin: " + url.replace("ws:", "http:")[:-1])
        assert own.status == 200

    any_server.play_served(part, ("--allow-origin", "https://friend.example"))


SITE_PAGES = ("/accounts/login/", "/admin/", "/static/admin/css/base.css")
"""Pages of the Django deployment. The standalone server has its page there, or nothing."""

PAGE_ONLY = "this address was opened or embedded by a page of another site, open it by itself"
FORM = "a form of a page does not publish, send the message as the body of a request"


def test_requests_of_other_sites(any_server: Player) -> None:
    """What a page of another site opens or embeds is rejected, except the page and the program."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        friend = "Origin: https://friend.example"
        stream = "/stream?room=site&poll=1"
        for site in ("cross-site", "same-site"):
            for mode, more in (("navigate", ()), ("no-cors", ()), ("navigate", (friend,))):
                marks = f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}", *more
                for method, target in (
                    ("GET", stream), ("OPTIONS", "/"), ("GET", "/healthz"),
                    ("GET", "/metrics"), ("GET", "/chat/metrics"), ("GET", "/nothing"),
                ):  # fmt: skip
                    reply = await send_request(url, method, target, *marks)
                    assert reply.status == 403, (method, target, marks)
                reply = await post(url, "/?room=site", "hi", *marks)
                assert (reply.status, reply.line) == (403, PAGE_ONLY)
                assert (await send_request(url, "GET", "/", *marks)).status == 200
            own_marks = f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: cors", friend
            assert (await send_request(url, "GET", stream, *own_marks)).status == 200
            assert (await post(url, "/?room=site", "hi", *own_marks)).status == 200
        for site in ("none", "same-origin"):
            marks = f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate"
            assert (await send_request(url, "GET", stream, *marks)).status == 200
            assert (await send_request(url, "GET", "/metrics", *marks)).status == 200
            reply = await post(url, "/?room=site", "hi", *marks)
            assert (reply.status, reply.line) == (403, FORM)
        own = "Origin: " + url.replace("ws:", "http:")[:-1]
        reply = await post(url, "/?room=site", "hi", own, "Accept: text/html,*/*;q=0.8")
        assert (reply.status, reply.line) == (403, FORM)
        reply = await post(url, "/?room=site", "hi", own, "Accept: */*")
        assert reply.status == 200

    any_server.play_served(part, ("--allow-origin", "https://friend.example"))


def test_no_response_can_be_embedded(any_server: Player) -> None:
    """Every response forbids pages of other sites to show, to embed or to reinterpret it."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        for reply in (
            await send_request(url, "GET", "/stream?poll=1"),
            await send_request(url, "GET", "/"),
            await send_request(url, "GET", "/metrics"),
            await send_request(url, "GET", "/healthz"),
            await send_request(url, "OPTIONS", "/"),
            await post(url, "/?room=embed", "hi"),
            await post(url, "/?room=embed", ""),
            *[await send_request(url, "GET", path) for path in SITE_PAGES],
            await post(url, "/accounts/login/", "name=bob"),
        ):
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["x-frame-options"] == "DENY"
            assert reply.headers["cross-origin-resource-policy"] == "same-origin"

    any_server.play_served(part)


def test_requests_to_other_hosts(any_server: Player) -> None:
    """A page whose own name was made to resolve to the server gets nothing under that name."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        evil = "Host: evil.example", "Origin: http://evil.example"

        async def status(*lines: str, body: str = "") -> int:
            wire = await Wire.connect(url)
            wire.send("\r\n".join([*lines, "Connection: close", "", body]).encode())
            return (await read_head(wire))[0]

        length = "Content-Length: 2"
        upgrade = (
            "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        )  # fmt: skip
        rejected = {400, 403, 421}
        for host in (evil, evil[:1], ("Host: localhost", evil[0]), (evil[0], "Host: localhost")):
            assert await status("POST /?room=evil HTTP/1.1", *host, length, body="hi") in rejected
            for target in ("/stream?poll=1", "/", "/healthz", "/metrics", *SITE_PAGES):
                assert await status(f"GET {target} HTTP/1.1", *host) in rejected
            assert await status("OPTIONS / HTTP/1.1", *host) in rejected
        wire = await Wire.connect(url)
        wire.send("\r\n".join(
            ["GET / HTTP/1.1", *evil, "Connection: Upgrade", *upgrade, "", ""]
        ).encode())  # fmt: skip
        assert (await read_head(wire))[0] in rejected
        port = urlsplit(url).port
        for name in (f"LocalHost:{port}", "localhost.", "a.localhost", "127.0.0.1", "[::1]:80"):
            assert await status("GET /stream?poll=1 HTTP/1.1", f"Host: {name}") == 200, name
        for name in ("evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "a b"):
            assert await status("GET /stream HTTP/1.1", f"Host: {name}") in rejected, name

    any_server.play_served(part)


def test_a_subprotocol_that_is_not_ascii(any_server: Player) -> None:
    """It is rejected, or ignored where the library does not show it; it is no error of ours."""

    async def part(deployment: ServedDeployment) -> None:
        url = deployment.next_url()
        wire = await Wire.connect(url)
        head = request_head(
            url, "GET", "/",
            "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Protocol: @",
        )  # fmt: skip
        wire.send(head.replace(b"@", b"\xff"))
        status = (await read_head(wire))[0]
        assert status == (101 if any_server.kind in ("daphne", "cluster") else 400)
        wire.cut()

    any_server.play_served(part)


BEARER = "Authorization: Bearer s3cret"


def test_http_requests_need_the_token(own_server: Player, token_file: str) -> None:
    """Without the token, requests get 401; wrong tokens are throttled as on the WebSocket."""
    proxied = "--token-file", token_file, "--trusted-proxy", "127.0.0.1"

    async def part(deployment: ServedDeployment) -> None:
        mallory = "X-Forwarded-For: 192.0.2.1"
        for reply in (
            await post(deployment.url, "/", "hi"),
            await send_request(deployment.url, "GET", "/stream"),
        ):
            assert reply.status == 401
            assert reply.line == "this server requires a token: ask its operator for one"
            assert reply.headers["www-authenticate"] == "Bearer"
        wire = await Wire.connect(deployment.url)
        wire.send(request_head(deployment.url, "HEAD", "/stream"))
        assert (await read_head(wire))[0] == 401
        assert await wire.read_to_end() == b""
        for _ in range(3):
            reply = await post(deployment.url, "/", "hi", mallory, "Authorization: Bearer guess")
            assert reply.status == 401
        began = asyncio.get_running_loop().time()
        assert (await post(deployment.url, "/", "hi", mallory, BEARER)).json["count"] == 0
        assert 0.45 < asyncio.get_running_loop().time() - began < 5
        stream = await Stream.open(deployment.url, "/stream?history=1", BEARER)
        await stream.event()
        assert (await stream.event())["text"] == "hi"

    own_server.play_served(part, proxied)


def test_streams_are_counted_as_clients(own_server: Player) -> None:
    """A stream counts towards the client limit until it ends."""

    async def part(deployment: ServedDeployment) -> None:
        stream = await Stream.open(deployment.url, "/stream")
        await stream.event()
        reply = await send_request(deployment.url, "GET", "/stream")
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert reply.line == "server is at its limit of 1 clients, try again later"
        assert (await post(deployment.url, "/", "hi")).status == 503
        stream.wire.cut()
        reply = await post(deployment.url, "/", "hi")
        while reply.status == 503:  # the server has not noticed the end yet
            reply = await post(deployment.url, "/", "hi")
        assert reply.json["count"] == 0

    own_server.play_served(part, ("--max-clients", "1"))


def test_the_rate_limit_for_posts_of_one_address(own_server: Player) -> None:
    """Above the rate of one client, 429 with Retry-After; other addresses are not delayed."""
    options = "--rate", "1", "--trusted-proxy", "127.0.0.1"

    async def part(deployment: ServedDeployment) -> None:
        here, there = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
        for _ in range(20):
            assert (await post(deployment.url, "/", "hi", here)).status == 200
        for _ in range(20):
            reply = await post(deployment.url, "/", "hi", here)
            if reply.status == 429:
                break
        assert reply.headers["retry-after"] == "1"
        assert reply.line == ("more than 1 messages a second from your address, try again later")
        assert (await post(deployment.url, "/", "hi", there)).status == 200

    own_server.play_served(part, options)
