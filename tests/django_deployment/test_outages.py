"""The Django deployment during outages of Redis, PostgreSQL, a process, or a client that reads."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE
from programs import PATIENCE, Running, assert_quiet, listening, running
from services import PostgreSQL, Redis, postgresql_server, redis_server
from site_member import Member, RecordingSink, join, members, until
from websockets.asyncio.client import connect
from wire import Wire

from broadcast_server.client.client import ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within

MAX_NOTIFIED_DELAY_S = 0.4
"""Longest delay of a message if notifications work, well below the poll's second."""

DEAD_AFTER_S = 2.0
"""Seconds without a sign of life after which a process counts as dead, if a test waits for it."""

_rooms = itertools.count(1)


def new_room() -> str:
    """Return the name of a new room."""
    return f"room-{next(_rooms)}"


# -- what runs --


class Processes:
    """Two Django processes that share a Redis and a PostgreSQL."""

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
        """Start processes until two run, and forget what they have logged so far."""
        present = [each for each in self.processes if each.process.poll() is None]
        new = [
            self._starting.enter_context(running(*DAPHNE, **self._variables))
            for _ in range(2 - len(present))
        ]
        self.processes = present + new
        self.urls = [listening(each) for each in self.processes]
        self._read = [len(each.errors) for each in self.processes]

    def assert_quiet(self) -> None:
        """Assert that no traceback was logged since `start`, and no warning without end."""
        for process, read in zip(self.processes, self._read, strict=True):
            logged = process.errors[read:]
            assert_quiet(logged)
            assert logged.count("does not answer") <= 6, logged

    def stop(self) -> None:
        """Stop the processes that still run."""
        self.assert_quiet()
        for process in self.processes:
            if process.process.poll() is None:
                assert process.signal(signal.SIGTERM) == 0


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Redis, PostgreSQL]]:
    """A Redis and a PostgreSQL with tables, which each test must leave running."""
    # Not in pytest's folder: PostgreSQL's user cannot read that if pytest runs as root.
    with tempfile.TemporaryDirectory() as folder, redis_server() as redis:
        with postgresql_server(Path(folder, "postgresql")) as database:
            yield redis, database


@contextmanager
def running_site(services: tuple[Redis, PostgreSQL], dead: float) -> Iterator[Processes]:
    """Run two processes; *dead* is the time after which one counts as dead."""
    with ExitStack() as starting:
        site = Processes(*services, dead, starting)
        site.start()
        yield site
        site.stop()


@pytest.fixture(scope="module")
def site(services: tuple[Redis, PostgreSQL]) -> Iterator[Processes]:
    """Two processes, which each test must leave running."""
    with running_site(services, 40) as site:
        yield site


@pytest.fixture(scope="module")
def mortal(services: tuple[Redis, PostgreSQL]) -> Iterator[Processes]:
    """Two processes that soon count as dead, and which a test may stop."""
    with running_site(services, DEAD_AFTER_S) as site:
        yield site


@pytest.fixture
def hasty(mortal: Processes) -> Iterator[Processes]:
    """The two processes of `mortal`, both of them running."""
    mortal.start()
    yield mortal
    mortal.assert_quiet()


# -- the members --


class Publishers:
    """Publishes numbered messages of several members, and remembers when."""

    def __init__(self, speakers: list[Member], interval: float = 0.01) -> None:
        self.published: dict[str, float] = {}
        self._interval = interval
        self._stop = False
        self._tasks = [asyncio.ensure_future(self._publish(each)) for each in speakers]

    async def _publish(self, member: Member) -> None:
        for number in itertools.count():
            if self._stop:
                return
            text = f"{member.name} {number}"
            self.published[text] = time.monotonic()
            await member.publish(text)
            await asyncio.sleep(self._interval)

    async def publish_for(self, seconds: float) -> None:
        """Continue to publish for some seconds."""
        await asyncio.sleep(seconds)

    async def stop(self) -> None:
        """Stop publishing."""
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def wait_received(self, *listeners: Member) -> None:
        """Wait until all *listeners* have received all messages."""
        for each in listeners:
            await until(lambda: len(each.messages) >= len(self.published), f"all, by {each.name}")  # noqa: B023

    def longest_delay(self, *listeners: Member) -> float:
        """Return the longest time in seconds from publishing a message to receiving it."""
        return max(
            moment - self.published[event["text"]]
            for each in listeners
            for event, moment in zip(each.events, each.times, strict=True)
            if event["type"] == "message"
        )


