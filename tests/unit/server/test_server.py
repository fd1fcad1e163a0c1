"""The server: timeouts, slow readers, stopping, the log file, and idle rooms.

These tests look at internals, or need a server with short timeouts. What every deployment does,
as seen by clients, is tested in tests/conformance.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import shutil
import signal
import sqlite3
import struct
import sys
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import urlsplit

import pytest
from deployments import INSTALLED, ServedDeployment, WebSocketClient
from programs import Running, running, say
from server_harness import play
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin
from wire import CLOSE, PING, PONG, TEXT, Wire

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.console.time_limit import run_within
from broadcast_server.http.upload_budget import UploadBudget
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.sqlite_log import MAX_JOURNAL_BYTES
from broadcast_server.server import room_registry
from broadcast_server.server.api import ParticipantConnection, Timeouts
from broadcast_server.server.first_request import FirstRequest
from broadcast_server.server.http_connection import HTTPConnection
from broadcast_server.server.room_registry import MAX_IDLE_ROOMS, RoomRegistry
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.websocket import WebSocketConnection

SHORT_TIMEOUTS = Settings(port=0, timeouts=Timeouts(handshake=0.1, ping=0.1, close=0.1))


def connection_of(server: Server, name: str) -> ParticipantConnection:
    """Return the connection of the member *name*."""
    (found,) = [
        connection
        for connection, (_, participant, _) in server._participants.items()
        if participant.name == name
    ]
    return found


# -- handshakes ------------------------------------------------------------------


def test_half_a_handshake_is_dropped() -> None:
    """A client that sends half a request, or none, and waits is cut."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for half in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"):
            wire = await Wire.connect(server.url)
            wire.send(half)
            assert await wire.read_to_end() == b""
        assert not server._connections

    play(part, Settings(port=0, timeouts=Timeouts(handshake=0.1)))


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
    """A page of the server's own host or a listed origin can connect, any other gets 403."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        given = None
        if origin is not None:
            given = Origin(origin.replace("HOST", urlsplit(server.url).netloc))
        if allowed:
            async with connect(server.url, origin=given, proxy=None):
                pass
        else:
            with pytest.raises(InvalidStatus, match="403"):
                await connect(server.url, origin=given, proxy=None)

    play(part, Settings(port=0, origins=frozenset({"https://friend.example"})))


# -- timeouts and closing ---------------------------------------------------------


def test_request_headers_are_not_kept() -> None:
    """The headers of a request are not kept as long as its WebSocket lasts."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        await Wire.open(server.url, "/?name=bob", "X-Mark: of this test")
        # Not isinstance(), which would dereference the weak proxies of other tests.
        kept = [obj for obj in gc.get_objects() if type(obj) is Headers]
        assert not [headers for headers in kept if "X-Mark" in headers]

    play(part)


def test_a_stale_connection_is_closed() -> None:
    """A client that answers no ping is closed, and the others see it leave."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        dead = await Wire.open(server.url, "/?name=dead")
        assert await alice.line() == "dead joined the chat"
        assert (await dead.read_frame())[0] == PING
        assert await alice.line() == "dead left the chat"
        opcode, payload = await dead.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3")
        assert await dead.read_to_end() == b""
        dead.cut()

    play(part, SHORT_TIMEOUTS)


def test_a_client_that_answers_pings_stays() -> None:
    """A client that answers pings is pinged again and again, and stays."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=bob")
        for _ in range(3):
            opcode, payload = await wire.read_frame()
            assert opcode == PING
            wire.send_frame(PONG, payload)
        wire.send_frame(TEXT, b"still here")
        while (got := await wire.read_frame())[0] == PING:
            wire.send_frame(PONG, got[1])
        assert got == (TEXT, b"bob: still here")

    play(part, SHORT_TIMEOUTS)


