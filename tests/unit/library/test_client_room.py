"""The library's client: what `connect` gives a program, with a server in the same loop."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timezone
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from client_harness import SHORT_TIMEOUTS, deployment, play, responding, websocket_server
from deployments import serving
from faults.plan import FaultKind
from faults.proxy import ClientProxy, Endpoint
from websockets.asyncio.client import connect as websocket
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.http11 import Response
from websockets.typing import Subprotocol

from broadcast_server import (
    ClientRoom,
    ConnectError,
    Disconnected,
    DisconnectedError,
    Event,
    Gap,
    Joined,
    Left,
    Members,
    Message,
    MessageTooLongError,
    OperatorAct,
    PrivateMessage,
    RejectedError,
    Renamed,
    RoomClosedError,
    connect,
)
from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.library import async_connect, event_queue, room_core
from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.codec import encode_json
from broadcast_server.protocol.messages import SUBPROTOCOL, Error, Pong, Welcome
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

NO_RATE = AdmissionLimits(rate=0)

FILES = Path("/proc/self/fd")

WELCOME = Welcome(
    room="lobby",
    name="bob",
    epoch="ep",
    seq=0,
    recovered=True,
    missed=0,
    count=1,
    members=("bob",),
)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once: the servers of these tests are in the same process."""
    monkeypatch.setattr(async_connect, "TIMEOUTS", SHORT_TIMEOUTS)


def open_files() -> int:
    """Return how many files this process has open."""
    return len([*FILES.iterdir()])


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("timed out")


@asynccontextmanager
async def bot(url: str) -> AsyncIterator[None]:
    """The bot of the documentation, word for word."""

    async def main() -> None:
        async with connect(url, name="bot", room="ops") as room:
            async for message in room:
                if message.text == "ping":
                    await room.send("pong")

    running = asyncio.ensure_future(main())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()


async def texts(room: ClientRoom, last: str) -> list[str]:
    """Return the texts that *room* receives up to *last*."""
    found = []
    async for message in room:
        found.append(message.text)
        if message.text == last:
            return found
    raise AssertionError(found)


# -- sending and receiving --


def test_the_bot_of_the_documentation() -> None:
    """Five lines answer pings."""

    async def scenario() -> None:
        async with deployment() as (_, url), bot(url), connect(url, name="ann", room="ops") as room:
            await wait_until(lambda: "bot" in room.members)
            sent = await room.send("ping")
            assert (sent.room, sent.seq, sent.name, sent.text) == ("ops", 1, "ann", "ping")
            assert sent.own and sent.time.tzinfo is not None
            assert await room.receive() == sent
            pong = await room.receive()
            assert (pong.seq, pong.name, pong.text, pong.own) == (2, "bot", "pong", False)
            assert room.cursor == pong.cursor

    play(scenario)


def test_a_message_of_another_with_the_same_id_is_not_ones_own() -> None:
    """Nobody can have a bot take a message for its own by repeating the id that it has seen."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="bot") as room:
            await room.send("mine")
            async with websocket(
                f"{url}?history=1", subprotocols=[Subprotocol(SUBPROTOCOL)]
            ) as eve:
                seen = ""
                while '"type":"message"' not in seen:
                    seen = str(await eve.recv())
                id = json.loads(seen.splitlines()[-1])["id"]
                await eve.send(json.dumps({"type": "say", "text": "forged", "id": id}))
                assert [(await room.receive()).own for _ in range(2)] == [True, False]

    play(scenario)


def test_a_message_is_ones_own_by_who_sent_it_and_not_by_its_name() -> None:
    """Not what another client of that name has sent; but what was sent before a new name."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            async with connect(url, name="bot") as earlier:
                await earlier.send("of an earlier run")
            async with connect(url, name="bot", history=1) as room:
                await room.send("as bot")
                assert await room.rename("robot") == "robot"
                await room.send("as robot")
                async with connect(url, name="bot") as other:
                    await other.send("of another bot")
                    assert not (await anext(aiter(room))).own
                    found = [await room.receive() for _ in range(3)]
                    assert [(each.name, each.own) for each in found] == [
                        ("bot", True),
                        ("robot", True),
                        ("bot", False),
                    ]

    play(scenario)


