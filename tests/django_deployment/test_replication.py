"""The Django deployment: its consumer, its log, its presence, and several processes as one room."""

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
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from client_harness import RecordingSink, member
from conftest import DAPHNE, ROOT, UVICORN, Processes
from deployments import ServedDeployment
from django.db import connection
from django.test import override_settings
from django_client import connected, run_async
from programs import Running, assert_quiet, listening, running
from services import free_port, site_folder
from site_member import until
from slow_receiver import WRITE_S, SlowReceiver
from wire import TEXT, Wire

from broadcast_server.console.time_limit import run_within
from broadcast_server.http.stream import StreamRequest
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Cursor, Format, LogEntry, Message, Welcome
from django_site import models
from django_site.asgi import application
from django_site.configuration.startup_failure import FINAL
from django_site.replication.sync_pace import QUIET_RATIO
from django_site.store import liveness, message_log, notifier, presence, publish
from django_site.transport.flow_control import FlowControl

# -- the consumer --


def test_a_conversation() -> None:
    """Two clients of the consumer, one in each format, receive each other's messages."""

    async def part() -> None:
        async with connected("/?name=alice&room=talk") as alice:
            async with connected("/?name=bob&room=talk", as_json=True) as bob:
                welcome = json.loads(await bob.receive_from())
                assert welcome["members"] == ["alice", "bob"]
                assert await alice.receive_from() == "bob joined the chat"
                await bob.send_to('{"type":"say","text":"hi","id":"1"}')
                assert await alice.receive_from() == "bob: hi"
                echo = json.loads(await bob.receive_from())
                assert (echo["seq"], echo["text"], echo["id"]) == (1, "hi", "1")
            assert await alice.receive_from() == "bob left the chat"

    run_async(part)


def test_a_binary_frame() -> None:
    """A binary frame gets an error, and the connection is closed with 4502."""

    async def part() -> None:
        async with connected("/?name=alice&room=binary") as alice:
            await alice.send_to(bytes_data=b"hi")
            assert await alice.receive_from() == "* binary frames are not understood"
            assert await alice.receive_output() == {
                "type": "websocket.close",
                "code": 4502,
                "reason": "binary frames are not understood",
            }

    run_async(part)


class Transport:
    """A Twisted transport, as far as `FlowControl` uses it."""

    def registerProducer(self, producer: FlowControl, streaming: bool) -> None:  # noqa: N802  # Twisted's
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802  # Twisted's name
        pass


def test_a_lost_connection_without_a_disconnect() -> None:
    """A client that Daphne has lost leaves the room even if Daphne sends no disconnect."""
    protocol = SimpleNamespace(transport=Transport())

    async def served(scope: Any, receive: Any, send: Any) -> None:
        async def reply(protocol: object, message: dict[str, Any]) -> None:
            await send(message)

        await application(scope, receive, partial(reply, protocol))

    async def part() -> None:
        async with connected("/?name=alice&room=lost") as alice:
            bob = WebsocketCommunicator(served, "/?name=bob&room=lost")
            assert (await bob.connect(timeout=10))[0]
            assert await alice.receive_from() == "bob joined the chat"
            protocol.transport.producer.stopProducing()
            assert await alice.receive_from(timeout=10) == "bob left the chat"
            await bob.disconnect()

    run_async(part)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(b"http://localhost", True), (b"http://elsewhere", False), (b"http://friend", True)],
)
def test_origin(origin: bytes, allowed: bool) -> None:
    """A page of another origin is rejected before the handshake, with 403."""

    async def part() -> None:
        headers = [(b"host", b"localhost"), (b"origin", origin)]
        one = WebsocketCommunicator(application, "/?name=alice&room=origin", headers)
        assert (await one.connect(timeout=10))[0] is allowed
        await one.disconnect()

    with override_settings(BROADCAST_ALLOW_ORIGIN=frozenset({"http://friend"})):
        run_async(part)


def test_stopping_closes_everyone() -> None:
    """When the deployment stops, members are told so, closed with 4001, and off the roster."""

    async def part() -> None:
        async with connected("/?name=alice&room=stop") as alice:
            await application.replicas.stop()
            assert await alice.receive_from() == "* the server is stopping"
            assert (await alice.receive_output())["code"] == 4001
        left = await asyncio.to_thread(models.Member.objects.filter(room__name="stop").count)
        assert left == 0

    run_async(part)


