"""The server: time, slow readers, and the end.

These look inside, or need a server with little patience; what can be seen from
outside alone is in test_conformance.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from urllib.parse import urlsplit

import pytest
from houses import INSTALLED, ServedHouse, SocketVisitor, serving
from programs import Running, running
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin
from wire import CLOSE, PING, PONG, TEXT, Wire

from broadcast_server.arrival import Arrival
from broadcast_server.connection import Socket, Times
from broadcast_server.exchange import Exchange
from broadcast_server.gate import Limits
from broadcast_server.history import Log
from broadcast_server.server import EMPTY_ROOMS, Server, Settings

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
                await Wire.cut_all()

    asyncio.run(run())


QUICK = Settings(port=0, times=Times(handshake=0.1, ping=0.1, close=0.1))


# -- before there is a socket ---------------------------------------------------


def test_half_a_handshake_is_dropped() -> None:
    """Who sends half a request, or none, and waits, is cut; the others notice nothing."""

    async def part(server: Server, house: ServedHouse) -> None:
        for half in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"):
            wire = await Wire.dial(server.url)
            wire.send(half)
            assert await wire.ended() == b""
        assert not server._open

    play(part, Settings(port=0, times=Times(handshake=0.1)))


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


# -- time -----------------------------------------------------------------------


def test_a_request_is_let_go_when_it_is_answered() -> None:
    """Nothing of a request's headers is kept for as long as its WebSocket lasts."""

    async def part(server: Server, house: ServedHouse) -> None:
        await Wire.open(server.url, "/?name=bob", "X-Mark: of this test")
        # Not isinstance, which asks weak proxies that others left behind.
        kept = [each for each in gc.get_objects() if type(each) is Headers]
        assert not [each for each in kept if "X-Mark" in each]

    play(part)


def test_a_dead_peer_is_found() -> None:
    """Who answers no ping is closed, and the others see it leave."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        dead = await Wire.open(server.url, "/?name=dead")
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
        wire = await Wire.open(server.url, "/?name=bob")
        for _ in range(3):
            opcode, payload = await wire.got()
            assert opcode == PING
            wire.frame(PONG, payload)
        wire.frame(TEXT, b"still here")
        while (got := await wire.got())[0] == PING:
            wire.frame(PONG, got[1])
        assert got == (TEXT, b"bob: still here")

    play(part, QUICK)


def test_who_is_not_read_is_not_dead() -> None:
    """A peer whose messages wait for its rate is not taken for dead: its pongs wait as well."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=bob")
        for number in range(8):
            wire.frame(TEXT, b"%d" % number)
        texts: list[bytes] = []
        while len(texts) < 8:
            opcode, payload = await wire.got()
            assert opcode in (PING, TEXT), payload
            texts += payload.split(b"\n") if opcode == TEXT else []
        assert texts == [b"bob: %d" % number for number in range(8)]

    play(part, Settings(port=0, times=Times(ping=0.1), limits=Limits(rate=4)))


def test_a_closing_handshake_has_a_limit() -> None:
    """Who does not answer our close is cut."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
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


def test_half_a_connection_that_is_not_read_ends() -> None:
    """Who ends its side and reads nothing of ours is cut, and not waited for."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=deaf")
        (socket,) = server._seats
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        loud = await house.open("/?name=loud", as_json=False)
        while not socket.paused:
            await loud.send("\n".join(["x" * 4000] * 200))
            for _ in range(200):
                await loud.line()
        wire.writer.write_eof()
        assert await loud.line() == "deaf left the chat"
        for _ in range(200):
            if socket not in server._open:
                break
            await asyncio.sleep(0.01)
        assert socket not in server._open

    play(part, Settings(port=0, times=Times(close=0.1)))