@pytest.mark.parametrize(
    ("text", "error", "code", "reason"),
    [
        (
            "x" * 32769,
            MessageTooLongError,
            "too_long",
            "message is 32769 bytes, limit is 32768 (split",
        ),
        (
            "x" * 2**18,
            MessageTooLongError,
            "too_long",
            "message is 262144 bytes, limit is 1310",
        ),
        (
            "\n" * 3000,
            MessageTooLongError,
            "too_many_lines",
            "message is 3000 lines, limit is 2048 (split",
        ),
        ("", RejectedError, "empty", "message is empty (send some text)"),
        ("\ud800", RejectedError, "bad_text", "text holds half a surrogate pair (encode"),
    ],
)
def test_a_rejected_message(text: str, error: type[RejectedError], code: str, reason: str) -> None:
    """A message that the server does not publish raises a named error, which says what to do."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url) as room:
            with pytest.raises(error) as raised:
                await room.send(text)
            assert (type(raised.value), raised.value.code) == (error, code)
            assert str(raised.value).startswith(reason)
            assert (await room.send("next")).seq == 1

    play(scenario)


def test_what_happens_in_the_room() -> None:
    """`events` has joins, leaves, renames and messages in order, and `members` is up to date."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as room:
            async with connect(url, name="bob") as other:
                assert await other.rename("bobby") == "bobby"
                assert (await other.rename("ANN"), other.name) == ("ANN-2", "ANN-2")
                with pytest.raises(RejectedError, match=r"name contains a colon \(choose another"):
                    await other.rename("a:b")
                await other.send("hi")
                assert other.members == ("ann", "ANN-2")
                await wait_until(lambda: room.members == ("ann", "ANN-2"))
                assert room.member_count == 2
            await wait_until(lambda: room.members == ("ann",))
            async with connect(url, name="ci", quiet=True) as ci:
                await wait_until(lambda: room.members == ("ann", "ci"))
                await wait_until(lambda: ci.connected)
                sent = await ci.send_private("ANN", "psst")
                assert (sent.name, sent.to, sent.own) == ("ci", "ann", True)
                with pytest.raises(RejectedError, match="bob is not here") as raised:
                    await ci.send_private("bob", "psst")
                assert raised.value.code == "not_here"
            await wait_until(lambda: room.members == ("ann",))
            events = room.events()
            found = [await anext(events) for _ in range(9)]
            assert found[:4] == [
                Members("lobby", ("ann",), 1),
                Joined("lobby", "bob", 2, verified=False),
                Renamed("lobby", "bob", "bobby"),
                Renamed("lobby", "bobby", "ANN-2"),
            ]
            assert isinstance(found[4], Message)
            assert found[5] == Left("lobby", "ANN-2", 1)
            assert found[6] == Joined("lobby", "ci", 2, verified=False, quiet=True)
            assert found[7] == PrivateMessage("lobby", "ci", "ann", "psst", sent.at, own=False)
            assert found[8] == Left("lobby", "ci", 1, quiet=True)

    play(scenario)