def assert_one_order(published: set[str], *listeners: Member) -> None:
    """Assert that all received the same messages, in the same order, without gaps or repeats."""
    for each in listeners:
        assert each.messages == listeners[0].messages, each.name
    assert [seq for seq, _ in listeners[0].messages] == list(range(1, len(published) + 1))
    assert {text for _, text in listeners[0].messages} == published


async def until_here(member: Member, *names: str) -> None:
    """Request the member list until it has exactly these names."""
    end = time.monotonic() + PATIENCE
    present: list[str] = []
    while sorted(present) != sorted(names):
        assert time.monotonic() < end, present
        answers = len(member.events_of("members"))
        await member.socket.send('{"type":"members"}')
        await until(lambda: len(member.events_of("members")) > answers, "a member list")  # noqa: B023
        present = member.events_of("members")[-1]["members"]


async def assert_notified(sender: Member, receiver: Member) -> None:
    """Wait until three consecutive messages reach the other process without a poll."""
    end = time.monotonic() + PATIENCE
    row = 0
    while row < 3:
        assert time.monotonic() < end, row
        text = secrets.token_hex(8)
        begin = time.monotonic()
        await sender.publish(text)
        await until(lambda: receiver.received_at(text), "a message")  # noqa: B023
        row = row + 1 if (receiver.received_at(text) or 0) - begin < MAX_NOTIFIED_DELAY_S else 0
        # Not in phase with the poll, which would look like a notification.
        await asyncio.sleep(0.37)


class Forwarder:
    """A proxy to one process, and later to another."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._server: asyncio.Server | None = None

    async def listen(self) -> str:
        """Start to listen, and return the URL."""
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
        """Stop listening."""
        if self._server is not None:
            self._server.close()


# -- Redis --


def test_redis_killed_and_started_again(site: Processes) -> None:
    """While Redis is down, messages are delivered once, in order, within 2 s."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        joining = (
            join(one, "a", room),
            join(two, "b", room),
            join(one, "c", room),
            join(two, "d", room),
        )
        async with members(*joining) as present:
            # Members of one process publish, so that the other has no other reason to poll.
            stream = Publishers([present[0], present[2]])
            await stream.publish_for(1)
            site.redis.stop()
            before = len(stream.published)
            await stream.publish_for(2)
            during = len(stream.published) - before
            site.redis.start()
            await stream.publish_for(1)
            await stream.stop()
            await stream.wait_received(*present)
            assert_one_order(set(stream.published), *present)
            assert during > 100
            assert stream.longest_delay(*present) < 2
            await assert_notified(present[0], present[1])

    asyncio.run(part())


def test_redis_that_hangs_delays_no_join(site: Processes) -> None:
    """A frozen Redis delays no join, and messages only until the next poll."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(join(one, "a", room), join(two, "b", room)) as present:
            site.redis.freeze()
            try:
                stream = Publishers(present[:1], 0.05)
                begin = time.monotonic()
                async with members(join(one, "c", room), join(two, "d", new_room())) as late:
                    assert time.monotonic() - begin < 3
                    assert late[0].events_of("welcome")[0]["members"] == ["a", "b", "c"]
                    await stream.publish_for(1)
                    await stream.stop()
                    await stream.wait_received(*present)
            finally:
                site.redis.thaw()
            assert_one_order(set(stream.published), *present)
            assert stream.longest_delay(*present) < 2
            await assert_notified(present[0], present[1])

    asyncio.run(part())


# -- the database --


def test_text_that_a_database_cannot_store(site: Processes) -> None:
    """NUL in a message or an id, and a name with a long key, are stored or rejected."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        name = "%EF%B7%BA" * 32  # each is 18 characters in the normalized key
        async with members(join(one, "a", room), join(two, name, room)) as (a, b):
            assert b.events_of("welcome")[0]["name"] == "\ufdfa" * 32
            await a.socket.send(json.dumps({"type": "say", "text": "\0 \x10n", "id": "\0\x10p"}))
            await a.socket.send(json.dumps({"type": "say", "text": "hi", "id": "\0" * 64}))
            await a.publish("on")
            for each in (a, b):
                await until(lambda: each.received_at("on"), "the next message")  # noqa: B023
            message = b.events_of("message")[0]
            assert (message["text"], message["id"]) == ("\0 \x10n", "\0\x10p")
            assert [each["code"] for each in a.events_of("error")] == ["bad_id"]

    asyncio.run(part())


