"""The hosted site while things die under it: Redis, PostgreSQL, a process, a reader."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE, migrate
from programs import Running, assert_quiet, listening, running
from services import PostgreSQL, Redis, postgresql_server, redis_server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol
from wire import Wire

from broadcast_server.client import Client, Pace
from broadcast_server.conversation import Conversation
from broadcast_server.protocol import Event, Message

PATIENCE = 20.0
"""Seconds after which something that should have happened is given up."""

SOON = 0.4
"""Seconds that a message takes at most if the bell rings, well under the poll's second."""

DEAD = 2.0
"""Seconds without a sign of life after which a process is dead, where a test waits for it."""

_rooms = itertools.count(1)


def new_room() -> str:
    """Return the name of a room that nobody has been in."""
    return f"room-{next(_rooms)}"


# -- what runs --


class Site:
    """Two processes on one Redis and one PostgreSQL."""

    def __init__(
        self, redis: Redis, postgresql: PostgreSQL, dead: float, starting: ExitStack
    ) -> None:
        self.redis = redis
        self.postgresql = postgresql
        self.processes: list[Running] = []
        self.urls: list[str] = []
        self._read: list[int] = []
        self._starting = starting
        self._variables: dict[str, Any] = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": postgresql.url,
            "BROADCAST_DEAD": str(dead),
            "BROADCAST_RATE": "0",
        }

    def start(self) -> None:
        """Start anew what does not run, and read from here on what they complain of."""
        here = [each for each in self.processes if each.process.poll() is None]
        new = [
            self._starting.enter_context(running(*DAPHNE, **self._variables))
            for _ in range(2 - len(here))
        ]
        self.processes = here + new
        self.urls = [listening(each) for each in self.processes]
        self._read = [len(each.errors) for each in self.processes]

    def assert_quiet(self) -> None:
        """They have not complained since, nor said the same thing for ever."""
        for process, read in zip(self.processes, self._read, strict=True):
            said = process.errors[read:]
            assert_quiet(said)
            assert said.count("does not answer") <= 6, said

    def end(self) -> None:
        """Stop what still runs."""
        self.assert_quiet()
        for process in self.processes:
            if process.process.poll() is None:
                assert process.signal(signal.SIGTERM) == 0


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Redis, PostgreSQL]]:
    """A Redis and a PostgreSQL with tables, which each test leaves running."""
    # Not in pytest's folder: what begins as root beside us takes that away from PostgreSQL's user.
    with tempfile.TemporaryDirectory() as folder, redis_server() as redis:
        with postgresql_server(Path(folder, "postgresql")) as database:
            migrate(DATABASE_URL=database.url)
            yield redis, database


@contextmanager
def running_site(services: tuple[Redis, PostgreSQL], dead: float) -> Iterator[Site]:
    """Run two processes."""
    with ExitStack() as starting:
        site = Site(*services, dead, starting)
        site.start()
        yield site
        site.end()


@pytest.fixture(scope="module")
def site(services: tuple[Redis, PostgreSQL]) -> Iterator[Site]:
    """Two processes as they are, which each test leaves running."""
    with running_site(services, 40) as site:
        yield site


@pytest.fixture(scope="module")
def mortal(services: tuple[Redis, PostgreSQL]) -> Iterator[Site]:
    """Two processes that are soon taken for dead, and which a test may end."""
    with running_site(services, DEAD) as site:
        yield site


@pytest.fixture
def hasty(mortal: Site) -> Iterator[Site]:
    """Those two, of which both run."""
    mortal.start()
    yield mortal
    mortal.assert_quiet()


# -- who is there --