# -- notifications --


def test_a_notification_can_be_cancelled_at_any_step() -> None:
    """A notification can be cancelled at any step, even when the channel layer is done with it."""

    async def part() -> None:
        for steps in range(6):
            notifying = asyncio.ensure_future(notifier.notify(1, message_log.RoomState(0, 0, 0)))
            for _ in range(steps):
                await asyncio.sleep(0)
            if notifying.cancel():
                await asyncio.wait({notifying})
                assert notifying.cancelled()

    asyncio.run(part())


@pytest.mark.parametrize("news", [False, True])
def test_a_notification_of_what_is_known_costs_no_transaction(news: bool) -> None:
    """Only one that is ahead of what the replica has read makes it read again."""

    async def part() -> None:
        async with connected(f"/?name=alice&room=known-{news:d}") as alice:
            replica = await application.replicas.get(f"known-{news:d}")
            await alice.send_to("one")
            assert await alice.receive_from() == "alice: one"
            synchronizer = replica._synchronizer
            known = replica.known
            stale = replace(known, head=known.head - 1, roster=known.roster + news)
            read: list[str] = []

            def record(execute: Any, sql: str, *args: Any) -> Any:
                read.extend([sql] if sql == message_log.STATE else [])
                return execute(sql, *args)

            wrapping = await database_sync_to_async(lambda: connection.execute_wrapper(record))()
            await database_sync_to_async(wrapping.__enter__)()
            for state in (known, stale):
                synchronizer.notified(state)
                await until(lambda: not synchronizer._wanted.is_set(), "a decision")
            await until(lambda: not synchronizer.is_busy, "the end of reading")
            await database_sync_to_async(wrapping.__exit__)(None, None, None)
            assert len(read) == news

    run_async(part)


# -- the log --


def test_a_busy_room_batches_messages() -> None:
    """Messages that arrive while a batch is written wait for a share of that time, as one batch."""

    async def part() -> None:
        node = await application.replicas.get("busy")
        line = SlowReceiver(bytes.decode)
        peer = await node.admit(JoinRequest(format=Format.TEXT), None, "busy", line)
        node.receive(peer, "a")
        _, _, end = await run_within(line.written.get(), 10)
        node.receive(peer, "b")
        await asyncio.sleep(0)
        node.receive(peer, "c")
        begin, payloads, _ = await run_within(line.written.get(), 10)
        assert begin - end >= QUIET_RATIO * WRITE_S
        assert payloads == ["anonymous: b\nanonymous: c"]
        node.leave_roster(peer, "busy")

    run_async(part)


def test_a_pending_message_is_logged_once() -> None:
    """Numbers have no gaps, and a repeated message gets the number that it had."""
    room = message_log.open_room("pending").pk
    one, two = (
        message_log.PendingMessage("bob", "one", "s", "1"),
        message_log.PendingMessage("bob", "two", "s", "2"),
    )
    assert publish.append(room, [one, two, one], unsure=False)[0].logged == [
        message_log.Logged(1, repeated=False),
        message_log.Logged(2, repeated=False),
        message_log.Logged(1, repeated=True),
    ]
    assert publish.append(room, [two], unsure=False)[0].logged == [
        message_log.Logged(2, repeated=True)
    ]
    read = [
        (each.seq, each.text) for each in message_log.read(room, 0, 10) if isinstance(each, Message)
    ]
    assert read == [(1, "one"), (2, "two")]
    assert [each.seq for each in message_log.read(room, 1, 10)] == [2]


def test_a_pending_message_without_an_id_is_logged_once() -> None:
    """After a lost response of the database, messages without an id are looked up as well."""
    room = message_log.open_room("unnamed").pk
    pending = message_log.PendingMessage("bob", "one", f"{message_log.NO_ID_PREFIX}s", "1")
    assert publish.append(room, [pending], unsure=False)[0].logged == [
        message_log.Logged(1, repeated=False)
    ]
    assert publish.append(room, [pending], unsure=True)[0].logged == [
        message_log.Logged(1, repeated=True)
    ]