def test_a_room_that_is_deleted(site: Processes) -> None:
    """If a room's row is deleted, all are closed with 4001, and find a new room afterwards."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(join(one, "a", room), join(two, "b", room)) as present:
            await present[0].publish("hi")
            for each in present:
                await until(lambda: each.messages, "a message")  # noqa: B023
            key = f"(SELECT id FROM django_site_room WHERE name = '{room}')"
            site.postgresql.run(
                f"BEGIN; DELETE FROM django_site_message WHERE room_id = {key};"
                f"DELETE FROM django_site_member WHERE room_id = {key};"
                f"DELETE FROM django_site_room WHERE name = '{room}'; COMMIT;"
            )
            await present[1].publish("is anyone there?")
            for each in present:
                await until(lambda: each.code, "a close")  # noqa: B023
            assert [each.code for each in present] == [4001, 4001]
            async with members(join(one, "a", room), join(two, "b", room)) as again:
                welcomes = [each.events_of("welcome")[0] for each in again]
                assert welcomes[0]["epoch"] == welcomes[1]["epoch"]
                assert welcomes[0]["epoch"] != present[0].events_of("welcome")[0]["epoch"]
                assert [each["seq"] for each in welcomes] == [0, 0]

    asyncio.run(part())


# -- many clients --


def test_one_session_on_many_connections_at_once(site: Processes) -> None:
    """Of 20 simultaneous connections of one session to two processes, exactly one stays."""

    async def part() -> None:
        room, urls = new_room(), site.urls
        session = f"&session={secrets.token_hex(16)}"
        async with members(join(urls[0], "watch", room)) as (watch,):
            many = await asyncio.gather(
                *(join(urls[n % 2], "bob", room, session) for n in range(20))
            )
            await until(lambda: len([each for each in many if each.code]) == 19, "the replaced")
            assert {each.code for each in many} == {4504, None}
            await until_here(watch, "watch", "bob")
            stays = next(each for each in many if each.code is None)
            await stays.publish("present")
            await until(
                lambda: watch.received_at("present") and stays.received_at("present"), "a message"
            )
            for each in many:
                await each.close()
            await until_here(watch, "watch")
            assert (len(watch.events_of("joined")), len(watch.events_of("left"))) == (1, 1)

    asyncio.run(part())


def test_several_hundred_receive_a_burst(site: Processes) -> None:
    """300 members of one process receive each of 1,000 messages that arrive at once."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        receivers: list[Member] = []
        for first in range(0, 300, 50):
            names = [f"m{number}" for number in range(first, first + 50)]
            receivers += await asyncio.gather(*(join(one, name, room) for name in names))
        async with members(join(two, "s", room)) as (speaker,):
            for first in range(0, 1000, 50):
                await speaker.publish(*(str(number) for number in range(first, first + 50)))
            for each in receivers:
                await until(lambda: len(each.messages) >= 1000, f"all, by {each.name}")  # noqa: B023
            assert_one_order({str(number) for number in range(1000)}, speaker, *receivers)
        await asyncio.gather(*(each.close() for each in receivers))

    asyncio.run(part())


def test_members_miss_nothing_while_others_join_and_leave(site: Processes) -> None:
    """A member misses nothing while others join, leave and vanish, and the member list is right."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        done = False

        async def restless(url: str, name: str) -> int:
            for count in itertools.count():
                if done:
                    return count
                if count % 3 == 0:  # gone before it has joined
                    with suppress(asyncio.TimeoutError):
                        await run_within(connect(f"{url}?room={room}", proxy=None), 0.01)
                    continue
                member = await join(url, name, room)
                if count % 3 == 1:
                    member.socket.transport.abort()
                await member.close()
            raise AssertionError

        async with members(join(one, "stays", room), join(two, "speaks", room)) as present:
            others = [
                asyncio.ensure_future(restless(url, f"r{n}"))
                for n, url in enumerate([one, one, two, two])
            ]
            stream = Publishers([present[1]])
            await stream.publish_for(4)
            await stream.stop()
            done = True
            turns = await asyncio.gather(*others)
            await stream.wait_received(*present)
            assert_one_order(set(stream.published), *present)
            assert all(turns)
            for each in present:
                await until_here(each, "stays", "speaks")

    asyncio.run(part())


def test_a_client_that_never_reads_delays_nobody(site: Processes) -> None:
    """A client that never reads delays no other, and causes no log lines."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        dead = await Wire.open(one, f"/?name=dead&room={room}")
        async with members(join(one, "near", room), join(two, "far", room)) as present:
            before = [len(process.errors) for process in site.processes]
            published: dict[str, float] = {}
            for number in range(800):
                text = f"{number} {'x' * 4000}"
                published[text] = time.monotonic()
                await present[1].publish(text)
                await until(lambda: len(present[0].messages) > len(published) - 20, "the others")
            await until(lambda: len(present[0].messages) == len(published), "all")
            latest = max(
                moment - published[event["text"]]
                for event, moment in zip(present[0].events, present[0].times, strict=True)
                if event["type"] == "message"
            )
            assert latest < 1
            after = [len(process.errors) for process in site.processes]
            assert [b - a for a, b in zip(before, after, strict=True)] == [0, 0]
        dead.cut()
        await Wire.cut_all()

    asyncio.run(part())