def test_a_paused_client_is_not_stale() -> None:
    """A client over its rate limit is not taken for stale, though its pongs wait, too."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=bob")
        for number in range(8):
            wire.send_frame(TEXT, b"%d" % number)
        texts: list[bytes] = []
        while len(texts) < 8:
            opcode, payload = await wire.read_frame()
            assert opcode in (PING, TEXT), payload
            texts += payload.split(b"\n") if opcode == TEXT else []
        assert texts == [b"bob: %d" % number for number in range(8)]

    play(part, Settings(port=0, timeouts=Timeouts(ping=0.1), limits=AdmissionLimits(rate=4)))


def test_a_closing_handshake_has_a_limit() -> None:
    """A client that does not answer the server's close is cut."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
        assert await wire.read_frame() == (TEXT, b"* name contains a colon")
        opcode, payload = await wire.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (4500).to_bytes(2, "big"))
        assert await wire.read_to_end() == b""
        for _ in range(100):
            if not server._connections:
                break
            await asyncio.sleep(0.01)
        assert not server._connections

    play(part, SHORT_TIMEOUTS)


def test_a_half_closed_connection_that_is_not_read_is_cut() -> None:
    """A client that half-closes its connection and reads nothing is cut."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=silent")
        (connection,) = server._participants
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loud = await deployment.open("/?name=loud", as_json=False)
        while not connection.paused:
            await loud.send("\n".join(["x" * 4000] * 200))
            for _ in range(200):
                await loud.line()
        wire.writer.write_eof()
        assert await loud.line() == "silent left the chat"
        for _ in range(200):
            if connection not in server._connections:
                break
            await asyncio.sleep(0.01)
        assert connection not in server._connections

    play(part, Settings(port=0, timeouts=Timeouts(close=0.1)))


def test_a_reset_before_the_server_closes() -> None:
    """A connection reset just before the server ends it is forgotten, and nothing is raised."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
        while (await wire.read_frame())[0] != CLOSE:
            pass
        (connection,) = server._connections
        assert isinstance(connection, WebSocketConnection)
        reset = struct.pack("ii", 1, 0)
        wire.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, reset)
        wire.cut()
        # The client's close frame was read but waited for the next batch. The reset comes first.
        processed = asyncio.get_running_loop().create_future()

        def process() -> None:
            connection._protocol.receive_data(b"\x88\x80\x00\x00\x00\x00")
            connection._flush()
            processed.set_result(None)

        asyncio.get_running_loop().call_soon(process)
        await run_within(processed, 5)
        for _ in range(100):
            if not server._connections:
                break
            await asyncio.sleep(0.01)
        assert not server._connections

    play(part)


def test_sending_on_does_not_extend_a_closing_handshake() -> None:
    """A client that does not answer the server's close but keeps sending is cut all the same."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
        ended = asyncio.ensure_future(wire.read_to_end())
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not ended.done() and loop.time() < began + 5:
            wire.send_frame(PING, b"still here")
            await asyncio.sleep(0.01)
        assert 0.05 < loop.time() - began < 5
        await ended

    play(part, SHORT_TIMEOUTS)


def test_unread_replies_are_bounded() -> None:
    """Pongs that a client does not read do not pile up for ever."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        wire = await Wire.open(server.url, "/?name=silent")
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = server._participants
        assert isinstance(connection, WebSocketConnection)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while server._participants and loop.time() < began + 20:
            for _ in range(1000):
                wire.send_frame(PING, b"x" * 125)
            await asyncio.wait({asyncio.ensure_future(wire.writer.drain())}, timeout=0.1)
        assert not server._participants
        assert connection._transport.is_closing()

    play(part)