def test_append_returns_what_is_read() -> None:
    """The messages that an append returns are exactly those that are read from the log."""
    room = message_log.open_room("same").pk
    pending = [
        message_log.PendingMessage("bob", "nul \0 dle \x10 \x10p", "s", "\0"),
        message_log.PendingMessage("bob", "no id", f"{message_log.NO_ID_PREFIX}s", "1"),
    ]
    appended = publish.append(room, pending, unsure=False)[0]
    assert appended.messages == message_log.read(room, 0, 10)
    assert appended.state == message_log.room_state(room)


# -- presence --


def test_members_of_a_dead_process_are_removed() -> None:
    """Members of a process without a sign of life are removed by the next process that looks."""
    room = message_log.open_room("ghosts").pk
    from broadcast_server.protocol.join import JoinRequest

    liveness.record_liveness("dying")
    liveness.record_liveness("living")
    one, two = (presence.JoinAttempt(JoinRequest(name="bob"), id) for id in ("t1", "t2"))
    assert presence.join(room, "dying", [one]) == ["bob"]
    assert presence.join(room, "living", [two]) == ["bob-2"]
    version = message_log.room_states([room])[room].roster
    long_ago = datetime.now(timezone.utc) - timedelta(seconds=liveness.PROCESS_TIMEOUT_S + 1)
    models.Process.objects.filter(pk="dying").update(seen=long_ago)
    liveness.record_liveness("living")
    assert [each.name for each in presence.read_present(room)] == ["bob-2"]
    assert message_log.room_states([room])[room].roster > version


class LineRecorder:
    """A receiver that records the lines it is sent."""

    paused = False
    encode = staticmethod(bytes.decode)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, frames: Iterable[str]) -> None:
        self.lines += [line for frame in frames for line in frame.split("\n")]

    def close(self, code: int, reason: str) -> None:
        pass


@pytest.mark.parametrize("lines", [1, 2500])
def test_a_client_that_rejoins_at_once_has_its_name(lines: int) -> None:
    """Members that left a process are off the roster, after their messages, before anyone joins."""

    async def part() -> None:
        replica = await application.replicas.get(f"back-{lines}")
        witness = LineRecorder()
        await replica.admit(JoinRequest(name="alice", format=Format.TEXT), None, "alice", witness)
        for connection_id in ("one", "two", "three"):
            slow = SlowReceiver(bytes.decode)  # so that the room has reason to rest
            member = await replica.admit(
                JoinRequest(name="bob", format=Format.TEXT), None, connection_id, slow
            )
            assert member.name == "bob"
            replica.receive(member, "x")
            await run_within(slow.written.get(), 10)
            replica.receive(member, "\n".join(["x"] * lines))
            replica.leave_roster(member, connection_id)
        await replica.admit(
            JoinRequest(name="carol", format=Format.TEXT), None, "carol", LineRecorder()
        )
        written = asyncio.Event()
        replica.call_after_batch(written.set)
        await run_within(written.wait(), 10)
        visit = ["bob joined the chat", *["bob: x"] * (1 + lines), "bob left the chat"]
        assert witness.lines == [*visit * 3, "carol joined the chat"]

    run_async(part)


def test_a_client_that_gives_up_while_others_leave_is_not_a_member() -> None:
    """A client that is lost while it joins, at whatever step that is, is not on the roster."""

    async def part() -> None:
        replica = await application.replicas.get("given up")
        for steps in range(30):
            join = JoinRequest(name="bob", format=Format.TEXT)
            member = await replica.admit(join, None, f"here-{steps}", LineRecorder())
            replica.leave_roster(member, f"here-{steps}")
            coming = asyncio.ensure_future(
                replica.admit(join, None, f"gone-{steps}", LineRecorder())
            )
            for _ in range(steps):
                await asyncio.sleep(0.0002)
            if not coming.cancel():
                replica.leave_roster(await coming, f"gone-{steps}")
            await asyncio.wait({coming})
        await replica.admit(
            JoinRequest(name="alice", format=Format.TEXT), None, "alice", LineRecorder()
        )
        here = await asyncio.to_thread(presence.read_present, replica.key)
        assert [each.name for each in here] == ["alice"]

    run_async(part)