@pytest.mark.parametrize(
    ("rest", "room", "joined"),
    [("ops", None, "ops"), ("?room=ops", None, "ops"), ("ops", "dev", "dev"), ("", None, "lobby")],
)
def test_a_room_in_the_address(rest: str, room: str | None, joined: str) -> None:
    """An address names a room as for the command, and the parameter goes before it."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url + rest, room=room) as joined_room:
            assert joined_room.room == joined

    play(scenario)


def test_an_operator() -> None:
    """With the key a program does what operators do, and without it, it is told what is missing."""
    settings = Settings(port=0, operator_key="key", limits=NO_RATE)

    async def part() -> None:
        async with (
            serving(settings) as server,
            connect(server.url, name="ann", operator_key="key") as ann,
            connect(server.url, name="bob") as bob,
        ):
            await ann.set_topic(" tea\n")
            await ann.lock()
            await ann.lock(False)
            await ann.announce()
            with pytest.raises(RejectedError, match=r"only operators write .*ask an operator"):
                await bob.send("hi")
            await ann.announce(False)
            await ann.set_slow_mode(30)
            assert ann.slow_mode == 30
            await bob.send("hi")
            await ann.hide(1)
            with pytest.raises(RejectedError, match="this server has no bans") as no_bans:
                await ann.ban("bob", "rude")
            assert no_bans.value.code == "no_bans"
            with pytest.raises(RejectedError, match="bob-2 has published nothing"):
                await ann.hide("bob-2")
            with pytest.raises(RejectedError, match="slow mode: one message in 30 s here, wait"):
                await bob.send("hi again")
            async with connect(server.url, name="eve") as eve:
                assert eve.slow_mode == bob.slow_mode == 30
            await ann.set_slow_mode(0)
            await ann.mute("BOB")
            with pytest.raises(RejectedError, match="you are muted"):
                await bob.send("hi")
            await ann.mute("bob", False)
            with pytest.raises(RejectedError, match=r"for operators .*pass operator_key="):
                await bob.kick("ann")
            with pytest.raises(RejectedError, match=r"the name eve") as raised:
                await ann.kick("eve")
            assert raised.value.code == "not_here"
            await ann.kick("bob")
            with pytest.raises(DisconnectedError, match="you were kicked"):
                [event async for event in bob.events()]
            acts: list[tuple[str, str, bool, str]] = []
            while len(acts) < 11:
                event = await ann.receive_event()
                if isinstance(event, OperatorAct):
                    what = event.text or str(event.seconds or "")
                    acts.append((event.act, event.name, event.on, what))
            assert acts == [
                ("topic", "", True, "tea"),
                ("lock", "", True, ""),
                ("lock", "", False, ""),
                ("announce", "", True, ""),
                ("announce", "", False, ""),
                ("slow", "", True, "30"),
                ("hide", "bob", True, ""),
                ("slow", "", True, ""),
                ("mute", "bob", True, ""),
                ("mute", "bob", False, ""),
                ("kick", "bob", True, ""),
            ]
            with pytest.raises(
                ConnectError, match=r"operator key is wrong: .*\(pass operator_key=\)"
            ):
                await connect(server.url, operator_key="guess")
        with pytest.raises(ValueError, match="operator_key: an operator key is one line"):
            connect(operator_key="two words")

    play(part)


def test_only_one_task_receives() -> None:
    """Two tasks that receive would each get a part: the second one gets an error."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url) as room:
            first = asyncio.ensure_future(room.receive())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task already receives"):
                await room.receive()
            await room.send("a")
            assert (await first).text == "a"

    play(scenario)


# -- broken connections --


def test_nothing_is_lost_or_repeated_when_connections_break() -> None:
    """Messages of both sides survive broken connections: each once, in order."""

    async def scenario() -> None:
        async with (
            deployment() as (server, url),
            connect(url, name="ann") as ann,
            connect(url, name="bob") as bob,
        ):
            sent = []
            for number in range(60):
                if number % 20 == 10:
                    server.abort()
                sent.append(await ann.send(str(number)))
            assert [each.seq for each in sent] == [*range(1, 61)]
            assert await texts(bob, "59") == await texts(ann, "59") == [*map(str, range(60))]
            assert (ann.name, bob.name) == ("ann", "bob")

    play(scenario)


def test_what_was_said_while_away_comes_after_the_break() -> None:
    """A disconnected client receives what was published meanwhile, and is told of the break."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            parts = urlsplit(url)
            link = ClientProxy(lambda: (str(parts.hostname), parts.port or 0), Random(1))
            async with connect(url, name="ann") as ann:
                async with connect(await link.listen(), name="bob") as bob:
                    await ann.send("before")
                    await link.inject(FaultKind.RESET, 0.3)
                    for text in ("away", "still away"):
                        await ann.send(text)
                    waiting = asyncio.ensure_future(bob.send("back"))
                    found: list[Event] = []
                    async for event in bob.events():
                        found.append(event)
                        if isinstance(event, Message) and event.text == "back":
                            break
                    assert (await waiting).seq == 4
                    heard = [each.text for each in found if isinstance(each, Message)]
                    assert heard == ["before", "away", "still away", "back"]
                    assert [type(each) for each in found].count(Disconnected) >= 1
                    assert not [each for each in found if isinstance(each, Gap)]
            await link.close()

    play(scenario)


def test_a_server_that_lost_its_log_makes_a_gap() -> None:
    """After the restart of a server without a log file, an unknown number is missing."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            port = urlsplit(url).port or 0
            room = await connect(url, name="ann")
            await room.send("before")
        async with deployment(port):
            after = await room.send("after")
            assert after.seq == 1
            found: list[Event] = []
            async for event in room.events():
                found.append(event)
                if event == after:
                    break
            assert [each for each in found if isinstance(each, Gap)] == [Gap("lobby", None)]
            assert isinstance(found[-2], Members) and isinstance(found[-3], Gap)
            await room.close()

    play(scenario)


