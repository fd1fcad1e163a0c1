"""Broadcasting from the site's own code: `broadcast`, `abroadcast` and `manage.py broadcast`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
import redis
from channels.db import database_sync_to_async
from conftest import DAPHNE, Processes
from django_client import connected, run_async  # it sets Django up
from programs import PATIENCE, ROOT, listening, running, said
from services import site_folder
from site_member import join, until

# isort: split

from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction
from django.utils.timezone import now

import broadcast_server
import django_site
from broadcast_server.console.time_limit import run_within
from django_site import abroadcast, broadcast, models
from django_site.accounts.models import Account
from django_site.replication import replica_registry
from django_site.store import broadcaster, message_log, wait_limits

numbers = itertools.count(1)


def new_room() -> str:
    """Return the name of a room that does not exist."""
    return f"broadcast-{next(numbers)}"


def texts(room: str) -> list[tuple[int, str, str]]:
    """Return the log of *room*."""
    rows = models.Message.objects.filter(room__name=room).order_by("seq")
    return [*rows.values_list("seq", "name", "text")]


@asynccontextmanager
async def member(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Awaitable[tuple[int, str, str]]]]:
    """Join *room* as ear, and yield what returns the next message. Nobody polls for news."""
    monkeypatch.setattr(replica_registry, "POLL_INTERVAL_S", 3600)
    async with connected(f"/?room={room}&name=ear", as_json=True) as ear:
        assert json.loads(await ear.receive_from(10))["type"] == "welcome"
        lines: list[str] = []

        async def received() -> tuple[int, str, str]:
            if not lines:
                lines.extend(str(await ear.receive_from(10)).split("\n"))
            event = json.loads(lines.pop(0))
            return event["seq"], event["name"], event["text"]

        yield received


def in_own_thread(do: Callable[[], object]) -> threading.Thread:
    """Do something in a thread that knows of no event loop, as a scheduler's are."""

    def work() -> None:
        try:
            do()
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- who gets it ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["async", "sync", "thread", "command"])
def test_everyone_in_the_room_gets_it_at_once(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a coroutine, a view's thread or any other thread, members are notified."""
    room = new_room()

    async def part() -> None:
        async with member(room, monkeypatch) as received:
            if way == "async":
                message = await abroadcast(room, "one\ntwo", "ci")
                assert isinstance(message, broadcast_server.Message)
                epoch = (await database_sync_to_async(message_log.open_room)(room)).epoch
                assert (message.cursor, message.name) == (f"{epoch}.1", "ci")
                assert message.text == "one\ntwo"
            elif way == "sync":
                await database_sync_to_async(broadcast)(room, "one\ntwo", "ci")
            elif way == "thread":
                # The loop sleeps: nothing but the notification wakes it.
                thread = in_own_thread(lambda: broadcast(room, "one\ntwo", "ci"))
            else:
                run = database_sync_to_async(call_command)
                await run("broadcast", room, "one\ntwo", "--name=ci", stdout=StringIO())
            assert await received() == (1, "ci", "one\ntwo")
            if way == "thread":
                thread.join()

    run_async(part)
    assert texts(room) == [(1, "ci", "one\ntwo")]


def test_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is delivered at the commit, and after a rollback never: its number is given again."""
    room = new_room()

    def fail() -> None:
        with transaction.atomic():
            assert broadcast(room, "never", "ci").seq == 1
            raise ZeroDivisionError

    def fail_partly() -> None:
        with transaction.atomic():
            with pytest.raises(ZeroDivisionError):
                fail()
            with pytest.raises(django_site.RejectedError):
                broadcast(room, "", "ci")
            assert [broadcast(room, each, "ci").seq for each in ("one", "two")] == [1, 2]

    async def part() -> None:
        async with member(room, monkeypatch) as received:
            with pytest.raises(ZeroDivisionError):
                await database_sync_to_async(fail)()
            await database_sync_to_async(fail_partly)()
            assert [await received(), await received()] == [(1, "ci", "one"), (2, "ci", "two")]

    run_async(part)
    assert texts(room) == [(1, "ci", "one"), (2, "ci", "two")]


def test_in_an_event_loop() -> None:
    """The blocking function says what to use, and logs nothing."""
    room = new_room()

    async def part() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="await abroadcast"):
            broadcast(room, "one", "ci")

    run_async(part)
    assert texts(room) == []


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over HTTP: a member keeps its name, and nobody takes that of an account."""
    room = new_room()
    Account.objects.create_user("Olga-owned")

    async def part() -> None:
        async with member(room, monkeypatch) as received:
            assert (await abroadcast(room, "hi", "EAR")).name == "EAR-2"
            assert await received() == (1, "EAR-2", "hi")
            with pytest.raises(django_site.NotAllowedError, match="name of an account") as caught:
                await abroadcast(room, "hi", "olga-owned")
            assert caught.value.code == "name_owned"

    run_async(part)
    open_room = message_log.open_room(room)
    models.Ban.objects.create(
        room=open_room, name="eve", key="eve", until=now() + timedelta(hours=1), reason="spam"
    )
    with pytest.raises(django_site.NotAllowedError, match=r"banned until .*: spam"):
        broadcast(room, "hi", "eve")
    models.Room.objects.filter(pk=open_room.pk).update(closed=now(), closed_why="over")
    with pytest.raises(django_site.NotAllowedError, match=rf"{room} is closed: over"):
        broadcast(room, "hi", "ci")


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "text", "name", "error", "code", "words"),
    [
        (
            "ok",
            "x" * 32769,
            "ci",
            "MessageTooLongError",
            "too_long",
            "message is 32769 bytes, limit is 32768 .split it",
        ),
        ("ok", "\n" * 2049, "ci", "MessageTooLongError", "too_many_lines", "message is 2049 lines"),
        ("ok", "", "ci", "RejectedError", "empty", "message is empty"),
        ("ok", "\ud800", "ci", "RejectedError", "bad_text", "half a surrogate"),
        ("ok", "hi", "a:b", "InvalidNameError", "bad_name", "name contains a colon"),
        ("ok", "hi", "", "InvalidNameError", "bad_name", "name"),
        ("ok", "hi", "n" * 33, "InvalidNameError", "bad_name", "name"),
        ("not ok", "hi", "ci", "InvalidRoomError", "bad_room", "room"),
        ("", "hi", "ci", "InvalidRoomError", "bad_room", "room"),
        ("r" * 65, "hi", "ci", "InvalidRoomError", "bad_room", "room"),
    ],
)
def test_what_cannot_be_broadcast(
    room: str, text: str, name: str, error: str, code: str, words: str
) -> None:
    """Each rule of the protocol has its exception, whose text says what is wrong."""
    with pytest.raises(getattr(django_site, error), match=words) as caught:
        broadcast(room, text, name)
    assert caught.value.code == code
    assert isinstance(caught.value, broadcast_server.RejectedError)
    assert isinstance(caught.value, broadcast_server.BroadcastError)
    assert str(caught.value).endswith(f" ({broadcaster.REMEDIES[code]})")
    with pytest.raises(CommandError, match=words):
        call_command("broadcast", room, text, f"--name={name}")