class EventRecorder(LineRecorder):
    """A receiver that records what a stream is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, frames: Iterable[str]) -> None:
        super().write(frames)
        self.written.set()

    async def wait_for_lines(self, count: int) -> None:
        """Wait until there are *count* lines."""
        while len(self.lines) < count:
            self.written.clear()
            await run_within(self.written.wait(), 10)

    def start(self, at: Cursor) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        self.code = code


def test_histories_are_read_in_rounds_over_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client gets its pages in every other turn, however many ask at another address."""
    count, pages = 1000, list[int]()
    rows = [message_log.open_room(name) for name in ("loud", "small")]
    for row in rows:
        pending = [
            message_log.PendingMessage("bob", "x", f"{message_log.NO_ID_PREFIX}s", str(number))
            for number in range(count)
        ]
        publish.append(row.pk, pending, unsure=False)
    read = message_log.read

    def record(room: int, after: int, limit: int) -> list[LogEntry]:
        pages.append(room)
        return read(room, after, limit)

    monkeypatch.setattr(message_log, "read", record)

    async def part() -> None:
        loud, small = [await application.replicas.get(row.name) for row in rows]
        here = []
        asked = [(loud, "192.0.2.1", 10 * number) for number in range(20)] + [(small, "", 0)]
        for replica, address, skipped in asked:
            join = JoinRequest(name="", history=count - skipped, format=Format.JSON)
            receiver = EventRecorder()
            id = f"{address} {skipped}"
            stream = StreamRequest(join, poll=False)
            one = await replica.admit_subscriber(stream, None, id, receiver, address)
            here.append((replica, one, id, receiver))
        first = len(pages)
        replica, _, _, receiver = here[-1]
        await receiver.wait_for_lines(1 + count)
        own = [place for place, room in enumerate(pages) if room == small.key]
        assert len(own) >= 3, "its history has several pages"
        assert own[0] - first <= 2
        assert max(after - before for before, after in pairwise(own)) <= 2
        for replica, one, id, receiver in here:
            await receiver.wait_for_lines(1 + count - int(id.split()[-1]))
            numbers = [json.loads(line).get("seq") for line in receiver.lines[1:]]
            assert numbers == [*range(1 + int(id.split()[-1]), count + 1)]
            replica.leave_roster(one, id)

    run_async(part)


# -- processes --


def test_two_processes_are_one_room(tmp_path: Path) -> None:
    """Two processes without notifications share one order, one roster and unique names."""
    with ExitStack() as both:
        data = site_folder(tmp_path)
        sites = [both.enter_context(running(*DAPHNE, BROADCAST_DATA=data)) for _ in range(2)]
        urls = [listening(site) for site in sites]

        async def part() -> None:
            deployments = [ServedDeployment(url) for url in urls]
            one = await deployments[0].open("/?name=bob", as_json=True)
            two = await deployments[1].open("/?name=bob", as_json=True)
            assert json.loads(await one.line())["name"] == "bob"
            welcome = json.loads(await two.line())
            assert (welcome["name"], welcome["members"]) == ("bob-2", ["bob", "bob-2"])
            assert json.loads(await one.line()) == {"type": "joined", "name": "bob-2", "count": 2}
            for number in range(50):
                say = json.dumps({"type": "say", "text": str(number)})
                await (one if number % 2 else two).send(say)
            received = [json.loads(await one.line()) for _ in range(50)]
            assert received == [json.loads(await two.line()) for _ in range(50)]
            assert [each["seq"] for each in received] == list(range(1, 51))
            await two.vanish()
            assert json.loads(await one.line()) == {"type": "left", "name": "bob-2", "count": 1}
            await deployments[0].close()

        asyncio.run(part())
        for site in sites:
            assert site.signal(signal.SIGTERM) == 0


