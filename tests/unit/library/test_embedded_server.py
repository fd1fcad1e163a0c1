"""The library's server: `serve` in the event loop of another program."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from client_harness import play
from log_files import UNDELETABLE, fail
from programs import assert_quiet
from wire import Wire

from broadcast_server import (
    BroadcastError,
    BroadcastServer,
    ConnectError,
    Disconnected,
    DisconnectedError,
    Event,
    Gap,
    Joined,
    Left,
    Members,
    Message,
    MessageHidden,
    MessageTooLongError,
    OperatorAct,
    RejectedError,
    Renamed,
    RoomClosedError,
    ServeError,
    ServerRoom,
    connect,
    serve,
)
from broadcast_server.library import event_queue


def port_of(server: BroadcastServer) -> int:
    """Return the port on which *server* listens."""
    return int(server.url.rpartition(":")[2].rstrip("/"))


async def until_left(server: BroadcastServer) -> None:
    """Wait until nobody is in any room."""
    for _ in range(2000):
        if not server.rooms:
            return
        await asyncio.sleep(0.002)
    raise AssertionError(server.rooms)


def test_what_a_server_sees_and_says() -> None:
    """Rooms, events and messages of its own, beside its clients."""

    async def scenario() -> None:
        async with serve(port=0) as server:
            assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/", server.url)
            assert server.urls == (server.url,)
            events = server.events()
            async with connect(server.url, name="ann", room="ops") as ann:
                assert server.rooms == {"ops": ServerRoom("ops", ("ann",), 0, 0)}
                said = await server.broadcast("ops", "deploy done", name="ci")
                assert (said.seq, said.name, said.own) == (1, "ci", True)
                heard = await ann.receive()
                assert (heard.seq, heard.at, heard.own) == (1, said.at, False)
                answer = await ann.send("good")
                await ann.rename("anna")
                taken = await server.broadcast("ops", "x", name="anna")
                assert taken.name == "anna-2"
                assert server.rooms["ops"].seq == 3
            await until_left(server)
            async with connect(server.url, room="ops", name="ci", quiet=True):
                assert server.rooms["ops"].members == ("ci",)
            await until_left(server)
            nobody = await server.broadcast("empty", "anyone?")
            assert (nobody.name, nobody.seq, dict(server.rooms)) == ("server", 1, {})
        found = [event async for event in events]
        assert found[:2] == [Joined("ops", "ann", 1, verified=False), said]
        assert isinstance(found[2], Message)
        assert (found[2].seq, found[2].own) == (answer.seq, False)
        assert found[3:] == [
            Renamed("ops", "ann", "anna"),
            taken,
            Left("ops", "anna", 0),
            Joined("ops", "ci", 1, verified=False, quiet=True),
            Left("ops", "ci", 0, quiet=True),
            nobody,
        ]

    play(scenario)


def test_a_program_is_an_operator_of_its_rooms() -> None:
    """It kicks, mutes, locks, announces and sets the topic; clients and its events tell of that."""

    async def scenario() -> None:
        async with (
            serve(port=0) as server,
            connect(server.url, name="ann", room="ops") as ann,
            connect(server.url, name="eve", room="ops") as eve,
        ):
            events = server._server.new_stream()
            await server.set_topic("ops", "  on  call: ann ")
            assert len(events._queue) == 1  # everyone was told when it returns
            await server.mute("ops", "EVE")
            with pytest.raises(RejectedError, match=r"you are muted .* \(ask an operator"):
                await eve.send("x")
            await server.mute("ops", "eve", False, by="boss")
            await server.announce("ops")
            with pytest.raises(RejectedError) as rejected:
                await ann.send("x")
            assert rejected.value.code == "announce_only"
            said = await server.broadcast("ops", "only we write now")
            await server.hide("ops", said.seq)
            await server.hide("ops", said.seq)  # it is already
            await server.announce("ops", False)
            await server.lock("ops")
            await server.lock("ops")  # it is already: nobody is told
            with pytest.raises(ConnectError, match="this room is locked") as locked:
                await connect(server.url, room="ops")
            assert locked.value.code == 4503
            await server.kick("ops", "eve")
            with pytest.raises(DisconnectedError, match="you were kicked from this") as kicked:
                async for _ in eve:
                    pass
            assert kicked.value.code == 4503
            assert server.rooms["ops"].members == ("ann",)
            acts = [
                OperatorAct("ops", "topic", "server", text="on call: ann"),
                OperatorAct("ops", "mute", "server", "eve"),
                OperatorAct("ops", "mute", "boss", "eve", on=False),
                OperatorAct("ops", "announce", "server", on=True),
                said,
                OperatorAct("ops", "hide", "server", "server", seq=1, messages=1),
                MessageHidden("ops", 1),
                OperatorAct("ops", "announce", "server", on=False),
                OperatorAct("ops", "lock", "server", on=True),
                OperatorAct("ops", "kick", "server", "eve"),
                Left("ops", "eve", 1),
            ]
            assert [await anext(events) for _ in acts] == acts
            assert ann.topic == "on call: ann"
            heard = [await ann.receive_event() for _ in range(2 + len(acts))][2:]
            assert [type(each) for each in heard] == [type(each) for each in acts]
            assert [each.act for each in heard if isinstance(each, OperatorAct)] == [
                each.act for each in acts if isinstance(each, OperatorAct)
            ]

    play(scenario)


def test_an_act_that_is_rejected() -> None:
    """The error says why, and nothing of the server is left changed."""

    async def scenario() -> None:
        async with serve(port=0, operator_key="0123456789abcdef") as server:
            async with connect(server.url, name="ann", room="ops") as ann:
                with pytest.raises(
                    RejectedError, match=r"nobody here .* \(do you mean ann\?\)"
                ) as no:
                    await server.kick("ops", "anna")
                assert no.value.code == "not_here"
                with pytest.raises(RejectedError, match="nobody here has the name ann"):
                    await server.kick("empty", "ann")
                with pytest.raises(RejectedError, match="topic is 300 characters, limit is 200"):
                    await server.set_topic("ops", "x" * 300)
                with pytest.raises(ValueError, match="name contains a colon"):
                    await server.mute("ops", "a:b")
                for seconds in (86_401, 0.5, -1):
                    with pytest.raises(ValueError, match="seconds is"):
                        await server.set_slow_mode("ops", seconds)  # type: ignore[arg-type]
                with pytest.raises(RejectedError, match="message 7 is not in the log"):
                    await server.hide("ops", 7)
                with pytest.raises(ValueError, match="message 0 cannot be"):
                    await server.hide("ops", 0)
                with pytest.raises(ValueError, match="room is not"):
                    await server.lock("No Room")
                assert (ann.connected, ann.topic) == (True, "")
                assert list(server.rooms) == ["ops"]
        with pytest.raises(RoomClosedError):
            await server.lock("ops")

    play(scenario)


def test_events_that_nobody_takes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An iteration that is behind gets the number of the messages that it lost, and who is here."""
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", 16)

    async def scenario() -> None:
        async with serve(port=0) as server, connect(server.url, room="a", name="ann"):
            events = server.events()
            for number in range(40):
                await server.broadcast("a" if number % 4 else "b", str(number))
            found: list[Event] = [await anext(events) for _ in range(16)]
            assert [each.text for each in found if isinstance(each, Message)] == [
                str(number) for number in range(16)
            ]
            await server.broadcast("a", "after")
            found = [await anext(events) for _ in range(5)]
            assert found[:4] == [
                Gap("b", 6),
                Members("b", (), 0),
                Gap("a", 18),
                Members("a", ("ann",), 1),
            ]
            assert isinstance(found[4], Message) and found[4].text == "after"

    play(scenario)