def test_a_reset_before_our_end() -> None:
    """Who resets a connection that we are about to end is forgotten, and nothing is raised."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
        while (await wire.got())[0] != CLOSE:
            pass
        (connection,) = server._open
        assert isinstance(connection, Socket)
        reset = struct.pack("ii", 1, 0)
        wire.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, reset)
        wire.cut()
        # Its answer has been read, but had to wait for its turn; the reset is there before.
        answered = asyncio.get_running_loop().create_future()

        def answer() -> None:
            connection._protocol.receive_data(b"\x88\x80\x00\x00\x00\x00")
            connection._flush()
            answered.set_result(None)

        asyncio.get_running_loop().call_soon(answer)
        await asyncio.wait_for(answered, 5)
        for _ in range(100):
            if not server._open:
                break
            await asyncio.sleep(0.01)
        assert not server._open

    play(part)


def test_talking_on_does_not_put_off_the_end() -> None:
    """Who does not answer our close but goes on sending is cut all the same."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=a:b")
        ended = asyncio.ensure_future(wire.ended())
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not ended.done() and loop.time() < began + 5:
            wire.frame(PING, b"still here")
            await asyncio.sleep(0.01)
        assert 0.05 < loop.time() - began < 5
        await ended

    play(part, QUICK)


def test_who_asks_and_does_not_read_is_cut() -> None:
    """Answers to pings that nobody reads do not pile up for ever."""

    async def part(server: Server, house: ServedHouse) -> None:
        wire = await Wire.open(server.url, "/?name=deaf")
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (socket,) = server._seats
        loop = asyncio.get_running_loop()
        began = loop.time()
        while server._seats and loop.time() < began + 20:
            for _ in range(1000):
                wire.frame(PING, b"x" * 125)
            await asyncio.wait({asyncio.ensure_future(wire.writer.drain())}, timeout=0.1)
        assert not server._seats
        assert socket._transport.is_closing()

    play(part)


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
        await alice.heard_nothing(2)

    play(part, Settings(port=0, head=0.02))