def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """After kill -9 and a restart, the log, its epoch and the known ids are still there."""

    async def before(site: Running) -> str:
        deployment = ServedDeployment(listening(site))
        bob = await deployment.open("/?name=bob&session=0123456789abcdef", as_json=True)
        epoch = str(json.loads(await bob.line())["epoch"])
        await bob.send('{"type":"say","text":"one","id":"1"}')
        assert json.loads(await bob.line())["seq"] == 1
        site.process.kill()
        site.process.wait()
        await bob.close()
        return epoch

    async def after(url: str, epoch: str) -> None:
        deployment = ServedDeployment(url)
        target = f"/?name=bob&session=0123456789abcdef&since={epoch}.0"
        bob = await deployment.open(target, as_json=True)
        welcome = json.loads(await bob.line())
        assert (welcome["epoch"], welcome["recovered"], welcome["seq"]) == (epoch, True, 1)
        assert (welcome["name"], welcome["count"]) == ("bob", 1), (
            "its stale connection was replaced"
        )
        assert json.loads(await bob.line())["text"] == "one"
        await bob.send('{"type":"say","text":"one","id":"1"}')
        await bob.send('{"type":"say","text":"two","id":"2"}')
        assert json.loads(await bob.line())["seq"] == 2
        await deployment.close()

    with running(*DAPHNE, BROADCAST_DATA=site_folder(tmp_path)) as site:
        epoch = asyncio.run(before(site))
    with running(*DAPHNE, BROADCAST_DATA=str(tmp_path)) as site:
        asyncio.run(after(listening(site), epoch))
        assert site.signal(signal.SIGINT) == 0


def test_ctrl_c_closes_all_clients(tmp_path: Path) -> None:
    """When Daphne is stopped, every client is closed with 4001 and told why."""
    with running(*DAPHNE, BROADCAST_DATA=site_folder(tmp_path)) as site:

        async def part() -> None:
            bob = await ServedDeployment(listening(site)).open("/?name=bob", as_json=False)
            site.process.send_signal(signal.SIGINT)
            assert await bob.line() == "* the server is stopping"
            with pytest.raises(EOFError, match="4001"):
                await bob.line()
            await bob.close()

        asyncio.run(part())
        assert site.wait() == 0


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_a_flood_is_rate_limited(processes: Processes, command: tuple[str, ...]) -> None:
    """A flood over the rate is not read: it costs little, loses nothing and delays nobody else."""
    url = processes.django_url(command, ("--rate", "200"))
    site = processes.running(command, ("--rate", "200"))

    async def part() -> None:
        deployment = ServedDeployment(url)
        listener = await deployment.open("/?name=ear&room=flood", as_json=False)
        flooder = await Wire.open(url, "/?name=flood&room=flood")
        assert await listener.line() == "flood joined the chat"
        before, began = site.rss, time.monotonic()
        # Each frame has more than a second's worth of messages: the allowed part does not wait.
        frame = "\n".join(["x" * 1000] * 900).encode()
        writing = asyncio.ensure_future(_flood(flooder, frame, 67))
        # Each costs nearly four: 1,023 at once, then 51 a second.
        for _ in range(1100):
            assert await listener.line() == f"flood: {'x' * 1000}"
        assert time.monotonic() - began > 0.9
        assert not writing.done(), "messages over the rate are not read"
        assert site.rss - before < 30 * 2**20
        await listener.send("and me?")
        while (line := await listener.line()) != "ear: and me?":
            assert line == f"flood: {'x' * 1000}"
        writing.cancel()
        flooder.cut()
        await deployment.close()
        await Wire.cut_all()

    asyncio.run(part())


async def _flood(wire: Wire, frame: bytes, count: int) -> None:
    for _ in range(count):
        wire.send_frame(TEXT, frame)
        await wire.writer.drain()


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_clients_that_never_read_cost_little(
    processes: Processes, command: tuple[str, ...]
) -> None:
    """For clients that never read, nothing is buffered beyond what the kernel accepts."""
    url = processes.django_url(command, ())
    site = processes.running(command, ())

    async def part() -> None:
        deployment = ServedDeployment(url)
        bob = await deployment.open("/?name=bob&room=unread", as_json=True)
        await bob.line()
        unread = [await Wire.open(url, "/?name=dead&room=unread") for _ in range(20)]
        count = 1
        while count < 21:
            event = json.loads(await bob.line())
            if event["type"] != "head":  # heartbeats come by the clock
                count += 1
                assert event["count"] == count
        before = site.rss
        say = json.dumps({"type": "say", "text": "x" * 4000})
        for _ in range(20):
            await bob.send("\n".join([say] * 200))
            for _ in range(200):
                assert json.loads(await bob.line())["type"] in ("message", "head")
        assert site.rss - before < 40 * 2**20  # 305 MiB were sent
        for each in unread:
            each.cut()
        await deployment.close()
        await Wire.cut_all()

    asyncio.run(part())