class Member:
    """A client that takes down what it hears, and when."""

    def __init__(self, name: str, socket: ClientConnection) -> None:
        self.name = name
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.code: int | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            while True:
                frame = str(await self.socket.recv())
                now = time.monotonic()
                for line in frame.split("\n"):
                    self.events.append(json.loads(line))
                    self.times.append(now)
        except ConnectionClosed as closed:
            self.code = 1006 if closed.rcvd is None else closed.rcvd.code

    async def say(self, *texts: str) -> None:
        """Say each, under an id that is its text."""
        says = [json.dumps({"type": "say", "text": text, "id": text[:64]}) for text in texts]
        await self.socket.send("\n".join(says))

    def told(self, type: str) -> list[dict[str, Any]]:
        """Return what it heard of a type."""
        return [event for event in self.events if event["type"] == type]

    @property
    def heard(self) -> list[tuple[int, str]]:
        """The messages that it heard, by their numbers."""
        return [(event["seq"], event["text"]) for event in self.told("message")]

    def when(self, text: str) -> float | None:
        """Return when it heard *text*."""
        for event, moment in zip(self.events, self.times, strict=True):
            if event.get("text") == text:
                return moment
        return None

    async def close(self) -> None:
        """Leave."""
        await self.socket.close()
        await self._reading


async def until(condition: Callable[[], object], what: str) -> None:
    """Look again and again whether *condition* holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        await asyncio.sleep(0.01)


async def come(url: str, name: str, room: str, more: str = "") -> Member:
    """Let someone in, or be refused."""
    socket = await connect(
        f"{url}?name={name}&room={room}{more}",
        subprotocols=[Subprotocol("broadcast.v1.json")],
        compression=None,
        proxy=None,
        max_queue=None,
        open_timeout=PATIENCE,
    )
    member = Member(name, socket)
    await until(lambda: member.events or member.code, "a first line")
    return member


@asynccontextmanager
async def members(*coming: Awaitable[Member]) -> AsyncIterator[list[Member]]:
    """Let several in, one after the other."""
    here: list[Member] = []
    try:
        for each in coming:
            member = await each
            here.append(member)
        yield here
    finally:
        for member in here:
            await member.close()


class Stream:
    """Members that say numbered messages, each with the time at which it was said."""

    def __init__(self, speakers: list[Member], interval: float = 0.01) -> None:
        self.said: dict[str, float] = {}
        self._interval = interval
        self._stop = False
        self._tasks = [asyncio.ensure_future(self._speak(each)) for each in speakers]

    async def _speak(self, member: Member) -> None:
        for number in itertools.count():
            if self._stop:
                return
            text = f"{member.name} {number}"
            self.said[text] = time.monotonic()
            await member.say(text)
            await asyncio.sleep(self._interval)

    async def goes_on(self, seconds: float) -> None:
        """Let it flow for a while: nothing tells when enough was said."""
        await asyncio.sleep(seconds)

    async def end(self) -> None:
        """Say no more."""
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def all_heard(self, *listeners: Member) -> None:
        """Wait until everyone has heard everything."""
        for each in listeners:
            await until(lambda: len(each.heard) >= len(self.said), f"all, by {each.name}")  # noqa: B023

    def latest(self, *listeners: Member) -> float:
        """Return how long the slowest message took to the slowest listener."""
        return max(
            moment - self.said[event["text"]]
            for each in listeners
            for event, moment in zip(each.events, each.times, strict=True)
            if event["type"] == "message"
        )


def assert_one_order(said: set[str], *listeners: Member) -> None:
    """All heard the same, in one order without gaps, and each thing said once."""
    for each in listeners:
        assert each.heard == listeners[0].heard, each.name
    assert [seq for seq, _ in listeners[0].heard] == list(range(1, len(said) + 1))
    assert {text for _, text in listeners[0].heard} == said


async def until_here(member: Member, *names: str) -> None:
    """Ask until exactly these are here."""
    end = time.monotonic() + PATIENCE
    found: list[str] = []
    while sorted(found) != sorted(names):
        assert time.monotonic() < end, found
        asked = len(member.told("members"))
        await member.socket.send('{"type":"members"}')
        await until(lambda: len(member.told("members")) > asked, "a roster")  # noqa: B023
        found = member.told("members")[-1]["members"]


async def assert_bell_rings(here: Member, there: Member) -> None:
    """Wait until three messages in a row come across at once."""
    end = time.monotonic() + PATIENCE
    row = 0
    while row < 3:
        assert time.monotonic() < end, row
        text = secrets.token_hex(8)
        begin = time.monotonic()
        await here.say(text)
        await until(lambda: there.when(text), "a message")  # noqa: B023
        row = row + 1 if (there.when(text) or 0) - begin < SOON else 0
        # Not in step with the poll, which would look like a bell.
        await asyncio.sleep(0.37)


class Forwarder:
    """An address that leads to one process, and later to another."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        """Listen, and return where."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.target)
        with suppress(OSError):
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()