def test_lagging_clients_catch_up_during_a_flood(site: Processes) -> None:
    """Clients that ask for history or resume far back, during a flood, get everything in order."""

    async def part() -> None:
        room, (one, two) = new_room(), site.urls
        async with members(join(one, "a", room), join(two, "b", room)) as present:
            epoch = present[0].events_of("welcome")[0]["epoch"]
            for first in range(0, 3000, 500):
                await present[0].publish(
                    *(f"past {number}" for number in range(first, first + 500))
                )
            await until(lambda: len(present[1].messages) == 3000, "the past")
            flood = [asyncio.ensure_future(_flood(each)) for each in present]
            cursors = [f"&since={epoch}.{seq}" for seq in (0, 1, 700, 1500, 2999)]
            coming = [join((one, two)[n % 2], f"l{n}", room, c) for n, c in enumerate(cursors)]
            async with members(*coming, join(one, "h", room, "&history=1000")) as late:
                for each in late:
                    await until(lambda: each.messages, "a beginning")  # noqa: B023
                await asyncio.gather(*flood)
                total = 3000 + 2 * 2000
                for each in (*present, *late):
                    await until(lambda: each.messages[-1][0] == total, each.name)  # noqa: B023
                whole = present[0].messages
                assert [seq for seq, _ in whole] == list(range(1, total + 1))
                assert present[1].messages == whole
                for each, seq in zip(late, (0, 1, 700, 1500, 2999), strict=False):
                    assert each.messages == whole[seq:]
                past = late[-1].messages
                assert past == whole[-len(past) :]
                assert past[0][0] == late[-1].events_of("welcome")[0]["seq"] - 999

    asyncio.run(part())


async def _flood(member: Member) -> None:
    for first in range(0, 2000, 100):
        await member.publish(*(f"{member.name} {number}" for number in range(first, first + 100)))
        await until(lambda: member.received_at(f"{member.name} {first}"), "an echo")  # noqa: B023


# -- processes that soon count as dead: last, since they declare those of `site` dead too --


def test_rooms_close_and_reopen_without_redis(hasty: Processes) -> None:
    """Without Redis, rooms become empty and fill again, and a process stops when it is told to."""

    async def part() -> None:
        room, url = new_room(), hasty.urls[0]
        async with members(join(url, "a", room)):
            pass
        hasty.redis.stop()
        try:
            # The room's replica stops within two polls, and no join has to wait for that.
            end = time.monotonic() + 3
            while time.monotonic() < end:
                begin = time.monotonic()
                async with members(join(url, "b", new_room())):
                    assert time.monotonic() - begin < 2
                await asyncio.sleep(0.2)
            async with members(join(url, "a", room)) as present:
                begin = time.monotonic()
                assert await asyncio.to_thread(hasty.processes[0].signal, signal.SIGTERM) == 0
                assert time.monotonic() - begin < 10
                await until(lambda: present[0].code, "a close")
                assert present[0].code == 4001
        finally:
            hasty.redis.start()

    asyncio.run(part())