def test_daphnes_websocket_timeout_loses_nothing(tmp_path: Path) -> None:
    """Daphne closes connections of some age; their clients reconnect and miss nothing."""
    command = *DAPHNE, "--websocket_timeout", "1"
    with running(*command, BROADCAST_DATA=site_folder(tmp_path)) as site:

        async def part() -> None:
            async with member(listening(site), "ann") as (ann, sink):
                async with member(listening(site), "bob") as (bob, _):
                    sent = 0
                    while len(_welcomes(sink)) < 3:
                        bob.send(str(sent))
                        sent += 1
                        await bob.wait_confirmed()
                await sink.until(lambda: len(sink.texts) == sent)
            assert sink.texts == [str(number) for number in range(sent)]
            assert all(welcome.recovered for welcome in _welcomes(sink))
            assert not ann.session.rejected

        asyncio.run(run_within(part(), 40))
        assert site.signal(signal.SIGTERM) == 0


def _welcomes(sink: RecordingSink) -> list[Welcome]:
    return [event for event in sink.events if isinstance(event, Welcome)]


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


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    """Every change of the models has its migration."""
    done = manage("makemigrations", "--check", "--dry-run", BROADCAST_DATA=str(tmp_path))
    assert done.returncode == 0, done.stdout


def test_a_configured_database_is_not_migrated(tmp_path: Path) -> None:
    """A configured database without tables ends the start, with the command that creates them."""
    url = f"sqlite:///{tmp_path / 'theirs.sqlite3'}"
    with running(*DAPHNE, DATABASE_URL=url) as site:
        assert site.process.wait(60) == FINAL
        assert site.errors.splitlines()[-1].endswith("python manage.py migrate")
    assert manage("migrate", DATABASE_URL=url).returncode == 0
    with running(*DAPHNE, DATABASE_URL=url) as site:
        # Daphne prints its address just before it handles signals.
        with urlopen(listening(site).replace("ws:", "http:")) as answer:
            assert answer.status == 200
        assert site.signal(signal.SIGTERM) == 0


def test_a_database_that_is_down_at_the_start() -> None:
    """If the database does not answer, one line says so, and the exit code is 1."""
    url = f"postgres://someone@127.0.0.1:{free_port()}/theirs"
    with running(*DAPHNE, DATABASE_URL=url) as site:
        assert site.process.wait(60) == 1
        assert_quiet(site.errors)
        assert site.errors.splitlines()[-1].startswith("the database does not answer: ")
        assert site.errors.endswith(" (start it, or set DATABASE_URL)\n")
        line = site.errors.splitlines()[-1].partition(" failed: ")[0]
    for command in (("check", "--database", "default"), ("migrate",)):
        done = manage(*command, DATABASE_URL=url)
        assert line in done.stderr and "Traceback" not in done.stderr
        assert done.returncode == 1


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    """`manage.py check --database default` says what the start says; no other check opens it."""
    url = "sqlite:////proc/x"
    line = "the database does not answer: unable to open database file (start it, or set"
    with running(*DAPHNE, DATABASE_URL=url, BROADCAST_DATA=str(tmp_path)) as site:
        assert site.process.wait(60) == 1
        assert site.errors.splitlines()[-1] == f"{line} DATABASE_URL)"
    for command, code in ((("check", "--database", "default"), 1), (("check",), 0)):
        done = manage(*command, DATABASE_URL=url, BROADCAST_DATA=str(tmp_path))
        assert (done.returncode, line in done.stderr) == (code, bool(code))
        assert "Traceback" not in done.stderr