def test_an_iteration_that_was_dropped_costs_nothing() -> None:
    """Nothing is kept for an iteration that nobody has any more."""

    async def scenario() -> None:
        async with serve(port=0) as server:
            events = server.events()
            assert len(server._server._streams) == 1
            del events
            assert len(server._server._streams) == 0
            await server.broadcast("a", "x")
            assert server._server._unpublished == {}

    play(scenario)


def test_it_touches_neither_signals_nor_logging(caplog: pytest.LogCaptureFixture) -> None:
    """A server leaves the program's signals, log handlers, limits and loop as they are."""

    def state() -> dict[str, Any]:
        import resource

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        return {
            "signals": [signal.getsignal(number) for number in numbers],
            "handlers": [*logging.getLogger().handlers],
            "own": [*logging.getLogger("broadcast_server").handlers],
            "level": logging.getLogger("broadcast_server").level,
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "raise": logging.raiseExceptions,
        }

    async def scenario() -> None:
        before, tasks = state(), asyncio.all_tasks()
        async with serve(port=0, grace=1) as server:
            assert state() == before
            async with connect(server.url):
                pass
        assert state() == before
        assert asyncio.all_tasks() == tasks

    with caplog.at_level(logging.INFO, "broadcast_server"):
        play(scenario)
    assert caplog.records[0].message.startswith("anonymous joined lobby")