class Ears:
    """A door that keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []

    @property
    def heard(self) -> list[tuple[int, str]]:
        """The messages, by their numbers."""
        return [(each.seq, each.text) for each in self.events if isinstance(each, Message)]

    def show(self, events: list[Event]) -> None:
        """Take events."""
        self.events += events

    def note(self, text: str) -> None:
        """Take a note."""
        self.notes.append(text)

    async def drain(self) -> None:
        """Be always ready."""


# -- Redis --


def test_redis_killed_and_started_again(site: Site) -> None:
    """While Redis is away and after it all hear all once, in order, within 2 s; then it rings."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        who = come(one, "a", room), come(two, "b", room), come(one, "c", room), come(two, "d", room)
        async with members(*who) as here:
            # Those of one process speak, so that the other has no reason of its own to look.
            stream = Stream([here[0], here[2]])
            await stream.goes_on(1)
            site.redis.stop()
            before = len(stream.said)
            await stream.goes_on(2)
            during = len(stream.said) - before
            site.redis.start()
            await stream.goes_on(1)
            await stream.end()
            await stream.all_heard(*here)
            assert_one_order(set(stream.said), *here)
            assert during > 100
            assert stream.latest(*here) < 2
            await assert_bell_rings(here[0], here[1])

    asyncio.run(part())


def test_redis_that_hangs_holds_nobody_up(site: Site) -> None:
    """A Redis that answers nothing delays no one who comes, and messages by the poll only."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(come(one, "a", room), come(two, "b", room)) as here:
            site.redis.freeze()
            try:
                stream = Stream(here[:1], 0.05)
                begin = time.monotonic()
                async with members(come(one, "c", room), come(two, "d", new_room())) as late:
                    assert time.monotonic() - begin < 3
                    assert late[0].told("welcome")[0]["members"] == ["a", "b", "c"]
                    await stream.goes_on(1)
                    await stream.end()
                    await stream.all_heard(*here)
            finally:
                site.redis.thaw()
            assert_one_order(set(stream.said), *here)
            assert stream.latest(*here) < 2
            await assert_bell_rings(here[0], here[1])

    asyncio.run(part())


# -- the database --


def test_what_a_database_could_not_hold(site: Site) -> None:
    """NUL in a message or an id, and a name whose key is long, stop nobody."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        name = "%EF%B7%BA" * 32  # each of which stands for 18 letters
        async with members(come(one, "a", room), come(two, name, room)) as (a, b):
            assert b.told("welcome")[0]["name"] == "\ufdfa" * 32
            await a.socket.send(json.dumps({"type": "say", "text": "\0 \x10n", "id": "\0\x10p"}))
            await a.socket.send(json.dumps({"type": "say", "text": "hi", "id": "\0" * 64}))
            await a.say("on")
            for each in (a, b):
                await until(lambda: each.when("on"), "the next message")  # noqa: B023
            message = b.told("message")[0]
            assert (message["text"], message["id"]) == ("\0 \x10n", "\0\x10p")
            assert [each["code"] for each in a.told("error")] == ["bad_id"]

    asyncio.run(part())