def test_a_cursor_continues_in_another_client() -> None:
    """`cursor=` continues after the message that was received last, and says what is missing."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as ann:
            async with connect(url, name="bob") as bob:
                start = bob.cursor
                for text in "abc":
                    await ann.send(text)
                assert (await bob.receive()).text == "a"
                cursor = bob.cursor
            async with connect(url, cursor=cursor) as bob:
                assert bob.cursor == cursor
                assert await texts(bob, "c") == ["b", "c"]
            async with connect(url, cursor=start) as bob:
                assert await texts(bob, "c") == ["a", "b", "c"]
            async with connect(url, history=2) as bob:
                assert await texts(bob, "c") == ["b", "c"]
            async with connect(url, cursor="elsewhere.7") as bob:
                assert await anext(bob.events()) == Gap("lobby", None)
                assert await texts(bob, "c") == ["a", "b", "c"]

    play(scenario)


def test_a_break_wakes_a_program_that_waits() -> None:
    """It is told at once, and not only when there is a connection again."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            room = await connect(url, name="ann")
            events = room.events()
            assert isinstance(await anext(events), Members)
            waiting = asyncio.ensure_future(anext(events))
        assert isinstance(await waiting, Disconnected)
        assert not room.connected
        await room.close()

    play(scenario)


async def answer_ping(connection: ServerConnection) -> None:
    """Let the replay of a client end, as a server does."""
    (ping,) = str(await connection.recv()).splitlines()
    await connection.send(encode_json(Pong(json.loads(ping)["id"])))


def test_a_connection_that_breaks_right_after_the_welcome() -> None:
    """The room was joined then, so the client tries again whatever the server answers."""
    attempts: list[object] = []

    def process(connection: ServerConnection, request: object) -> Response | None:
        attempts.append(request)
        return connection.respond(404, "not yet") if len(attempts) == 2 else None

    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode_json(WELCOME))
        if len(attempts) > 1:
            await connection.wait_closed()
        connection.transport.abort()

    async def scenario() -> None:
        async with websocket_server(handler, process_request=process) as url:
            async with connect(url, name="bob") as room:
                kinds = [type(await room.receive_event()) for _ in range(4)]
                assert kinds == [Members, Disconnected, Disconnected, Members]

    play(scenario)


def test_a_large_room() -> None:
    """A welcome has the first names only: the client asks for the others, once."""
    names = tuple(f"m{number}" for number in range(150))

    async def handler(connection: ServerConnection) -> None:
        begin = replace(WELCOME, count=151, members=names[:100])
        await connection.send(encode_json(begin))
        await answer_ping(connection)
        assert await connection.recv() == encode_json(wire.MembersRequest())
        await connection.send(encode_json(wire.Members(151, (*names, "bob"))))
        await connection.send(encode_json(wire.Joined("ann", 152, None)))
        frame = str(await connection.recv())  # the next request is the message
        await connection.send(encode_json(Error("empty", "no", json.loads(frame)["id"])))
        await connection.wait_closed()

    async def scenario() -> None:
        async with websocket_server(handler) as url, connect(url, name="bob") as room:
            events = [await room.receive_event() for _ in range(3)]
            assert [type(each) for each in events] == [Members, Members, Joined]
            assert (len(room.members), room.member_count) == (152, 152)
            with pytest.raises(RejectedError):
                await room.send("x")

    play(scenario)


# -- a program that is slow --

FEW = 50
"""Events that may wait in these tests."""


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few events wait, and a client pause for a moment only."""
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", FEW)
    monkeypatch.setattr(room_core, "MAX_PAUSE_S", 0.05)


async def publish(room: ClientRoom, count: int) -> list[str]:
    """Publish *count* messages, one in a frame, and return their texts."""
    return [(await room.send(str(number))).text for number in range(count)]


async def take_all(room: ClientRoom, count: int) -> list[str]:
    """Return the texts of the next *count* messages."""
    return [(await room.receive()).text for _ in range(count)]


@pytest.mark.usefixtures("_little_memory")
def test_a_slow_program_pauses_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too much waits, the client reads no more, and the server keeps the rest in its log."""
    monkeypatch.setattr(room_core, "MAX_PAUSE_S", 60)

    async def scenario() -> None:
        async with deployment() as (_, url):
            async with connect(url, name="ann") as ann, connect(url, name="bob") as bob:
                sent = await publish(ann, 10 * FEW)
                assert len(bob._core.inbox) <= FEW
                assert not bob._core.inbox.dropping
                assert await take_all(bob, len(sent)) == sent

    play(scenario)