def test_heartbeats() -> None:
    """JSON clients get a `head` event at each interval, text clients get nothing."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        bob = await deployment.open("/?name=bob", as_json=True)
        assert await alice.line() == "bob joined the chat"
        await alice.send("hi")
        assert await alice.line() == "alice: hi"
        events = [json.loads(await bob.line()) for _ in range(6)]
        heads = [event["seq"] for event in events if event["type"] == "head"]
        assert heads[-1] == 1 and len(heads) >= 3
        await alice.assert_nothing_new(2)

    play(part, Settings(port=0, heartbeat_interval=0.02))


def test_renames_are_logged_and_limited_per_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    """Each new name is logged, and every heartbeat allows more renames."""
    caplog.set_level(logging.INFO)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob", as_json=True)
        frame = "\n".join(f'{{"type":"name","name":"b{number}"}}' for number in range(11))
        await bob.send(frame)
        while json.loads(await bob.line()).get("code") != "too_often":
            pass
        assert "b9 renamed in lobby, was bob (1 here, 1 client)" in caplog.text
        while json.loads(await bob.line())["type"] != "head":
            pass
        await bob.send('{"type":"name","name":"bob"}')
        while (event := json.loads(await bob.line()))["type"] == "head":
            pass
        assert event == {"type": "renamed", "name": "b9", "to": "bob"}

    play(part, Settings(port=0, heartbeat_interval=0.2))


# -- slow readers ---------------------------------------------------------------


async def flood(deployment: ServedDeployment, count: int, size: int) -> WebSocketClient:
    """Publish *count* messages of *size* bytes, and read them back."""
    loud = await deployment.open("/?name=loud", as_json=False)
    text = "x" * size
    for start in range(0, count, 100):
        await loud.send("\n".join(f"{start + number} {text}" for number in range(100)))
        for number in range(100):
            assert (await loud.line()).startswith(f"loud: {start + number} ")
    return loud


def test_a_slow_reader_gets_everything() -> None:
    """A client that pauses reading costs little, and gets everything in order afterwards."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        slow = await Wire.open(server.url, "/?name=slow")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loud = await flood(deployment, 5000, 3000)
        connection = connection_of(server, "slow")
        assert isinstance(connection, WebSocketConnection)
        assert connection.paused
        buffered = connection._transport.get_write_buffer_size()
        assert buffered < 2**20, "unread messages wait in the log, not in the transport"
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        lines: list[str] = []
        while len(lines) < 5001:
            opcode, payload = await slow.read_frame()
            assert opcode == TEXT
            lines += payload.decode().split("\n")
        assert lines[0] == "loud joined the chat"
        assert [line.split()[1] for line in lines[1:]] == [str(number) for number in range(5000)]
        await loud.send("and on")
        assert await slow.read_frame() == (TEXT, b"loud: and on")
        slow.cut()

    play(part)


def test_a_reader_too_far_behind_is_closed() -> None:
    """A client so slow that the log no longer holds its next message is closed with 4008."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        slow = await Wire.open(
            server.url, "/?name=slow", "Sec-WebSocket-Protocol: broadcast.v1.json"
        )
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loud = await flood(deployment, 5000, 3000)
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while (got := await slow.read_frame())[0] == TEXT:
            last = got
        assert last[1].decode().split("\n")[-1] == (
            '{"type":"error","code":"too_slow","text":"you read too slowly"}'
        )
        assert (got[0], got[1][:2]) == (CLOSE, (4008).to_bytes(2, "big"))
        slow.cut()
        assert await loud.line() == "slow left the chat"

    play(part, Settings(port=0, log_messages=100))


def test_a_frame_of_many_batches() -> None:
    """A client that sends thousands of messages in one frame gets all of them, as do the others."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        alice = await deployment.open("/?name=alice", as_json=False)
        bob = await deployment.open("/?name=bob&history=1", as_json=True)
        requests = [f'{{"type":"say","text":"{number}"}}' for number in range(9000)]
        await bob.send("\n".join([*requests, '{"type":"ping","id":"p"}', '{"type":"members"}']))
        assert await alice.line() == "bob joined the chat"
        for number in range(9000):
            assert await alice.line() == f"bob: {number}"
        kinds: list[str] = []
        while not kinds or kinds[-1] != "members":
            kinds.append(json.loads(await bob.line())["type"])
        assert kinds == ["welcome", *["message"] * 9000, "pong", "members"]

    play(part, Settings(port=0, log_messages=10_000))