def test_a_room_that_is_deleted(site: Site) -> None:
    """When its row is gone everyone is closed with 4001, and who comes back finds a new room."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(come(one, "a", room), come(two, "b", room)) as here:
            await here[0].say("hi")
            for each in here:
                await until(lambda: each.heard, "a message")  # noqa: B023
            key = f"(SELECT id FROM django_site_room WHERE name = '{room}')"
            site.postgresql.run(
                f"BEGIN; DELETE FROM django_site_message WHERE room_id = {key};"
                f"DELETE FROM django_site_member WHERE room_id = {key};"
                f"DELETE FROM django_site_room WHERE name = '{room}'; COMMIT;"
            )
            await here[1].say("is anyone there?")
            for each in here:
                await until(lambda: each.code, "a close")  # noqa: B023
            assert [each.code for each in here] == [4001, 4001]
            async with members(come(one, "a", room), come(two, "b", room)) as again:
                welcomes = [each.told("welcome")[0] for each in again]
                assert welcomes[0]["epoch"] == welcomes[1]["epoch"]
                assert welcomes[0]["epoch"] != here[0].told("welcome")[0]["epoch"]
                assert [each["seq"] for each in welcomes] == [0, 0]

    asyncio.run(part())


# -- crowds --


def test_one_session_that_comes_many_times_at_once(site: Site) -> None:
    """Of 20 connections of one session, to two processes at once, exactly one stays."""

    async def part() -> None:
        room, urls = new_room(), site.urls
        session = f"&session={secrets.token_hex(16)}"
        async with members(come(urls[0], "watch", room)) as (watch,):
            many = await asyncio.gather(
                *(come(urls[n % 2], "bob", room, session) for n in range(20))
            )
            await until(lambda: len([each for each in many if each.code]) == 19, "the replaced")
            assert {each.code for each in many} == {4504, None}
            await until_here(watch, "watch", "bob")
            stays = next(each for each in many if each.code is None)
            await stays.say("here")
            await until(lambda: watch.when("here") and stays.when("here"), "a message")
            for each in many:
                await each.close()
            await until_here(watch, "watch")
            assert (len(watch.told("joined")), len(watch.told("left"))) == (1, 1)

    asyncio.run(part())


def test_all_of_several_hundred_hear_a_burst(site: Site) -> None:
    """300 members of one process hear each of 1,000 messages that come at once."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        crowd: list[Member] = []
        for first in range(0, 300, 50):
            names = [f"m{number}" for number in range(first, first + 50)]
            crowd += await asyncio.gather(*(come(one, name, room) for name in names))
        async with members(come(two, "s", room)) as (speaker,):
            for first in range(0, 1000, 50):
                await speaker.say(*(str(number) for number in range(first, first + 50)))
            for each in crowd:
                await until(lambda: len(each.heard) >= 1000, f"all, by {each.name}")  # noqa: B023
            assert_one_order({str(number) for number in range(1000)}, speaker, *crowd)
        await asyncio.gather(*(each.close() for each in crowd))

    asyncio.run(part())


def test_who_stays_misses_nothing_while_others_come_and_go(site: Site) -> None:
    """A member hears all while others enter and leave, politely or not, and the roster is right."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        done = False

        async def restless(url: str, name: str) -> int:
            for count in itertools.count():
                if done:
                    return count
                if count % 3 == 0:  # gone before it was in
                    with suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(connect(f"{url}?room={room}", proxy=None), 0.01)
                    continue
                member = await come(url, name, room)
                if count % 3 == 1:
                    member.socket.transport.abort()
                await member.close()
            raise AssertionError

        async with members(come(one, "stays", room), come(two, "speaks", room)) as here:
            others = [
                asyncio.ensure_future(restless(url, f"r{n}"))
                for n, url in enumerate([one, one, two, two])
            ]
            stream = Stream([here[1]])
            await stream.goes_on(4)
            await stream.end()
            done = True
            turns = await asyncio.gather(*others)
            await stream.all_heard(*here)
            assert_one_order(set(stream.said), *here)
            assert all(turns)
            for each in here:
                await until_here(each, "stays", "speaks")

    asyncio.run(part())


def test_who_never_reads_delays_nobody(site: Site) -> None:
    """A client that never reads makes no other late, and fills no log."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        dead = await Wire.open(one, f"/?name=dead&room={room}")
        async with members(come(one, "near", room), come(two, "far", room)) as here:
            before = [len(process.errors) for process in site.processes]
            said: dict[str, float] = {}
            for number in range(800):
                text = f"{number} {'x' * 4000}"
                said[text] = time.monotonic()
                await here[1].say(text)
                await until(lambda: len(here[0].heard) > len(said) - 20, "the others")
            await until(lambda: len(here[0].heard) == len(said), "all")
            latest = max(
                moment - said[event["text"]]
                for event, moment in zip(here[0].events, here[0].times, strict=True)
                if event["type"] == "message"
            )
            assert latest < 1
            after = [len(process.errors) for process in site.processes]
            assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0]
        dead.cut()
        await Wire.cut_all()

    asyncio.run(part())