@pytest.mark.usefixtures("_little_memory")
def test_a_program_that_sends_while_its_client_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not taken does not hold up the echo, which comes after it."""
    monkeypatch.setattr(room_core, "MAX_PAUSE_S", 60)

    async def scenario() -> None:
        async with deployment() as (_, url):
            async with connect(url, name="ann") as ann, connect(url, name="bob") as bob:
                sent = await publish(ann, 2 * FEW)
                await wait_until(lambda: bob._core.inbox.full)
                for _ in range(5):
                    await asyncio.sleep(0)  # so that it waits
                assert (await bob.send("of bob")).seq == len(sent) + 1
                assert await bob.rename("rob") == "rob"
                assert await texts(bob, "of bob") == [*sent, "of bob"]

    play(scenario)


@pytest.mark.usefixtures("_little_memory")
def test_a_program_that_takes_nothing_remains_a_member() -> None:
    """After a pause the client reads on without keeping it, and gets it from the log later.

    The others do not notice: nobody leaves or joins.
    """

    async def scenario() -> None:
        async with deployment() as (_, url):
            async with connect(url, name="ann") as ann, connect(url, name="bob") as bob:
                sent = await publish(ann, 4 * FEW)
                await wait_until(lambda: bob._core.inbox.dropping)
                sent += await publish(ann, 4 * FEW)
                assert len(bob._core.inbox) <= FEW
                assert await take_all(bob, len(sent)) == sent
                assert (await bob.send("last")).seq == len(sent) + 1
                seen = {type(ann._core.inbox.take().event) for _ in range(len(ann._core.inbox))}
                assert seen <= {Members, Joined, Message}

    play(scenario)


class HeldProxy(ClientProxy):
    """A proxy that can hold up a new connection before it reaches the server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(lambda: (str(parts.hostname), parts.port or 0), Random(1))
        self.arrived = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()

    async def _forward(self, client: Endpoint) -> None:
        self.arrived.set()
        await self.opened.wait()
        await super()._forward(client)


@pytest.mark.usefixtures("_little_memory")
def test_what_was_dropped_is_asked_for_while_the_client_reconnects() -> None:
    """If the program catches up while a connection is opened, the next one brings the rest."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as ann:
            proxy = HeldProxy(url)
            bob = await connect(await proxy.listen(), name="bob")
            sent = await publish(ann, 2 * FEW)
            await wait_until(lambda: bob._core.inbox.dropping)
            proxy.opened.clear()
            proxy.arrived.clear()
            await proxy.inject(FaultKind.RESET, 0)
            await proxy.arrived.wait()  # what this connection asks for is settled
            while len(bob._core.inbox):
                event = await bob.receive_event()
                if isinstance(event, Message):
                    assert event.text == sent.pop(0)
            assert bob._core.session.is_rewinding and len(sent) > FEW // 2
            proxy.opened.set()
            assert await take_all(bob, len(sent)) == sent
            await bob.close()
            await proxy.close()

    play(scenario)


@pytest.mark.usefixtures("_little_memory")
def test_a_bot_that_answers_a_backlog() -> None:
    """Answering each of many waiting messages neither blocks nor needs more memory."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as ann:
            asked = await publish(ann, 8 * FEW)
            async with connect(url, name="bot", history=len(asked)) as room:
                heard = []
                async for message in room:
                    assert len(room._core.inbox) <= 2 * FEW
                    if not message.own:
                        heard.append(message.text)
                        answer = await room.send(f"re {message.text}")
                        assert answer.own
                    if message.text == f"re {asked[-1]}":
                        break
                assert heard == asked

    play(scenario)