def test_a_member_kicked_for_its_own_requests() -> None:
    """A member that does not read, and is kicked for its own requests, disturbs nobody else."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        exceptions: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: exceptions.append(context)
        )
        alice = await deployment.open("/?name=alice", as_json=False)
        silent = await Wire.open(
            server.url, "/?name=silent", "Sec-WebSocket-Protocol: broadcast.v1.json"
        )
        connection = connection_of(server, "silent")
        silent.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert await alice.line() == "silent joined the chat"
        requests = json.dumps({"type": "say", "text": "x" * 4000})
        while not connection.paused:
            silent.send_frame(TEXT, "\n".join([requests] * 200).encode())
            for _ in range(200):
                assert (await alice.line()).startswith("silent: xx")
        # More replies than may wait for it, with messages between them.
        frame = ['{"type":"ping"}'] * 4000 + ['{"type":"say","text":"y"}'] * 500
        silent.send_frame(TEXT, "\n".join([*frame, *['{"type":"ping"}'] * 500]).encode())
        for _ in range(500):
            assert await alice.line() == "silent: y"
        assert await alice.line() == "silent left the chat"
        await alice.assert_nothing_new(1)
        assert exceptions == []

    play(part)


def test_a_fast_reader_catches_up_with_a_flood() -> None:
    """A client that joins with a long history during a flood, and reads, catches up."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        loud = [await deployment.open(f"/?name=loud{index}", as_json=True) for index in range(4)]
        requests = "\n".join(['{"type":"say","text":"x"}'] * 1000)

        async def flood(client: WebSocketClient, name: str, frames: int) -> None:
            for _ in range(frames):
                await client.send(requests)
                echoes = 0
                while echoes < 1000:
                    event = json.loads(await client.line())
                    echoes += event["type"] == "message" and event["name"] == name

        await flood(loud[0], "loud0", 10)
        floods = [flood(client, f"loud{index}", 5) for index, client in enumerate(loud)]
        flooding = [asyncio.ensure_future(coroutine) for coroutine in floods]
        late = await Wire.open(server.url, "/?name=late&history=50000")
        count = 0
        while count < 30_000:
            opcode, payload = await late.read_frame()
            assert opcode == TEXT, payload
            count += payload.count(b": x")
        await asyncio.gather(*flooding)

    play(part)


def test_a_client_that_does_not_read_its_response_is_not_read() -> None:
    """What a client sends while it does not read its response is not read."""

    async def part(server: Server) -> None:
        wire = await Wire.connect(server.url)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.send(b"GET /broadcast-server.pyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connections: list[HTTPConnection] = []
        for _ in range(200):
            connections = [c for c in server._connections if isinstance(c, HTTPConnection)]
            if connections and connections[0]._paused:
                break
            await asyncio.sleep(0.01)
        assert not connections[0]._transport.is_reading()
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await wire.read_to_end()).endswith(b"y" * 2**25)

    async def run() -> None:
        server = Server(Settings(port=0), program=b"y" * 2**25)
        await server.listen()
        try:
            await part(server)
        finally:
            await server.stop()
            await Wire.cut_all()

    asyncio.run(run())


# -- stopping --------------------------------------------------------------------


def test_stopping_notifies_everyone() -> None:
    """When the server stops, every client gets all messages, the reason, and 4001."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        clients = [
            await deployment.open(f"/?name=c{index}", as_json=index > 4) for index in range(10)
        ]
        idle = await Wire.connect(server.url)
        await clients[0].send("last words")
        while "last words" not in await clients[0].line():
            pass
        await server.stop()
        for client in clients:
            lines: list[str] = []
            while "stopping" not in (lines or [""])[-1]:
                lines.append(await client.line())
            with pytest.raises(EOFError, match="4001"):
                await client.line()
            assert "the server is stopping" in lines[-1]
            assert client is clients[0] or any("last words" in line for line in lines)
        assert await idle.read_to_end() == b""

    play(part)


def test_stopping_does_not_wait_for_stale_connections() -> None:
    """A client that does not answer the close delays stopping by the grace period at most."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        dead = await Wire.open(server.url, "/?name=dead")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await server.stop()
        assert 0.1 < loop.time() - began < 5
        assert (await dead.read_frame())[0] == TEXT
        dead.cut()

    play(part, Settings(port=0, grace=0.2))