def test_those_who_are_behind_catch_up_in_a_flood(site: Site) -> None:
    """Who asks for the past or comes back from far, in a flood, gets all of it in order."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(come(one, "a", room), come(two, "b", room)) as here:
            epoch = here[0].told("welcome")[0]["epoch"]
            for first in range(0, 3000, 500):
                await here[0].say(*(f"past {number}" for number in range(first, first + 500)))
            await until(lambda: len(here[1].heard) == 3000, "the past")
            flood = [asyncio.ensure_future(_flood(each)) for each in here]
            cursors = [f"&since={epoch}.{seq}" for seq in (0, 1, 700, 1500, 2999)]
            coming = [come((one, two)[n % 2], f"l{n}", room, c) for n, c in enumerate(cursors)]
            async with members(*coming, come(one, "h", room, "&history=1000")) as late:
                for each in late:
                    await until(lambda: each.heard, "a beginning")  # noqa: B023
                await asyncio.gather(*flood)
                total = 3000 + 2 * 2000
                for each in (*here, *late):
                    await until(lambda: each.heard[-1][0] == total, each.name)  # noqa: B023
                whole = here[0].heard
                assert [seq for seq, _ in whole] == list(range(1, total + 1))
                assert here[1].heard == whole
                for each, seq in zip(late, (0, 1, 700, 1500, 2999), strict=False):
                    assert each.heard == whole[seq:]
                past = late[-1].heard
                assert past == whole[-len(past) :]
                assert past[0][0] == late[-1].told("welcome")[0]["seq"] - 999

    asyncio.run(part())


async def _flood(member: Member) -> None:
    for first in range(0, 2000, 100):
        await member.say(*(f"{member.name} {number}" for number in range(first, first + 100)))
        await until(lambda: member.when(f"{member.name} {first}"), "an echo")  # noqa: B023


# -- processes that are soon taken for dead: last, since they take those of `site` for it too --


def test_rooms_end_and_begin_without_redis(hasty: Site) -> None:
    """Without Redis rooms empty and fill again, and a process that is told to stop does so."""

    async def part() -> None:
        room, url = new_room(), hasty.urls[0]
        async with members(come(url, "a", room)):
            pass
        hasty.redis.stop()
        try:
            # The room's node ends within two polls, and nobody has to wait for that.
            end = time.monotonic() + 3
            while time.monotonic() < end:
                begin = time.monotonic()
                async with members(come(url, "b", new_room())):
                    assert time.monotonic() - begin < 2
                await asyncio.sleep(0.2)
            async with members(come(url, "a", room)) as here:
                begin = time.monotonic()
                assert await asyncio.to_thread(hasty.processes[0].signal, signal.SIGTERM) == 0
                assert time.monotonic() - begin < 5
                await until(lambda: here[0].code, "a close")
                assert here[0].code == 4001
        finally:
            hasty.redis.start()

    asyncio.run(part())


def test_a_process_killed_under_load(hasty: Site) -> None:
    """After kill -9 clients go on elsewhere, all hear all once, and the ghost left once."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        forwarder = Forwarder(one)
        door = await forwarder.listen()
        pace = Pace(first=0.2, longest=0.5)
        clients = [Client(door, {}, Conversation(f"c{n}", room), pace) for n in range(6)]
        ears = [Ears() for _ in clients]
        async with members(come(two, "watch", room), come(one, "ghost", room)) as (watch, _):
            running = [
                asyncio.ensure_future(client.run(ear))
                for client, ear in zip(clients, ears, strict=True)
            ]
            await until(lambda: all(client.been_live for client in clients), "all in")
            said: set[str] = set()
            killed = 0.0
            for number in range(200):
                for n, client in enumerate(clients):
                    client.say(f"c{n} {number}")
                    said.add(f"c{n} {number}")
                if number == 80:
                    forwarder.target = two
                    hasty.processes[0].process.kill()
                    killed = time.monotonic()
                await asyncio.sleep(0.01)
            for client in clients:
                await asyncio.wait_for(client.all_heard(), PATIENCE)
            await until(lambda: len(watch.heard) >= len(said), "all")
            assert_one_order(said, watch)
            for ear in ears:
                await until(lambda: len(ear.heard) >= len(said), "all")  # noqa: B023
                # Each came in before anything was said.
                assert ear.heard == watch.heard
                assert len(ear.notes) >= 1, "it had to come back"
            await until(lambda: watch.told("left"), "a ghost that leaves")
            took = time.monotonic() - killed
            assert took < DEAD * 1.5 + 1.5
            assert [each["name"] for each in watch.told("left")] == ["ghost"]
            assert len(watch.told("joined")) == 1 + len(clients), "who came back was replaced"
            await until_here(watch, "watch", *(f"c{n}" for n in range(6)))
            for client in clients:
                client.leave()
            await asyncio.gather(*running)
        forwarder.close()

    asyncio.run(part())