def test_the_longest_message_and_nul() -> None:
    """What a member may say may be broadcast."""
    room = new_room()
    for text in ("x" * 4096, "a\0b\x10", "\n" * 256):
        assert broadcast(room, text, "ci").text == text
    entries = message_log.read(message_log.open_room(room).pk, 0, 9)
    assert [getattr(each, "text", None) for each in entries] == ["x" * 4096, "a\0b\x10", "\n" * 256]


def test_a_wrong_type() -> None:
    """An argument that is no string is a mistake in the program."""
    with pytest.raises(TypeError, match="text is of type bytes, not a string"):
        broadcast("ok", b"hi", "ci")  # type: ignore[arg-type]  # as a program without types


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("'x'", "head of room {} is not a number from 0 "),
        ("0", "a number of room {} after its head is in use"),
        ("-9", "head of room {} is not a number from 0 "),
        ("1e99", "head of room {} is not a number from 0 "),
        ("999999999999999999", "its last number is 999999999999999999"),
    ],
)
def test_a_damaged_log(damage: str, words: str) -> None:
    """A room whose counter or messages cannot be used gives no number twice, and says so."""
    room = new_room()
    broadcast(room, "one", "ci")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE django_site_room SET head = {damage} WHERE name = %s", [room])
    with pytest.raises(django_site.LogDamagedError) as caught:
        broadcast(room, "two", "ci")
    assert str(caught.value).startswith(f"the log of room {room} is damaged: {words.format(room)}")
    assert "restore the database from a backup" in str(caught.value)
    assert texts(room) == [(1, "ci", "one")]
    with pytest.raises(CommandError, match="is damaged"):
        call_command("broadcast", room, "two", "--name=ci")


def test_a_database_that_is_locked() -> None:
    """SQLite: it is waited for as long as the caller says, and tried again."""
    room = new_room()
    broadcast(room, "one", "ci")
    file = connection.settings_dict["NAME"]
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(django_site.LogUnavailableError, match="database is locked"):
            broadcast(room, "two", "ci", timeout=0.1)

        async def part() -> None:
            with pytest.raises(django_site.LogUnavailableError, match="database is locked"):
                await abroadcast(room, "two", "ci", timeout=0.1)
            waiting = asyncio.ensure_future(abroadcast(room, "three", "ci", timeout=PATIENCE))
            other.execute("COMMIT")
            assert (await waiting).seq == 2

        run_async(part)
    (timeout,) = connection.cursor().execute("PRAGMA busy_timeout").fetchone()
    assert timeout == 20_000
    assert texts(room) == [(1, "ci", "one"), (2, "ci", "three")]