@pytest.mark.usefixtures("_little_memory")
def test_what_a_slow_program_cannot_get_any_more_is_a_gap() -> None:
    """If the log no longer reaches back to what was dropped, the number of messages is known."""

    async def scenario() -> None:
        server = Server(Settings(port=0, grace=1, log_messages=2 * FEW, limits=NO_RATE))
        await server.listen()
        async with connect(server.url, name="ann") as ann, connect(server.url, name="bob") as bob:
            sent = await publish(ann, 2 * FEW)
            await wait_until(lambda: bob._core.inbox.dropping)
            sent += await publish(ann, 8 * FEW)
            found: list[Event] = []
            async for event in bob.events():
                found.append(event)
                if isinstance(event, Message) and event.seq == len(sent):
                    break
            heard = [each.seq for each in found if isinstance(each, Message)]
            (missed,) = [each.missed for each in found if isinstance(each, Gap)]
            assert missed == len(sent) - len(heard) and missed > 0
            assert heard == sorted({*heard})
        await server.stop()

    play(scenario)


# -- the end --


def test_a_client_that_is_removed() -> None:
    """A final close code raises a named error, with the server's reason, wherever one waits."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode_json(WELCOME))
        await connection.recv()
        await asyncio.sleep(0.05)
        await connection.send(encode_json(Error("banned", "bob is banned")))
        await connection.close(4503, "bob is banned")

    async def scenario() -> None:
        async with websocket_server(handler) as url, connect(url, name="bob") as room:
            sending = asyncio.ensure_future(room.send("hi"))
            with pytest.raises(DisconnectedError) as raised:
                async for _ in room:
                    pass
            assert str(raised.value) == "bob is banned (ask who runs the server)"
            assert raised.value.code == 4503
            for waiting in (sending, room.send("more"), room.rename("x"), room.receive()):
                with pytest.raises(DisconnectedError):
                    await waiting

    play(scenario)


def lying(*lines: str) -> Callable[[ServerConnection], Awaitable[None]]:
    """Return the handler of a server that answers the first message with *lines*."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode_json(WELCOME))
        (ping,) = str(await connection.recv()).splitlines()
        await connection.send(encode_json(Pong(json.loads(ping)["id"])))
        say = json.loads(str(await connection.recv()).splitlines()[0])
        for line in lines:
            await connection.send(line.replace("ID", say["id"]))
        await connection.wait_closed()

    return handler


ECHO = '{"type":"message","seq":1,"name":"eve","text":"x","at":"2026-11-24T13:00:00Z","id":"ID"}'


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        ((encode_json(WELCOME),), "sent an invalid event, it is not a broadcast server"),
        (("{nonsense",), "sent an invalid event, it is not a broadcast server"),
        ((ECHO.replace(":1,", ":-1,"),), "sent an invalid event, it is not a broadcast server"),
        ((ECHO.replace('"eve"', "5"),), "sent an invalid event, it is not a broadcast server"),
        ((ECHO, ECHO, ECHO), 1),
        (('{"type":"error","code":"duplicate","text":"number 7","id":"ID"}',), 7),
        (('{"type":"error","code":"duplicate","text":"' + "9" * 5000 + '","id":"ID"}',), 0),
        (('{"type":"error","code":"duplicate","text":"","id":"ID"}',), 0),
    ],
)
def test_a_server_that_lies(lines: tuple[str, ...], result: str | int) -> None:
    """Whatever it answers, a message is confirmed once, or there is a named error."""

    async def scenario() -> None:
        async with websocket_server(lying(*lines)) as url, connect(url, name="bob") as room:
            if isinstance(result, int):
                sent = await room.send("mine")
                assert (sent.seq, sent.text, sent.own) == (result, "mine", True)
                assert (sent.epoch, sent.time.tzinfo) == ("ep", timezone.utc)
            else:
                with pytest.raises(DisconnectedError, match=result):
                    await room.send("mine")

    play(scenario)


def test_a_room_that_is_closed_meanwhile() -> None:
    """Closing ends the iteration, and whoever waits for an answer or sends gets an error."""

    async def scenario() -> None:
        async with deployment() as (server, url):
            room = await connect(url, name="ann")
            iterating = asyncio.ensure_future(texts_until_closed(room))
            await asyncio.sleep(0)
            server.abort()  # without a connection there is no answer
            sending = asyncio.ensure_future(room.send("x"))
            await asyncio.sleep(0)
            await room.close()
            await room.close()
            assert await iterating == []
            for waiting in (sending, room.send("y"), room.receive()):
                with pytest.raises(RoomClosedError, match="call connect again"):
                    await waiting

    play(scenario)


