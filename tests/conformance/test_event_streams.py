"""Subscribing over HTTP with GET /stream, on each deployment."""

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
from curl import Stream, post, read_head, read_response, request_head, send_request
from deployments import ServedDeployment, serving
from metrics_samples import samples
from programs import Running, listening, running
from services import site_folder
from wire import Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.server import http_connection, stream_connection
from broadcast_server.server.settings import Settings

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
        alice = await deployment.open("/?name=alice&room=since", as_json=False)
        await alice.send("\n".join(map(str, range(1, 200))))
        for _ in range(1, 200):
            await alice.line()
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
        welcome = json.loads(begin["data"])  # in one block: some clients drop an id without data
        assert welcome["type"] == "welcome"
        assert begin["id"] == f"{welcome['epoch']}.{seq - 1}"
        one = await stream.server_sent_event()
        assert one["id"] == f"{welcome['epoch']}.{seq}"
        assert json.loads(one["data"])["text"] == "one"
        stream.wire.cut()
        await post(url, "/?room=sse&name=ci", "two\nlines")
        last = f"Last-Event-ID: {one['id']}"
        stream = await Stream.open(deployment.next_url(), "/stream?room=sse&history=9", SSE, last)
        begin = await stream.server_sent_event()
        assert begin["id"] == one["id"]
        assert json.loads(begin["data"])["recovered"] is True
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
        alice = await deployment.open("/?name=alice&room=poll", as_json=False)
        await alice.send("\n".join(map(str, range(100))))
        for _ in range(100):
            await alice.line()
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

    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:
        run_alone(lambda: part(site))
        assert site.wait() == (-signal.SIGTERM if command == UVICORN else 0)


def test_last_event_id_after_a_restart(tmp_path: Path) -> None:
    """With a log file, Last-Event-ID resumes a stream across a restart."""

    async def part() -> None:
        kept = settings(log=tmp_path / "log")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "one")
            stream = await Stream.open(server.url, "/stream?history=1", SSE)
            await stream.server_sent_event()
            last = (await stream.server_sent_event())["id"]
            await post(server.url, "/?name=ci", "two")
        async with serving(kept) as server:
            await post(server.url, "/?name=ci", "three")
            stream = await Stream.open(server.url, "/stream", SSE, f"Last-Event-ID: {last}")
            await stream.server_sent_event()
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


def test_server_sent_events_that_are_rejected_for_now(any_server: Player) -> None:
    """An EventSource gives up at another status than 200, so a full server tells it to wait."""
    options = () if any_server.is_django else ("--max-clients", "1")

    async def part(deployment: ServedDeployment) -> None:
        here = "X-Forwarded-For: 192.0.2.9"  # Django's tests allow one client of such an address
        url = deployment.url
        stream = await Stream.open(url, "/stream", here)
        await stream.event()
        assert (await send_request(url, "GET", "/stream", here)).status == 503
        for cursor, more in (("", []), ("e.7", ["Last-Event-ID: e.7"])):
            reply = await Stream.open(url, "/stream", here, SSE, *more)
            assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
            event = await reply.server_sent_event()
            assert 5000 <= int(event["retry"]) < 6000
            assert event.get("id", "") == cursor
            assert json.loads(event["data"])["code"] == "full"
            reply.wire.cut()
        assert (await send_request(url, "GET", "/stream?room=A", here, SSE)).status == 400
        stream.wire.cut()

    any_server.play_served(part, options)