def test_a_lost_connection_is_not_kept_in_memory() -> None:
    """However a connection is lost, no timer or table keeps it in memory."""

    async def lose(server: Server, deployment: ServedDeployment) -> None:
        client = await deployment.open("/?name=closes", as_json=False)
        await client.close()
        for end in (Wire.cut, lambda wire: wire.writer.close()):
            end(await Wire.open(server.url, "/?name=cut"))
            end(await Wire.connect(server.url))
            half = await Wire.connect(server.url)
            half.send(b"GET / HTTP/1.1\r\n")
            end(half)
            requesting = await Wire.connect(server.url)
            requesting.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await requesting.read_head()
            end(requesting)
        for frame in (
            b"\x82\x80\x00\x00\x00\x00",
            b"\x81\x82\x00\x00\x00\x00\xc3\x28",
            b"\x83\x00",
        ):
            wire = await Wire.open(server.url, "/?name=broken")
            wire.send(frame)
            wire.send_frame(CLOSE, b"")
            await wire.read_to_end()
            wire.writer.close()
        rejected = await Wire.open(server.url, "/?name=a:b")
        rejected.send_frame(CLOSE, b"")
        await rejected.read_to_end()
        rejected.writer.close()
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            await deployment.open("/nowhere", as_json=False)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        await lose(server, deployment)
        kinds = (FirstRequest, WebSocketConnection, HTTPConnection)
        for _ in range(200):
            gc.collect()
            left = sum(type(obj) in kinds for obj in gc.get_objects())
            if not left:
                break
            await asyncio.sleep(0.01)
        assert left == 0
        assert not server._connections and not server._participants and not server._rooms

    play(part)


# -- the log file, and idle rooms -------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_resumes_after_a_restart(tmp_path: Path, end: signal.Signals) -> None:
    """With --log a client resumes after a restart, and a resent message is delivered once."""
    command = *INSTALLED, "start", "--port", "0", "--log", str(tmp_path / "rooms.log")
    target = "/?name=bob&session=0123456789abcdef"

    async def before(server: Running) -> str:
        deployment = ServedDeployment(server.url)
        bob = await deployment.open(target, as_json=True)
        epoch = str(json.loads(await bob.line())["epoch"])
        await bob.send('{"type":"say","text":"one","id":"1"}')
        assert json.loads(await bob.line())["seq"] == 1
        server.process.send_signal(end)
        await asyncio.to_thread(server.process.wait)
        await bob.close()
        return epoch

    async def after(server: Running, epoch: str) -> None:
        deployment = ServedDeployment(server.url)
        bob = await deployment.open(f"{target}&since={epoch}.0", as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["seq"]) == (epoch, True, 1)
        assert json.loads(await bob.line())["text"] == "one"
        await bob.send('{"type":"say","text":"one","id":"1"}')
        await bob.send('{"type":"say","text":"two","id":"2"}')
        assert json.loads(await bob.line())["seq"] == 2
        await deployment.close()

    with running(*command) as server:
        epoch = asyncio.run(before(server))
    with running(*command) as server:
        asyncio.run(after(server, epoch))
        assert server.signal(signal.SIGTERM) == 0


@pytest.mark.parametrize("is_restored", [True, False])
def test_a_restart_after_another_program_has_read(tmp_path: Path, is_restored: bool) -> None:
    """A kill beside a reader of the log file keeps the epoch; a copy from then does not."""
    (folder := tmp_path / "log").mkdir()
    path = folder / "rooms.log"
    command = *INSTALLED, "start", "--port", "0", "--rate", "0", "--log", str(path)

    async def welcome(server: Running, since: str = "") -> dict[str, object]:
        deployment = ServedDeployment(server.url)
        bob = await deployment.open(
            f"/?name=eve&since={since}" if since else "/?name=eve", as_json=True
        )
        event: dict[str, object] = json.loads(await bob.line())
        await deployment.close()
        return event

    with running(*command) as server:
        url = server.url
        reader = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM message").fetchall()
        say(url, "lobby", "bob", *["x" * 4000] * 250)
        assert (
            path.with_name("rooms.log-wal").stat().st_size > MAX_JOURNAL_BYTES
        )  # so it was to be moved
        shutil.copytree(folder, tmp_path / "copy")
        if is_restored:
            say(url, "lobby", "bob", "two", "three")
        before = asyncio.run(welcome(server))
        server.process.kill()
        server.process.wait()
    reader.close()
    if is_restored:
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
    with running(*command) as server:
        after = asyncio.run(welcome(server, f"{before['epoch']}.{before['seq']}"))
    assert after["recovered"] is not is_restored
    assert (after["epoch"] == before["epoch"]) is not is_restored
    assert after["missed"] == (None if is_restored else 0)