def test_the_name_is_free_when_a_room_was_closed() -> None:
    """Closing waits for that, and nothing of the client runs any more."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            async with connect(url, name="bob"):
                tasks = asyncio.all_tasks()
                for _ in range(3):
                    room = await connect(url, name="ann")
                    assert room.name == "ann"
                    await room.close()
                    assert asyncio.all_tasks() <= tasks

    play(scenario)


async def texts_until_closed(room: ClientRoom) -> list[str]:
    """Return the texts of all messages until *room* is closed."""
    return [message.text async for message in room]


@pytest.mark.skipif(not FILES.exists(), reason="counts open files on Linux")
@pytest.mark.parametrize("size", [1, 130_000])
def test_a_server_that_neither_reads_nor_answers(size: int, tmp_path: Path) -> None:
    """Closing takes a bounded time, and closes the socket, also when nothing can be written to it.

    A peer that reads nothing keeps the close frame from being written, not only from an answer.
    """
    finished = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode_json(WELCOME))
        (ping,) = str(await connection.recv()).splitlines()
        await connection.send(encode_json(Pong(json.loads(ping)["id"])))
        connection.transport.pause_reading()
        await finished.wait()

    async def scenario() -> None:
        path = str(tmp_path / "socket")
        options: dict[str, Any] = {"ping_interval": None, "close_timeout": 0}
        async with unix_serve(handler, path, subprotocols=[SUBPROTOCOL], **options):
            before = open_files()
            room = await connect(unix=path)
            await wait_until(lambda: room._core.session.live)
            sends = [asyncio.ensure_future(room.send("\x01" * size)) for _ in range(2)]
            await wait_until(lambda: len(room._core.session) and not room._core.session._unsent)
            assert len(room._core.inbox) > 0
            await room.close()
            assert len(room._core.inbox) == 0
            for each in sends:
                with pytest.raises(RoomClosedError):
                    await each
            await wait_until(lambda: open_files() == before + 1)  # that of the server
            finished.set()

    play(scenario)


def test_a_room_that_cannot_be_joined() -> None:
    """The first connection has to succeed: the error says why, and what helps."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            pass
        with pytest.raises(ConnectError, match=r"connection refused, is it running\?"):
            await connect(url)
        server = Server(Settings(port=0, token="s3cret", grace=1))
        await server.listen()
        with pytest.raises(ConnectError) as raised:
            await connect(server.url)
        assert str(raised.value).endswith("ask its operator for one (pass token=)")
        assert raised.value.code == 4501
        async with connect(server.url, token="s3cret") as room:
            assert room.connected
        await server.stop()
        async with websocket_server(lambda each: each.close(1012, "restarting")) as url:
            with pytest.raises(ConnectError, match=r"within 0\.1 s, .*restarting \(open_timeout="):
                await connect(url, open_timeout=0.1)
        async with responding(None) as url:
            with pytest.raises(ConnectError, match=r"within 0\.1 s, the server sent no welcome \("):
                await connect(url, open_timeout=0.1)

    play(scenario)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"url": "x:1/a%3Fb"}, "x:1/a%3Fb is not a valid address: room is not 1 to 64 of a-z"),
        ({"url": "ftp://x"}, "ftp://x is not a valid address: scheme is ftp"),
        ({"name": "a:b"}, "name contains a colon"),
        ({"room": "Ops"}, "room is not 1 to 64 of a-z"),
        ({"token": ""}, "token: it is empty"),
        ({"history": -1}, "history is -1, must be 0 or more"),
        ({"cursor": "12"}, "cursor is '12', not EPOCH.SEQ"),
        ({"url": "wss://x", "tls_ca": "/nowhere"}, "tls_ca: /nowhere: "),
        ({"url": "ws://x.example", "proxy": "socks5://y"}, "proxy: SOCKS is not supported"),
        ({"ssl": ssl.create_default_context(), "tls_ca": "x"}, "ssl and tls_ca cannot be combined"),
    ],
)
def test_an_invalid_parameter(parameters: dict[str, Any], reason: str) -> None:
    """A parameter is checked before anything is connected to."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        connect(**parameters)


def test_parameters_that_have_no_effect() -> None:
    """What is about TLS or the network is ignored where there is none, as for the command."""
    connect("ws://x.example", tls_ca="/nowhere")
    connect("ws://x.example", unix="socket", proxy="socks5://y")
