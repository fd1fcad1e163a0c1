"""The hosted site: the consumer, the log as the truth, and more than one process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from channels.testing import WebsocketCommunicator
from conftest import DAPHNE, ROOT, UVICORN, Processes
from django.test import override_settings
from hosted import play, visitor
from houses import ServedHouse
from programs import Running, assert_quiet, listening, running
from services import free_port
from test_client import Ear, member
from test_openroom import WRITE, SlowLine
from wire import TEXT, Wire

from broadcast_server.entry import Entry
from broadcast_server.protocol import Format, Message, Welcome
from django_site import bell, log, models, presence
from django_site.asgi import application
from django_site.drain import Drain
from django_site.node import REST
from django_site.nodes import nodes

# -- the consumer --


def test_a_conversation() -> None:
    """Two clients of the consumer, one in each format, hear each other."""

    async def part() -> None:
        async with visitor("/?name=alice&room=talk") as alice:
            async with visitor("/?name=bob&room=talk", as_json=True) as bob:
                welcome = json.loads(await bob.receive_from())
                assert welcome["members"] == ["alice", "bob"]
                assert await alice.receive_from() == "bob joined the chat"
                await bob.send_to('{"type":"say","text":"hi","id":"1"}')
                assert await alice.receive_from() == "bob: hi"
                echo = json.loads(await bob.receive_from())
                assert (echo["seq"], echo["text"], echo["id"]) == (1, "hi", "1")
            assert await alice.receive_from() == "bob left the chat"

    play(part)


def test_binary_is_a_fault() -> None:
    """A binary frame gets an error, and the code 4502."""

    async def part() -> None:
        async with visitor("/?name=alice&room=binary") as alice:
            await alice.send_to(bytes_data=b"hi")
            assert await alice.receive_from() == "* binary frames are not understood"
            assert await alice.receive_output() == {
                "type": "websocket.close",
                "code": 4502,
                "reason": "binary frames are not understood",
            }

    play(part)


class Transport:
    """A transport of Twisted's, as far as a connection's producer knows it."""

    def registerProducer(self, producer: Drain, streaming: bool) -> None:  # noqa: N802  # Twisted's
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802  # Twisted's name
        pass


def test_who_is_lost_and_never_said_to_be() -> None:
    """Who Daphne has lost leaves the room also if it does not tell the application so."""
    protocol = SimpleNamespace(transport=Transport())

    async def served(scope: Any, receive: Any, send: Any) -> None:
        async def reply(protocol: object, message: dict[str, Any]) -> None:
            await send(message)

        await application(scope, receive, partial(reply, protocol))

    async def part() -> None:
        async with visitor("/?name=alice&room=lost") as alice:
            bob = WebsocketCommunicator(served, "/?name=bob&room=lost")
            assert (await bob.connect(timeout=10))[0]
            assert await alice.receive_from() == "bob joined the chat"
            protocol.transport.producer.stopProducing()
            assert await alice.receive_from(timeout=10) == "bob left the chat"
            await bob.disconnect()

    play(part)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(b"http://here", True), (b"http://elsewhere", False), (b"http://friend", True)],
)
def test_origin(origin: bytes, allowed: bool) -> None:
    """A foreign page is refused before it is accepted, which is a 403."""

    async def part() -> None:
        headers = [(b"host", b"here"), (b"origin", origin)]
        one = WebsocketCommunicator(application, "/?name=alice&room=origin", headers)
        assert (await one.connect(timeout=10))[0] is allowed
        await one.disconnect()

    with override_settings(BROADCAST_ALLOW_ORIGIN=frozenset({"http://friend"})):
        play(part)


def test_stopping_closes_everyone() -> None:
    """When the site stops everyone is told so, closed with 4001, and on no roster any more."""

    async def part() -> None:
        async with visitor("/?name=alice&room=stop") as alice:
            await nodes().stop()
            assert await alice.receive_from() == "* the server is stopping"
            assert (await alice.receive_output())["code"] == 4001
        left = await asyncio.to_thread(models.Member.objects.filter(room__name="stop").count)
        assert left == 0

    play(part)


# -- the bell --


def test_a_ring_is_cancelled_whenever_that_is() -> None:
    """Who rings can be cancelled at any step, also as the layer is done with it."""

    async def part() -> None:
        for steps in range(6):
            ringing = asyncio.ensure_future(bell.ring(1, log.State(0, 0, 0)))
            for _ in range(steps):
                await asyncio.sleep(0)
            if ringing.cancel():
                await asyncio.wait({ringing})
                assert ringing.cancelled()

    asyncio.run(part())


# -- the log --


def test_a_busy_room_gathers() -> None:
    """What is said while a turn is written waits for a share of that time, and is one turn."""

    async def part() -> None:
        node = await nodes().get("busy")
        line = SlowLine(bytes.decode)
        peer = await node.come(Entry(format=Format.TEXT), None, "busy", line)
        node.receive(peer, "a")
        _, _, end = await asyncio.wait_for(line.written.get(), 10)
        node.receive(peer, "b")
        await asyncio.sleep(0)
        node.receive(peer, "c")
        begin, payloads, _ = await asyncio.wait_for(line.written.get(), 10)
        assert begin - end >= REST * WRITE
        assert payloads == ["anonymous: b\nanonymous: c"]
        node.go(peer, "busy")

    play(part)


def test_a_draft_is_logged_once() -> None:
    """Numbers have no gaps, and a draft that comes again has the number that it had."""
    room = log.open_room("drafts").pk
    one, two = log.Draft("bob", "one", "s", "1"), log.Draft("bob", "two", "s", "2")
    assert log.append(room, [one, two, one], unsure=False).logged == [
        log.Logged(1, before=False),
        log.Logged(2, before=False),
        log.Logged(1, before=True),
    ]
    assert log.append(room, [two], unsure=False).logged == [log.Logged(2, before=True)]
    read = [(each.seq, each.text) for each in log.read(room, 0, 10) if isinstance(each, Message)]
    assert read == [(1, "one"), (2, "two")]
    assert [each.seq for each in log.read(room, 1, 10)] == [2]


def test_a_draft_without_an_id_is_logged_once() -> None:
    """After an answer that was lost, what had no id of its own is looked for as well."""
    room = log.open_room("unnamed").pk
    draft = log.Draft("bob", "one", f"{log.UNNAMED}s", "1")
    assert log.append(room, [draft], unsure=False).logged == [log.Logged(1, before=False)]
    assert log.append(room, [draft], unsure=True).logged == [log.Logged(1, before=True)]


def test_what_is_appended_is_what_is_read() -> None:
    """The messages that an append returns are those that the log has, to the last character."""
    room = log.open_room("same").pk
    drafts = [
        log.Draft("bob", "nul \0 dle \x10 \x10p", "s", "\0"),
        log.Draft("bob", "no id", f"{log.UNNAMED}s", "1"),
    ]
    appended = log.append(room, drafts, unsure=False)
    assert appended.messages == log.read(room, 0, 10)
    assert appended.state == log.state_of(room)


# -- presence --


def test_members_of_a_dead_process_are_taken_out() -> None:
    """A process without a sign of life loses its members to whoever looks next."""
    room = log.open_room("ghosts").pk
    from broadcast_server.entry import Entry

    presence.beat("dying")
    presence.beat("living")
    one, two = (presence.Newcomer(Entry(name="bob"), token) for token in ("t1", "t2"))
    assert presence.enter(room, "dying", [one]) == ["bob"]
    assert presence.enter(room, "living", [two]) == ["bob-2"]
    version = log.state([room])[room].roster
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=presence.DEAD + 1)
    models.Process.objects.filter(pk="dying").update(seen=long_ago)
    presence.beat("living")
    assert [each.name for each in presence.present(room)] == ["bob-2"]
    assert log.state([room])[room].roster > version


class Paper:
    """A connection that keeps the lines it is sent, and takes no time for it."""

    paused = False
    encode = staticmethod(bytes.decode)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, frames: Iterable[str]) -> None:
        self.lines += [line for frame in frames for line in frame.split("\n")]

    def close(self, code: int, reason: str) -> None:
        pass


@pytest.mark.parametrize("lines", [1, 2500])
def test_who_comes_right_back_has_its_name(lines: int) -> None:
    """Who left this process is off the roster before anyone comes, once its last words are said."""

    async def part() -> None:
        node = await nodes().get(f"back-{lines}")
        witness = Paper()
        await node.come(Entry(name="alice", format=Format.TEXT), None, "alice", witness)
        for token in ("one", "two", "three"):
            line = SlowLine(bytes.decode)  # so that the room has reason to rest
            peer = await node.come(Entry(name="bob", format=Format.TEXT), None, token, line)
            assert peer.name == "bob"
            node.receive(peer, "x")
            await asyncio.wait_for(line.written.get(), 10)
            node.receive(peer, "\n".join(["x"] * lines))
            node.go(peer, token)
        await node.come(Entry(name="carol", format=Format.TEXT), None, "carol", Paper())
        told = asyncio.Event()
        node.next_turn(told.set)
        await asyncio.wait_for(told.wait(), 10)
        visit = ["bob joined the chat", *["bob: x"] * (1 + lines), "bob left the chat"]
        assert witness.lines == [*visit * 3, "carol joined the chat"]

    play(part)


def test_who_gives_up_while_others_leave_is_not_here() -> None:
    """Who is gone before it is in, at whatever step that is, is on the roster no more."""

    async def part() -> None:
        node = await nodes().get("given up")
        for steps in range(30):
            entry = Entry(name="bob", format=Format.TEXT)
            peer = await node.come(entry, None, f"here-{steps}", Paper())
            node.go(peer, f"here-{steps}")
            coming = asyncio.ensure_future(node.come(entry, None, f"gone-{steps}", Paper()))
            for _ in range(steps):
                await asyncio.sleep(0.0002)
            if not coming.cancel():
                node.go(await coming, f"gone-{steps}")
            await asyncio.wait({coming})
        await node.come(Entry(name="alice", format=Format.TEXT), None, "alice", Paper())
        here = await asyncio.to_thread(presence.present, node.key)
        assert [each.name for each in here] == ["alice"]

    play(part)


# -- processes --


def test_two_processes_are_one_room(tmp_path: Path) -> None:
    """Without any bell between them, two processes have one order, one roster and unique names."""
    with ExitStack() as both:
        sites = [both.enter_context(running(*DAPHNE, BROADCAST_DATA=str(tmp_path)))]
        listening(sites[0])  # it makes the database
        sites.append(both.enter_context(running(*DAPHNE, BROADCAST_DATA=str(tmp_path))))
        urls = [listening(site) for site in sites]

        async def part() -> None:
            houses = [ServedHouse(url) for url in urls]
            one = await houses[0].open("/?name=bob", as_json=True)
            two = await houses[1].open("/?name=bob", as_json=True)
            assert json.loads(await one.line())["name"] == "bob"
            welcome = json.loads(await two.line())
            assert (welcome["name"], welcome["members"]) == ("bob-2", ["bob", "bob-2"])
            assert json.loads(await one.line()) == {"type": "joined", "name": "bob-2", "count": 2}
            for number in range(50):
                say = json.dumps({"type": "say", "text": str(number)})
                await (one if number % 2 else two).send(say)
            heard = [json.loads(await one.line()) for _ in range(50)]
            assert heard == [json.loads(await two.line()) for _ in range(50)]
            assert [each["seq"] for each in heard] == list(range(1, 51))
            await two.vanish()
            assert json.loads(await one.line()) == {"type": "left", "name": "bob-2", "count": 1}
            await houses[0].close()

        asyncio.run(part())
        for site in sites:
            assert site.signal(signal.SIGTERM) == 0


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """After kill -9 and a start, the log, its epoch and what it knew of ids are still there."""

    async def before(site: Running) -> str:
        house = ServedHouse(listening(site))
        bob = await house.open("/?name=bob&session=0123456789abcdef", as_json=True)
        epoch = str(json.loads(await bob.line())["epoch"])
        await bob.send('{"type":"say","text":"one","id":"1"}')
        assert json.loads(await bob.line())["seq"] == 1
        site.process.kill()
        site.process.wait()
        await bob.close()
        return epoch

    async def after(url: str, epoch: str) -> None:
        house = ServedHouse(url)
        target = f"/?name=bob&session=0123456789abcdef&since={epoch}.0"
        bob = await house.open(target, as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["seq"]) == (epoch, True, 1)
        assert (welcome["name"], welcome["count"]) == ("bob", 1), "its ghost was replaced"
        assert json.loads(await bob.line())["text"] == "one"
        await bob.send('{"type":"say","text":"one","id":"1"}')
        await bob.send('{"type":"say","text":"two","id":"2"}')
        assert json.loads(await bob.line())["seq"] == 2
        await house.close()

    with running(*DAPHNE, BROADCAST_DATA=str(tmp_path)) as site:
        epoch = asyncio.run(before(site))
    with running(*DAPHNE, BROADCAST_DATA=str(tmp_path)) as site:
        asyncio.run(after(listening(site), epoch))
        assert site.signal(signal.SIGINT) == 0


def test_ctrl_c_says_goodbye(tmp_path: Path) -> None:
    """Daphne, told to stop, closes every client with 4001 and says why."""
    with running(*DAPHNE, BROADCAST_DATA=str(tmp_path)) as site:

        async def part() -> None:
            bob = await ServedHouse(listening(site)).open("/?name=bob", as_json=False)
            site.process.send_signal(signal.SIGINT)
            assert await bob.line() == "* the server is stopping"
            with pytest.raises(EOFError, match="4001"):
                await bob.line()
            await bob.close()

        asyncio.run(part())
        assert site.wait() == 0


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_who_says_too_much_waits(processes: Processes, command: tuple[str, ...]) -> None:
    """A flood over the rate is not read, costs little, loses nothing and delays nobody else."""
    url = processes.hosted_url(command, ("--rate", "200"))
    site = processes.running(command, ("--rate", "200"))

    async def part() -> None:
        house = ServedHouse(url)
        ear = await house.open("/?name=ear&room=flood", as_json=False)
        flooder = await Wire.open(url, "/?name=flood&room=flood")
        assert await ear.line() == "flood joined the chat"
        before, began = site.rss, time.monotonic()
        # More than a second's worth each: what may be said of one waits for no rest.
        frame = "\n".join(["x" * 1000] * 900).encode()
        writing = asyncio.ensure_future(_flood(flooder, frame, 67))
        for _ in range(2200):  # 2,000 at once, then 200 a second
            assert await ear.line() == f"flood: {'x' * 1000}"
        assert time.monotonic() - began > 0.9
        assert not writing.done(), "what is over is not read"
        assert site.rss - before < 30 * 2**20
        await ear.send("and me?")
        while (line := await ear.line()) != "ear: and me?":
            assert line == f"flood: {'x' * 1000}"
        writing.cancel()
        flooder.cut()
        await house.close()
        await Wire.cut_all()

    asyncio.run(part())


async def _flood(wire: Wire, frame: bytes, count: int) -> None:
    for _ in range(count):
        wire.frame(TEXT, frame)
        await wire.writer.drain()


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_those_who_never_read_cost_little(processes: Processes, command: tuple[str, ...]) -> None:
    """What clients are sent and never read is not kept for them, beyond what the system takes."""
    url = processes.hosted_url(command, ())
    site = processes.running(command, ())

    async def part() -> None:
        house = ServedHouse(url)
        bob = await house.open("/?name=bob&room=unread", as_json=True)
        await bob.line()
        dead = [await Wire.open(url, "/?name=dead&room=unread") for _ in range(20)]
        count = 1
        while count < 21:
            event = json.loads(await bob.line())
            if event["type"] != "head":  # the site beats when it will
                count += 1
                assert event["count"] == count
        before = site.rss
        say = json.dumps({"type": "say", "text": "x" * 4000})
        for _ in range(20):
            await bob.send("\n".join([say] * 200))
            for _ in range(200):
                assert json.loads(await bob.line())["type"] in ("message", "head")
        assert site.rss - before < 40 * 2**20  # of 305 that were sent
        for each in dead:
            each.cut()
        await house.close()
        await Wire.cut_all()

    asyncio.run(part())


def test_daphnes_own_cut_loses_nothing(tmp_path: Path) -> None:
    """Daphne closes a connection that is very old; its client comes back and misses nothing."""
    command = *DAPHNE, "--websocket_timeout", "1"
    with running(*command, BROADCAST_DATA=str(tmp_path)) as site:

        async def part() -> None:
            async with member(listening(site), "ann") as (ann, ear):
                async with member(listening(site), "bob") as (bob, _):
                    said = 0
                    while len(_welcomes(ear)) < 3:
                        bob.say(str(said))
                        said += 1
                        await bob.all_heard()
                await ear.until(lambda: len(ear.texts) == said)
            assert ear.texts == [str(number) for number in range(said)]
            assert all(welcome.recovered for welcome in _welcomes(ear))
            assert not ann.conversation.refused

        asyncio.run(asyncio.wait_for(part(), 40))
        assert site.signal(signal.SIGTERM) == 0


def _welcomes(ear: Ear) -> list[Welcome]:
    return [event for event in ear.events if isinstance(event, Welcome)]


# -- settings --


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Django's command line."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **variables},
        timeout=60,
    )


def test_without_debug_a_secret_is_needed() -> None:
    """With DEBUG off and no SECRET_KEY nothing starts."""
    done = manage("check", DEBUG="no")
    assert done.returncode != 0
    assert "SECRET_KEY" in done.stderr


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        (
            {"BROADCAST_TRUSTED_PROXY": "127.0.0.1, nginx"},
            "BROADCAST_TRUSTED_PROXY: 'nginx' is no address or network, nor unix, nor yes or no",
        ),
        (
            {"BROADCAST_TOKEN": "s3cret", "BROADCAST_LOGIN": "required"},
            "BROADCAST_TOKEN is for guests, and BROADCAST_LOGIN=required lets none in",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_told(variables: dict[str, str], why: str) -> None:
    """A site that is told what makes no sense says so and does not start."""
    done = manage("check", **variables)
    assert done.returncode != 0
    assert why in done.stderr


def test_production_settings_are_clean(tmp_path: Path) -> None:
    """With DEBUG off, a secret and hosts, Django has nothing against the settings."""
    done = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        DEBUG="no",
        SECRET_KEY="a" * 25 + "0123456789" * 3,
        ALLOWED_HOSTS="example.org",
        BROADCAST_DATA=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    """No change of the tables is without its migration."""
    done = manage("makemigrations", "--check", "--dry-run", BROADCAST_DATA=str(tmp_path))
    assert done.returncode == 0, done.stdout


def test_a_configured_database_is_not_migrated(tmp_path: Path) -> None:
    """A database that is not ours to make is refused with the command that would."""
    url = f"sqlite:///{tmp_path / 'theirs.sqlite3'}"
    with running(*DAPHNE, DATABASE_URL=url) as site:
        assert site.process.wait(60) == 1
        assert site.errors.splitlines()[-1].endswith("python manage.py migrate")
    assert manage("migrate", DATABASE_URL=url).returncode == 0
    with running(*DAPHNE, DATABASE_URL=url) as site:
        # Daphne says that it listens just before it takes signals.
        with urlopen(listening(site).replace("ws:", "http:")) as answer:
            assert answer.status == 200
        assert site.signal(signal.SIGTERM) == 0


def test_a_database_that_is_away_at_the_start() -> None:
    """A site whose database does not answer says so in a line, and ends with 1."""
    url = f"postgres://someone@127.0.0.1:{free_port()}/theirs"
    with running(*DAPHNE, DATABASE_URL=url) as site:
        assert site.process.wait(60) == 1
        assert_quiet(site.errors)
        assert site.errors.splitlines()[-1].startswith("the database does not answer: ")
        assert site.errors.endswith(" (start it, or set DATABASE_URL)\n")