def test_a_process_that_stood_still(hasty: Site) -> None:
    """Who was taken for dead is closed with 4001 when its process goes on, and may come back."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        async with members(come(two, "watch", room), come(one, "bob", room)) as (watch, bob):
            await until(lambda: watch.told("joined"), "bob")
            hasty.processes[0].process.send_signal(signal.SIGSTOP)
            await until(lambda: watch.told("left"), "bob is taken for dead")
            await watch.say("meanwhile")
            hasty.processes[0].process.send_signal(signal.SIGCONT)
            await until(lambda: bob.code, "bob is closed")
            assert bob.code == 4001
            assert bob.told("error")[-1]["code"] == "lost_sight"
            async with members(come(one, "bob", room, "&history=9")) as (again,):
                assert again.told("welcome")[0]["members"] == ["watch", "bob"]
                await until(lambda: again.heard, "what was said meanwhile")
                await until(lambda: len(watch.told("joined")) == 2, "bob again")
                await again.say("back")
                await until(lambda: watch.when("back"), "bob's message")
                assert [each["name"] for each in watch.told("left")] == ["bob"]
                assert watch.told("joined")[-1] == {"type": "joined", "name": "bob", "count": 2}

    asyncio.run(part())


def test_postgresql_killed_and_started_again(hasty: Site) -> None:
    """No echo is false, nothing is doubled, and the stream goes on; newcomers are told to wait."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        async with members(come(one, "a", room), come(two, "b", room)) as here:
            stream = Stream(here)
            # The first for longer than a process may be silent: none is taken for dead for that.
            for seconds in (DEAD * 1.25, 0.5):
                await stream.goes_on(0.5)
                await asyncio.to_thread(hasty.postgresql.kill)
                gone = time.monotonic()
                while time.monotonic() < gone + seconds:
                    async with members(come(one, "c", room), come(two, "d", new_room())) as late:
                        for each in late:
                            await until(lambda: each.code, "a close")  # noqa: B023
                            assert each.code == 4001
                            assert [event["code"] for event in each.events] == ["no_log"]
                    await asyncio.sleep(0.2)
                await asyncio.to_thread(hasty.postgresql.start)
            await stream.goes_on(0.7)
            await stream.end()
            await stream.all_heard(*here)
            assert_one_order(set(stream.said), *here)
            assert [each.code for each in here] == [None, None]
            assert not here[0].told("left") and not here[0].told("error")
            async with members(come(two, "e", room, "&history=100000")) as (late_one,):
                await until(lambda: len(late_one.heard) >= len(stream.said), "the log")
                assert late_one.heard == here[0].heard, "each echo is in the log"

    asyncio.run(part())