def test_messages_are_persisted_before_they_are_delivered(tmp_path: Path) -> None:
    """Each delivered message is in the file, even if its batch closes a connection."""
    settings = Settings(port=0, log=tmp_path / "rooms.log")

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        await deployment.open("/?name=bob", as_json=False)
        # The last lines of this frame are invalid, and get the connection closed.
        eve = await deployment.open("/?name=eve", as_json=True)
        await eve.line()
        invalid = "\n".join(["oops"] * 10)
        await eve.send('{"type":"say","text":"one"}\n' + invalid)
        assert json.loads(await eve.line())["seq"] == 1
        log = MessageLog()
        file.restore("lobby", log)
        assert log.head == 1

    play(part, settings)


def test_a_full_disk_does_not_stop_the_room(tmp_path: Path) -> None:
    """When the log file cannot be written, everyone is told, and again when it can."""
    settings = Settings(port=0, log=tmp_path / "rooms.log")

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        bob = await deployment.open("/?name=bob", as_json=False)
        (pages,) = file._database.execute("PRAGMA page_count").fetchone()
        file._database.execute(f"PRAGMA max_page_count={pages}")
        texts = [str(number) * 4000 for number in range(9)]
        await bob.send("\n".join(texts))
        lines = [await bob.line() for _ in range(10)]
        assert "* what is said is not recorded, ask who runs the server" in lines
        messages = [line for line in lines if line.startswith("bob: ")]
        assert messages == [f"bob: {text}" for text in texts]
        eve = await deployment.open("/?name=eve", as_json=False)
        assert await eve.line() == "* what is said is not recorded, ask who runs the server"
        file._database.execute("PRAGMA max_page_count=1000000")
        file._retry_at = 0.0
        await eve.send("hi")
        assert {await eve.line(), await eve.line()} == {
            "* what is said is recorded again",
            "eve: hi",
        }
        log = MessageLog()
        file.restore("lobby", log)
        assert log.head == 10

    play(part, settings)


@pytest.mark.parametrize("file", [None, "rooms.log"])
def test_reconnecting_to_an_empty_room_misses_nothing(tmp_path: Path, file: str | None) -> None:
    """A room without messages keeps its epoch until its last member reconnects."""
    settings = Settings(port=0, log=tmp_path / file if file else None)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        other = await deployment.open("/?name=eve&room=other", as_json=False)
        bob = await deployment.open("/?name=bob", as_json=True)
        epoch = json.loads(await bob.line())["epoch"]
        await bob.close()
        await other.assert_nothing_new(1)
        assert server._rooms.get("lobby") is None
        bob = await deployment.open(f"/?name=bob&since={epoch}.0", as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["missed"]) == (epoch, True, 0)
        third = await deployment.open("/?name=bob&room=third", as_json=True)
        assert json.loads(await third.line())["epoch"] != epoch

    play(part, settings)