def test_a_process_killed_under_load(hasty: Processes) -> None:
    """After kill -9, clients reconnect elsewhere and miss nothing, and `left` is sent once."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        forwarder = Forwarder(one)
        url = await forwarder.listen()
        timeouts = ClientTimeouts(first_delay=0.2, max_delay=0.5)
        clients = [
            ReconnectingClient(url, {}, ClientSession(f"c{n}", room), timeouts=timeouts)
            for n in range(6)
        ]
        sinks = [RecordingSink() for _ in clients]
        async with members(join(two, "watch", room), join(one, "stale", room)) as (watch, _):
            running = [
                asyncio.ensure_future(client.run(sink))
                for client, sink in zip(clients, sinks, strict=True)
            ]
            await until(lambda: all(client.has_been_live for client in clients), "all in")
            published: set[str] = set()
            killed = 0.0
            for number in range(200):
                for n, client in enumerate(clients):
                    client.send(f"c{n} {number}")
                    published.add(f"c{n} {number}")
                if number == 80:
                    forwarder.target = two
                    hasty.processes[0].process.kill()
                    killed = time.monotonic()
                await asyncio.sleep(0.01)
            for client in clients:
                await run_within(client.wait_confirmed(), PATIENCE)
            await until(lambda: len(watch.messages) >= len(published), "all")
            assert_one_order(published, watch)
            for sink in sinks:
                await until(lambda: len(sink.messages) >= len(published), "all")  # noqa: B023
                # Each joined before the first message.
                assert sink.messages == watch.messages
                assert len(sink.notes) >= 1, "it had to reconnect"
            await until(lambda: watch.events_of("left"), "the stale member's leave")
            took = time.monotonic() - killed
            assert took < DEAD_AFTER_S * 1.5 + 1.5
            assert [each["name"] for each in watch.events_of("left")] == ["stale"]
            assert len(watch.events_of("joined")) == 1 + len(clients), (
                "reconnecting clients took over their sessions"
            )
            await until_here(watch, "watch", *(f"c{n}" for n in range(6)))
            for client in clients:
                client.leave()
            await asyncio.gather(*running)
        forwarder.close()

    asyncio.run(part())


def test_a_process_that_was_frozen(hasty: Processes) -> None:
    """Members of a process that counted as dead are closed with 4001 when it continues."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        async with members(join(two, "watch", room), join(one, "bob", room)) as (watch, bob):
            await until(lambda: watch.events_of("joined"), "bob")
            hasty.processes[0].process.send_signal(signal.SIGSTOP)
            await until(lambda: watch.events_of("left"), "bob to be removed")
            await watch.publish("meanwhile")
            hasty.processes[0].process.send_signal(signal.SIGCONT)
            await until(lambda: bob.code, "bob is closed")
            assert bob.code == 4001
            assert bob.events_of("error")[-1]["code"] == "lost_sight"
            async with members(join(one, "bob", room, "&history=9")) as (again,):
                assert again.events_of("welcome")[0]["members"] == ["watch", "bob"]
                await until(lambda: again.messages, "the message sent meanwhile")
                await until(lambda: len(watch.events_of("joined")) == 2, "bob again")
                await again.publish("back")
                await until(lambda: watch.received_at("back"), "bob's message")
                assert [each["name"] for each in watch.events_of("left")] == ["bob"]
                assert watch.events_of("joined")[-1] == {
                    "type": "joined",
                    "name": "bob",
                    "count": 2,
                }

    asyncio.run(part())


def test_postgresql_killed_and_started_again(hasty: Processes) -> None:
    """Echoes stay true, nothing is repeated, and streams continue; new clients are rejected."""

    async def part() -> None:
        room, (one, two) = new_room(), hasty.urls
        async with members(join(one, "a", room), join(two, "b", room)) as present:
            stream = Publishers(present)
            # The first outage is longer than a process may be silent; none counts as dead for that.
            for seconds in (DEAD_AFTER_S * 1.25, 0.5):
                await stream.publish_for(0.5)
                await asyncio.to_thread(hasty.postgresql.kill)
                gone = time.monotonic()
                while time.monotonic() < gone + seconds:
                    async with members(join(one, "c", room), join(two, "d", new_room())) as late:
                        for each in late:
                            await until(lambda: each.code, "a close")  # noqa: B023
                            assert each.code == 4001
                            assert [event["code"] for event in each.events] == ["no_log"]
                    await asyncio.sleep(0.2)
                await asyncio.to_thread(hasty.postgresql.start)
            await stream.publish_for(0.7)
            await stream.stop()
            await stream.wait_received(*present)
            assert_one_order(set(stream.published), *present)
            assert [each.code for each in present] == [None, None]
            assert not present[0].events_of("left") and not present[0].events_of("error")
            async with members(join(two, "e", room, "&history=100000")) as (late_one,):
                await until(lambda: len(late_one.messages) >= len(stream.published), "the log")
                assert late_one.messages == present[0].messages, "each echo is in the log"

    asyncio.run(part())