def test_several_servers_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are independent, and none takes the sockets that systemd passes to the program."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")

    async def scenario() -> None:
        async with serve(port=0) as one, serve(port=0, token="s3cret") as two:
            assert one.url != two.url
            async with connect(one.url) as room, connect(two.url, token="s3cret") as other:
                await room.send("here")
                assert (await other.send("there")).seq == 1
                assert (await other.receive()).text == "there"

    play(scenario)


def test_stopping() -> None:
    """Clients are told to reconnect, and the port is free at once. Stopping again is harmless."""

    async def scenario() -> None:
        server = await serve(port=0, grace=1)
        port = port_of(server)
        room = await connect(server.url)
        await asyncio.gather(server.stop(), server.stop())
        await server.stop()
        with pytest.raises(RoomClosedError, match=r"the server has stopped \(call serve again\)"):
            await server.broadcast("lobby", "x")
        async with serve(port=port) as again:
            assert (await room.send("back")).seq == 1
            assert list(again.rooms) == ["lobby"]
            kinds = [type(await anext(room.events())) for _ in range(2)]
            assert kinds == [Members, Disconnected]
            await room.close()

    play(scenario)


def test_a_stop_that_is_cancelled() -> None:
    """If the program cannot wait, connections are cut, and nothing is left behind."""

    async def scenario() -> None:
        tasks = asyncio.all_tasks()
        server = await serve(port=0, grace=60)
        await Wire.open(server.url, "/")  # it answers no closing handshake
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        stopping.cancel()
        await asyncio.wait({stopping})
        assert stopping.cancelled()
        assert asyncio.all_tasks() == tasks
        async with serve(port=port_of(server)):
            pass
        await Wire.cut_all()

    play(scenario)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio warns of its own TLS transports")
def test_a_log_file_and_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """Messages survive a restart in the file, and a client resumes over TLS."""
    trusted = certificate[0]

    async def scenario() -> None:
        cursor = None
        for round in range(2):
            async with serve(
                "localhost",
                0,
                tls_cert=certificate[0],
                tls_key=certificate[1],
                log=tmp_path / "log",
            ) as server:
                assert server.url.startswith("wss://")
                url = server.url.replace("127.0.0.1", "localhost").replace("[::1]", "localhost")
                async with connect(url, tls_ca=trusted, cursor=cursor) as room:
                    assert (await room.send(str(round))).seq == round + 1
                    assert (await room.receive()).text == str(round)
                    cursor = room.cursor
                context = ssl.create_default_context(cafile=trusted)
                async with connect(url, ssl=context, history=9) as room:
                    assert (await room.receive()).text == "0"

    play(scenario)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio warns of its own TLS transports")