def test_new_names_are_logged_and_given_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each new name is in the log of the server, and with each sign of life there are more."""
    caplog.set_level(logging.INFO)

    async def part(server: Server, house: ServedHouse) -> None:
        bob = await house.open("/?name=bob", as_json=True)
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

    play(part, Settings(port=0, head=0.2))


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
        slow = await Wire.open(server.url, "/?name=slow")
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
        slow = await Wire.open(
            server.url, "/?name=slow", "Sec-WebSocket-Protocol: broadcast.v1.json"
        )
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


def test_a_frame_that_fills_turns_harms_nobody() -> None:
    """Who says thousands of things in one frame, then asks, gets it all, as do the others."""

    async def part(server: Server, house: ServedHouse) -> None:
        alice = await house.open("/?name=alice", as_json=False)
        bob = await house.open("/?name=bob&history=1", as_json=True)
        says = [f'{{"type":"say","text":"{number}"}}' for number in range(9000)]
        await bob.send("\n".join([*says, '{"type":"ping","id":"p"}', '{"type":"members"}']))
        assert await alice.line() == "bob joined the chat"
        for number in range(9000):
            assert await alice.line() == f"bob: {number}"
        kinds: list[str] = []
        while not kinds or kinds[-1] != "members":
            kinds.append(json.loads(await bob.line())["type"])
        assert kinds == ["welcome", *["message"] * 9000, "pong", "members"]

    play(part, Settings(port=0, log_messages=10_000))


def test_who_is_expelled_by_its_own_words() -> None:
    """A member that does not read, and is expelled for what it asked, disturbs nobody else."""

    async def part(server: Server, house: ServedHouse) -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        alice = await house.open("/?name=alice", as_json=False)
        deaf = await Wire.open(
            server.url, "/?name=deaf", "Sec-WebSocket-Protocol: broadcast.v1.json"
        )
        (socket,) = [each for each in server._seats if server._seats[each][1].name == "deaf"]
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert await alice.line() == "deaf joined the chat"
        says = json.dumps({"type": "say", "text": "x" * 4000})
        while not socket.paused:
            deaf.frame(TEXT, "\n".join([says] * 200).encode())
            for _ in range(200):
                assert (await alice.line()).startswith("deaf: xx")
        # More answers than may wait for it, with words between them.
        frame = ['{"type":"ping"}'] * 4000 + ['{"type":"say","text":"y"}'] * 500
        deaf.frame(TEXT, "\n".join([*frame, *['{"type":"ping"}'] * 500]).encode())
        for _ in range(500):
            assert await alice.line() == "deaf: y"
        assert await alice.line() == "deaf left the chat"
        await alice.heard_nothing(1)
        assert complaints == []

    play(part)


def test_a_fast_reader_catches_up_with_a_flood() -> None:
    """Who comes with a long history into a flood, and reads, is not left behind by it."""

    async def part(server: Server, house: ServedHouse) -> None:
        loud = [await house.open(f"/?name=loud{each}", as_json=True) for each in range(4)]
        says = "\n".join(['{"type":"say","text":"x"}'] * 1000)

        async def flood(one: SocketVisitor, name: str, frames: int) -> None:
            for _ in range(frames):
                await one.send(says)
                got = 0
                while got < 1000:
                    event = json.loads(await one.line())
                    got += event["type"] == "message" and event["name"] == name

        await flood(loud[0], "loud0", 10)
        floods = [flood(one, f"loud{place}", 5) for place, one in enumerate(loud)]
        flooding = [asyncio.ensure_future(each) for each in floods]
        late = await Wire.open(server.url, "/?name=late&history=50000")
        count = 0
        while count < 30_000:
            opcode, payload = await late.got()
            assert opcode == TEXT, payload
            count += payload.count(b": x")
        await asyncio.gather(*flooding)

    play(part)


def test_who_does_not_take_an_answer_is_not_read() -> None:
    """What comes behind a request whose answer nobody takes does not pile up."""

    async def part(server: Server) -> None:
        wire = await Wire.dial(server.url)
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire.send(b"GET /broadcast-server.pyz HTTP/1.1\r\nHost: x\r\n\r\n")
        exchanges: list[Exchange] = []
        for _ in range(200):
            exchanges = [each for each in server._open if isinstance(each, Exchange)]
            if exchanges and exchanges[0]._paused:
                break
            await asyncio.sleep(0.01)
        assert not exchanges[0]._transport.is_reading()
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await wire.ended()).endswith(b"y" * 2**25)

    async def run() -> None:
        server = Server(Settings(port=0), program=b"y" * 2**25)
        await server.listen()
        try:
            await part(server)
        finally:
            await server.stop()
            await Wire.cut_all()

    asyncio.run(run())


# -- the end --------------------------------------------------------------------


def test_stopping_tells_everyone() -> None:
    """When the server stops everyone gets what was said, the reason, and 4001."""

    async def part(server: Server, house: ServedHouse) -> None:
        visitors = [await house.open(f"/?name=v{each}", as_json=each > 4) for each in range(10)]
        idle = await Wire.dial(server.url)
        await visitors[0].send("last words")
        while "last words" not in await visitors[0].line():
            pass
        await server.stop()
        for visitor in visitors:
            lines: list[str] = []
            while "stopping" not in (lines or [""])[-1]:
                lines.append(await visitor.line())
            with pytest.raises(EOFError, match="4001"):
                await visitor.line()
            assert "the server is stopping" in lines[-1]
            assert visitor is visitors[0] or any("last words" in line for line in lines)
        assert await idle.ended() == b""

    play(part)


def test_stopping_does_not_wait_for_the_dead() -> None:
    """A client that does not answer the goodbye holds a stop up for the grace, no longer."""

    async def part(server: Server, house: ServedHouse) -> None:
        dead = await Wire.open(server.url, "/?name=dead")
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
            ending(await Wire.open(server.url, "/?name=cut"))
            ending(await Wire.dial(server.url))
            half = await Wire.dial(server.url)
            half.send(b"GET / HTTP/1.1\r\n")
            ending(half)
            asking = await Wire.dial(server.url)
            asking.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asking.head()
            ending(asking)
        for frame in (
            b"\x82\x80\x00\x00\x00\x00",
            b"\x81\x82\x00\x00\x00\x00\xc3\x28",
            b"\x83\x00",
        ):
            wire = await Wire.open(server.url, "/?name=broken")
            wire.send(frame)
            wire.frame(CLOSE, b"")
            await wire.ended()
            wire.writer.close()
        refused = await Wire.open(server.url, "/?name=a:b")
        refused.frame(CLOSE, b"")
        await refused.ended()
        refused.writer.close()
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            await house.open("/nowhere", as_json=False)

    async def part(server: Server, house: ServedHouse) -> None:
        await lose(server, house)
        kinds = (Arrival, Socket, Exchange)
        for _ in range(200):
            gc.collect()
            left = sum(type(each) in kinds for each in gc.get_objects())
            if not left:
                break
            await asyncio.sleep(0.01)
        assert left == 0
        assert not server._open and not server._seats and not server._rooms

    play(part)


# -- the log in a file ------------------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_goes_on_where_it_was(tmp_path: Path, end: signal.Signals) -> None:
    """With --log a client resumes across a restart, and what it says again is said once."""
    command = *INSTALLED, "start", "--port", "0", "--log", str(tmp_path / "rooms.log")
    target = "/?name=bob&session=0123456789abcdef"

    async def before(site: Running) -> str:
        house = ServedHouse(site.url)
        bob = await house.open(target, as_json=True)
        epoch = str(json.loads(await bob.line())["epoch"])
        await bob.send('{"type":"say","text":"one","id":"1"}')
        assert json.loads(await bob.line())["seq"] == 1
        site.process.send_signal(end)
        await asyncio.to_thread(site.process.wait)
        await bob.close()
        return epoch

    async def after(site: Running, epoch: str) -> None:
        house = ServedHouse(site.url)
        bob = await house.open(f"{target}&since={epoch}.0", as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["seq"]) == (epoch, True, 1)
        assert json.loads(await bob.line())["text"] == "one"
        await bob.send('{"type":"say","text":"one","id":"1"}')
        await bob.send('{"type":"say","text":"two","id":"2"}')
        assert json.loads(await bob.line())["seq"] == 2
        await house.close()

    with running(*command) as site:
        epoch = asyncio.run(before(site))
    with running(*command) as site:
        asyncio.run(after(site, epoch))
        assert site.signal(signal.SIGTERM) == 0


def test_nothing_is_told_before_it_is_kept(tmp_path: Path) -> None:
    """What anyone has heard is in the file, whoever is closed in the middle of a turn."""
    settings = Settings(port=0, log=tmp_path / "rooms.log")

    async def part(server: Server, house: ServedHouse) -> None:
        file = server._file
        assert file is not None
        await house.open("/?name=bob", as_json=False)
        # Its last lines end the connection, right after what came before them.
        eve = await house.open("/?name=eve", as_json=True)
        await eve.line()
        oops = "\n".join(["oops"] * 10)
        await eve.send('{"type":"say","text":"one"}\n' + oops)
        assert json.loads(await eve.line())["seq"] == 1
        log = Log()
        file.fill("lobby", log)
        assert log.head == 1

    play(part, settings)


def test_a_full_disk_does_not_stop_the_room(tmp_path: Path) -> None:
    """When the file cannot be written everyone is told, and goes on; and again when it can."""
    settings = Settings(port=0, log=tmp_path / "rooms.log")

    async def part(server: Server, house: ServedHouse) -> None:
        file = server._file
        assert file is not None
        bob = await house.open("/?name=bob", as_json=False)
        (pages,) = file._base.execute("PRAGMA page_count").fetchone()
        file._base.execute(f"PRAGMA max_page_count={pages}")
        texts = [str(number) * 4000 for number in range(9)]
        await bob.send("\n".join(texts))
        heard = [await bob.line() for _ in range(10)]
        assert "* what is said is not recorded, ask who runs the server" in heard
        assert [line for line in heard if line.startswith("bob: ")] == [f"bob: {t}" for t in texts]
        eve = await house.open("/?name=eve", as_json=False)
        assert await eve.line() == "* what is said is not recorded, ask who runs the server"
        file._base.execute("PRAGMA max_page_count=1000000")
        file._again = 0.0
        await eve.send("hi")
        assert {await eve.line(), await eve.line()} == {
            "* what is said is recorded again",
            "eve: hi",
        }
        log = Log()
        file.fill("lobby", log)
        assert log.head == 10

    play(part, settings)


@pytest.mark.parametrize("file", [None, "rooms.log"])
def test_who_comes_back_to_an_empty_room_missed_nothing(tmp_path: Path, file: str | None) -> None:
    """A room in which nothing was said is the same room when its last member comes back."""
    settings = Settings(port=0, log=tmp_path / file if file else None)

    async def part(server: Server, house: ServedHouse) -> None:
        other = await house.open("/?name=eve&room=other", as_json=False)
        bob = await house.open("/?name=bob", as_json=True)
        epoch = json.loads(await bob.line())["epoch"]
        await bob.close()
        await other.heard_nothing(1)
        assert "lobby" not in server._rooms
        bob = await house.open(f"/?name=bob&since={epoch}.0", as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["missed"]) == (epoch, True, 0)
        third = await house.open("/?name=bob&room=third", as_json=True)
        assert json.loads(await third.line())["epoch"] != epoch

    play(part, settings)


def test_a_room_that_was_forgotten_is_another() -> None:
    """A room that begins anew after it was forgotten has an epoch that nobody was told before."""

    async def part(server: Server, house: ServedHouse) -> None:
        epochs = []
        for _ in range(2):
            bob = await house.open("/?name=bob", as_json=True)
            epochs.append(json.loads(await bob.line())["epoch"])
            await bob.send('{"type":"say","text":"hi"}')
            assert json.loads(await bob.line())["seq"] == 1
            await bob.close()
            for number in range(EMPTY_ROOMS):
                eve = await house.open(f"/?name=eve&room=r{number}", as_json=False)
                await eve.send("hi")
                await eve.line()
                await eve.close()
        assert epochs[0] != epochs[1]

    play(part)


def test_empty_rooms_are_bounded() -> None:
    """Of the rooms that nobody is in, the longest empty go, and the silent ones at once."""

    async def part(server: Server, house: ServedHouse) -> None:
        visitor = await house.open("/?room=silent", as_json=False)
        await visitor.close()
        for number in range(258):
            visitor = await house.open(f"/?room=r{number}", as_json=False)
            await visitor.send("hi")
            await visitor.line()
            await visitor.close()
        watcher = await house.open("/?room=r0", as_json=False)
        await watcher.heard_nothing(1)
        assert len(server._idle) == 256 and "r0" not in server._idle and "r1" not in server._idle
        assert set(server._rooms) == {"r0"}

    play(part)


def test_empty_rooms_are_bounded_in_text() -> None:
    """Rooms that nobody is in are forgotten, too, when there is much text in them."""

    async def part(server: Server, house: ServedHouse) -> None:
        for number in range(6):
            visitor = await house.open(f"/?room=r{number}", as_json=False)
            text = "\n".join(["x" * 2**17] * 7)
            for _ in range(16):
                await visitor.send(text)
                for _ in range(7):
                    await visitor.line()
            await visitor.close()
        watcher = await house.open("/?room=last", as_json=False)
        await watcher.heard_nothing(1)
        assert set(server._idle) == {"r2", "r3", "r4", "r5"}

    play(part, Settings(port=0, max_message_bytes=2**17))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on open files")
def test_more_clients_than_files_are_usual() -> None:
    """The server raises its limit on open files, as each client is one."""
    limited = 'ulimit -Sn 40 && exec "$@"'
    with running("bash", "-c", limited, "bash", *INSTALLED, "start", "--port", "0") as server:

        async def part() -> None:
            house = ServedHouse(server.url)
            visitors = [await house.open("/?name=v", as_json=False) for _ in range(60)]
            await visitors[-1].heard_nothing(60)
            await house.close()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0