def test_a_dropped_room_gets_a_new_epoch() -> None:
    """A room that is created again after it was dropped has a new epoch."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        epochs = []
        for _ in range(2):
            bob = await deployment.open("/?name=bob", as_json=True)
            epochs.append(json.loads(await bob.line())["epoch"])
            await bob.send('{"type":"say","text":"hi"}')
            assert json.loads(await bob.line())["seq"] == 1
            await bob.close()
            for number in range(MAX_IDLE_ROOMS):
                eve = await deployment.open(f"/?name=eve&room=r{number}", as_json=False)
                await eve.send("hi")
                await eve.line()
                await eve.close()
        assert epochs[0] != epochs[1]

    play(part)


def test_a_room_without_messages_keeps_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rooms are dropped, a room without messages keeps its epoch.

    A room that is dropped again and again never gets an epoch that it had. So it is, too, when the
    server forgets which rooms it has dropped.
    """
    registry = RoomRegistry(Settings(), Metrics(), lambda receiver, code: None)
    empty = registry.open("empty").log.epoch
    seen: dict[str, set[str]] = {}

    def drop(room: str) -> None:
        opened = registry.open(room)
        assert not opened.log.head
        assert opened.log.epoch not in seen.setdefault(room, set())
        seen[room].add(opened.log.epoch)
        opened.log.append("bob", "hi", "now", None, "s")
        registry.close_if_empty(opened)

    def epoch_of_empty() -> str:
        room = registry.open("empty")
        registry.close_if_empty(room)
        return room.log.epoch

    registry.close_if_empty(registry.open("empty"))
    for number in range(4 * (MAX_IDLE_ROOMS + 50)):
        drop(f"r{number % (MAX_IDLE_ROOMS + 50)}")
        assert epoch_of_empty() == empty
    monkeypatch.setattr(room_registry, "MAX_DROPPED_ROOMS", len(registry._drops))
    for number in range(2 * MAX_IDLE_ROOMS):
        drop(f"more{number % (MAX_IDLE_ROOMS + 50)}")
    assert len(registry._drops) <= MAX_IDLE_ROOMS + 50
    assert epoch_of_empty() != empty


def test_idle_rooms_are_bounded() -> None:
    """The rooms that were idle longest are dropped, and rooms without messages at once."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        client = await deployment.open("/?room=silent", as_json=False)
        await client.close()
        for number in range(258):
            client = await deployment.open(f"/?room=r{number}", as_json=False)
            await client.send("hi")
            await client.line()
            await client.close()
        watcher = await deployment.open("/?room=r0", as_json=False)
        await watcher.assert_nothing_new(1)
        assert (
            len(server._rooms._idle) == 256
            and "r0" not in server._rooms._idle
            and "r1" not in server._rooms._idle
        )
        assert [room.room.name for room in server._rooms] == ["r0"]

    play(part)


def test_idle_rooms_are_bounded_in_text() -> None:
    """Idle rooms are also dropped when they hold too much text."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        for number in range(6):
            client = await deployment.open(f"/?room=r{number}", as_json=False)
            text = "\n".join(["x" * 2**17] * 7)
            for _ in range(16):
                await client.send(text)
                for _ in range(7):
                    await client.line()
            await client.close()
        watcher = await deployment.open("/?room=last", as_json=False)
        await watcher.assert_nothing_new(1)
        assert set(server._rooms._idle) == {"r2", "r3", "r4", "r5"}

    play(part, Settings(port=0, max_message_bytes=2**17))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on open files")
def test_more_clients_than_the_soft_limit_on_files() -> None:
    """The server raises its limit on open files, as each client needs one."""
    limited = 'ulimit -Sn 40 && exec "$@"'
    with running("bash", "-c", limited, "bash", *INSTALLED, "start", "--port", "0") as server:

        async def part() -> None:
            deployment = ServedDeployment(server.url)
            clients = [await deployment.open("/?name=c", as_json=False) for _ in range(60)]
            await clients[-1].assert_nothing_new(60)
            await deployment.close()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0


# -- uploads ---------------------------------------------------------------------


def test_the_oldest_upload_is_cut() -> None:
    """What all posts together hold is bounded: the oldest is told to try again."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        server.uploads = UploadBudget(50)
        oldest, newer = [await Wire.connect(server.url) for _ in range(2)]
        for wire in (oldest, newer):
            wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n")
            wire.send(b"x" * 30)
        head = await oldest.read_head()
        assert head.startswith("HTTP/1.1 503 ") and "\r\nRetry-After: " in head
        newer.send(b"x" * 10)
        assert (await newer.read_head()).startswith("HTTP/1.1 200 ")
        for _ in range(5):  # what is given back can be used again
            wire = await Wire.connect(server.url)
            wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n")
            wire.send(b"x" * 40)
            assert (await wire.read_head()).startswith("HTTP/1.1 200 ")
            await wire.read_to_end()

    play(part)