def test_tls_on_a_unix_socket(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """With `wss://` the certificate is checked there as well, as the parameters say."""

    async def scenario() -> None:
        path = tmp_path / "socket"
        async with serve(unix=path, tls_cert=certificate[0], tls_key=certificate[1]):
            context = ssl.create_default_context(cafile=certificate[0])
            for trust in ({"tls_ca": certificate[0]}, {"ssl": context}):
                async with connect("wss://localhost/", unix=path, **trust) as room:
                    assert room.connected
            with pytest.raises(ConnectError, match="its certificate is not trusted"):
                await connect("wss://localhost/", unix=path)

    play(scenario)


def test_a_log_file_that_lacks_messages_at_the_end(tmp_path: Path) -> None:
    """A program is told that messages are not in the file, with what helps."""
    log = tmp_path / "folder" / "log"
    log.parent.mkdir()

    async def scenario() -> None:
        server = await serve(port=0, log=log)
        await server.broadcast("ops", "x")
        shutil.rmtree(log.parent)
        with pytest.raises(ServeError) as raised:
            await server.stop()
        assert str(log) in str(raised.value)
        with pytest.raises(ServeError):
            await server.stop()

    play(scenario)


@pytest.mark.skipif(not UNDELETABLE.exists(), reason="needs a file that root cannot delete")
def test_a_message_that_a_log_file_has_lost(tmp_path: Path) -> None:
    """It is neither confirmed nor shown, as nobody has received it. The room goes on without it."""
    big = "2" * 100_000

    async def scenario() -> None:
        server = await serve(port=0, log=tmp_path / "log", max_message_bytes=2**17)
        file = server._server._rooms._log_file
        assert file is not None
        events = server.events()
        first = await server.broadcast("ops", "1")
        marker = fail(file)
        with pytest.raises(BroadcastError, match=r"the log file has failed, .* \(send it again\)"):
            await server.broadcast("ops", big)
        again = await server.broadcast("ops", big)
        assert (again.seq, again.epoch == first.epoch) == (2, False)
        assert await anext(events) == first
        messages = [await anext(events)]
        while not isinstance(messages[-1], Message):  # the notice that nothing is recorded
            messages.append(await anext(events))
        assert messages[-1] == again
        file._marker = marker
        with pytest.raises(ServeError, match="last messages are not recorded"):
            await server.stop()

    play(scenario)


def test_a_message_of_a_member_with_the_name_of_the_server() -> None:
    """It is not the server's own, and the server's next one is told apart."""

    async def scenario() -> None:
        async with serve(port=0) as server, connect(server.url, name="server", room="a") as room:
            events = server.events()
            await room.send("of a member")
            own = await server.broadcast("a", "of the server")
            found = [await anext(events) for _ in range(2)]
            assert isinstance(found[0], Message)
            assert (found[0].name, found[0].own) == ("server", False)
            assert found[1] == own and (own.name, own.own) == ("server-2", True)
            assert [(await room.receive()).own for _ in range(2)] == [True, False]

    play(scenario)


def test_a_unix_socket(tmp_path: Path) -> None:
    """A server and its clients can meet at a path instead of a port."""

    async def scenario() -> None:
        path = tmp_path / "socket"
        async with serve(unix=path) as server:
            assert server.url == f"unix:{path}"
            async with connect(unix=path, name="ann") as room:
                assert (await room.send("hi")).seq == 1
        with pytest.raises(ConnectError, match=f"Could not connect to server at unix:{path}"):
            await connect(unix=path)

    play(scenario)


@pytest.mark.parametrize(
    ("parameters", "error", "reason"),
    [
        ({"port": 70000}, ValueError, "port is 70000, must be between 0 and 65535"),
        ({"rate": -1}, ValueError, "rate is -1, must be between 0 and"),
        ({"max_rooms": 1.5}, ValueError, "max_rooms is 1.5, not a whole number"),
        ({"max_clients": True}, ValueError, "max_clients is True, not a whole number"),
        ({"grace": -1}, ValueError, "grace is -1, must be 0 or more"),
        ({"token": " "}, ValueError, "token: "),
        ({"tls_key": "key.pem"}, ValueError, "tls_key needs tls_cert (pass both)"),
        ({"allow_origin": "https://a"}, ValueError, "allow_origin is a string, not a list of"),
        ({"allow_origin": ["x y"]}, ValueError, "x y"),
        ({"log": "/nowhere/log"}, ServeError, "log file /nowhere/log cannot be used"),
        ({"tls_cert": "/nowhere"}, ServeError, "Could not use /nowhere: no such file"),
        ({"host": "nowhere.invalid"}, ServeError, "unknown host (pass an address of this"),
        ({"unix": "/nowhere/socket"}, ServeError, "/nowhere/socket"),
    ],
)
def test_what_cannot_be_served(
    parameters: dict[str, Any], error: type[Exception], reason: str
) -> None:
    """Each invalid parameter is named, and nothing is left open."""

    async def scenario() -> None:
        with pytest.raises(error, match=re.escape(reason)):
            await serve(**{"port": 0, **parameters})

    play(scenario)


def test_a_port_that_is_taken() -> None:
    """The error says which port, and what helps."""

    async def scenario() -> None:
        async with serve(port=0) as server:
            port = port_of(server)
            reason = f"could not listen on 127.0.0.1:{port}: address already in use (pass another"
            with pytest.raises(ServeError, match=re.escape(reason)):
                await serve(port=port)
            with pytest.raises(MessageTooLongError):
                await server.broadcast("a", "x" * 40_000)
            with pytest.raises(ValueError, match="name contains a colon"):
                await server.broadcast("a", "x", name="a:b")

    play(scenario)


def test_it_is_the_server_of_the_command() -> None:
    """Page, metrics and HTTP API are there as well."""

    async def scenario() -> None:
        async with serve(port=0) as server:
            base = server.url.replace("ws:", "http:")
            await server.broadcast("ops", "over HTTP")
            stream = await asyncio.to_thread(fetch, f"{base}stream?room=ops&history=1&poll=1")
            assert json.loads(stream.splitlines()[1])["text"] == "over HTTP"
            assert "broadcast_posts_total 1" in await asyncio.to_thread(fetch, f"{base}metrics")

    play(scenario)


def fetch(url: str) -> str:
    """Return the body of the response to a GET request."""
    with urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
    assert_quiet(text)
    return text