def test_a_room_that_is_deleted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened again."""
    room, opened = new_room(), []

    def open_room(name: str) -> models.Room:
        row = message_log.open_room(name)
        opened.append(row)
        if len(opened) == 1:
            models.Room.objects.filter(pk=row.pk).delete()
        return row

    monkeypatch.setattr(broadcaster, "message_log", SimpleNamespace(open_room=open_room))
    assert (broadcast(room, "one", "ci").seq, len(opened)) == (1, 2)


def test_a_lost_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the answer to the commit is lost, it is tried again and logged once."""
    room, seen = new_room(), []

    @contextmanager
    def losing(*arguments: Any) -> Iterator[None]:
        with wait_limits.limited_waits(*arguments):
            yield
        seen.append(texts(room))
        if len(seen) == 1:
            raise OperationalError("the answer was lost")

    monkeypatch.setattr(broadcaster, "limited_waits", losing)
    message = broadcast(room, "one", "ci")
    assert (message.seq, message.name, message.text) == (1, "ci", "one")
    assert seen == [[(1, "ci", "one")]] * 2


def test_a_database_without_tables(tmp_path: Path) -> None:
    """A process with another database is told what to do, by one line."""
    done = manage("broadcast", "ops", "hi", "--name", "ci", BROADCAST_DATA=str(tmp_path))
    assert done.returncode == 1 and "no such table" in done.stderr
    assert "run manage.py migrate, or set DATABASE_URL" in done.stderr
    assert done.stderr.count("\n") == 1


def manage(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of manage.py."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        timeout=PATIENCE,
    )


def example_files() -> dict[str, str]:
    """Return the files of the example in docs/django.md, by their names."""
    page = (ROOT / "docs" / "django.md").read_text("utf-8")
    return dict(re.findall(r"```python\n# (shop/\w+\.py)\n(.*?)```", page, re.DOTALL))


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    """A site with an application of its own: its views broadcast, in a transaction and async."""
    for name, code in {"shop/__init__.py": "", **example_files()}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, "utf-8")
    data: dict[str, Any] = {"BROADCAST_DATA": site_folder(tmp_path), "PYTHONPATH": str(tmp_path)}
    with running(*DAPHNE, **data, DJANGO_SETTINGS_MODULE="shop.settings") as site:
        url = listening(site).replace("ws", "http", 1)
        for number, view in enumerate(("order", "call"), 1):
            with urlopen(f"{url}shop/{view}", timeout=PATIENCE) as answer:
                assert answer.read().decode() == f"you are number {number}"
        done = manage(
            *("broadcast", "orders", "closed", "--name", "shop"),
            **data,
            DJANGO_SETTINGS_MODULE="shop.settings",
        )
        assert done.stdout == "message 3 in orders, as shop\n"
        expected = ["shop: one cup of tea", "shop: a table calls", "shop: closed"]
        assert said(listening(site), "orders") == expected
        assert site.signal(signal.SIGTERM) == 0


# -- other processes --------------------------------------------------------------------------

WORKER = """
import sys
import django
django.setup()
from django.db import transaction
from django_site import broadcast
room = sys.argv[1]
for number in range(30):
    broadcast(room, f"task {number}", "worker")
try:
    with transaction.atomic():
        broadcast(room, "never", "worker")
        1 / 0
except ZeroDivisionError:
    pass
with transaction.atomic():
    broadcast(room, "done", "worker")
print("ready", flush=True)
sys.stdin.read()
"""
"""A process that serves nobody and has no event loop, as a worker of a task queue."""


def test_members_of_all_processes_get_it(cluster: list[str], processes: Processes) -> None:
    """From a worker and from `manage.py broadcast`, through PostgreSQL and Redis."""
    variables = {**processes.services, "DJANGO_SETTINGS_MODULE": "django_site.settings"}
    expected = [(each + 1, f"task {each}") for each in range(30)] + [(31, "done")]

    async def part() -> None:
        members = [await join(url, f"ear{at}", "everywhere") for at, url in enumerate(cluster)]
        before = clients()
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, "everywhere"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **variables},
        )
        assert worker.stdout is not None
        assert await run_within(worker.stdout.readline(), PATIENCE) == b"ready\n"
        await until(lambda: clients() <= before, "a worker that leaves no connection to Redis")
        await worker.communicate(b"")
        assert worker.returncode == 0
        done = await asyncio.to_thread(
            manage, "broadcast", "everywhere", "all", "--name", "ear0", **variables
        )
        assert (done.stdout, done.stderr) == ("message 32 in everywhere, as ear0-2\n", "")
        for each in members:
            await until(lambda: len(each.messages) >= 32, "the messages")  # noqa: B023
            assert each.messages == [*expected, (32, "all")]
            await each.close()

    def clients() -> int:
        with redis.Redis.from_url(processes.services["REDIS_URL"]) as admin:
            return len(admin.client_list())

    asyncio.run(part())
