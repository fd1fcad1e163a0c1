"""Wait limits: what stands still, a process or PostgreSQL, does not stop what runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import django_client  # noqa: F401  # it sets Django up
import pytest
from conftest import DAPHNE
from django.db import OperationalError, connections
from django.db.utils import ConnectionHandler
from programs import ROOT, listening, running
from services import postgresql_server
from site_member import join, members, until

from broadcast_server.console.time_limit import run_within
from django_site.configuration.database_url import database_of
from django_site.store import health_check, wait_limits

HOLD_LOCK = """
import os, signal
from django.db import transaction
import django_site.asgi
from django_site import models
with transaction.atomic():
    models.Room.objects.select_for_update().get(name="held")
    print("locked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    models.Room.objects.filter(name="held").update(head=1000)
"""
"""A process of the site that stands still in a transaction, with the row of a room locked."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a PostgreSQL with the site's tables."""
    # Not in pytest's folder: PostgreSQL's user cannot read that if pytest runs as root.
    with tempfile.TemporaryDirectory() as folder, postgresql_server(Path(folder, "pg")) as server:
        yield server.url


@contextmanager
def holding_the_lock(variables: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """Run `HOLD_LOCK`, from when it stands still."""
    command = [sys.executable, "-c", HOLD_LOCK]
    environment = {**os.environ, **variables}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    ) as stopped:
        try:
            assert stopped.stdout is not None
            assert stopped.stdout.readline() == "locked\n"
            yield stopped
        finally:
            stopped.kill()


def test_a_process_that_stands_still_in_a_transaction(url: str, tmp_path: Path) -> None:
    """Its rooms go on without it, other rooms wait for no lock, and it writes nothing later."""

    async def part(site: str, variables: dict[str, Any]) -> None:
        async with members(join(site, "a", "held"), join(site, "b", "other")) as (held, other):
            await held.publish("before")
            await until(lambda: held.events_of("message"), "an echo")
            with holding_the_lock(variables) as stopped:
                await held.publish("now")
                await other.publish("meanwhile")
                await until(lambda: other.events_of("message"), "another room")
                await until(lambda: len(held.events_of("message")) == 2, "the room that was held")
                stopped.send_signal(signal.SIGCONT)
                _, errors = await asyncio.to_thread(stopped.communicate, None, 20)
                assert stopped.returncode == 1
                assert "idle-in-transaction timeout" in errors
            await held.publish("after")
            await until(lambda: len(held.events_of("message")) == 3, "the room")
            assert [each["seq"] for each in held.events_of("message")] == [1, 2, 3]

    variables: dict[str, Any] = {"DATABASE_URL": url, "BROADCAST_DATA": str(tmp_path)}
    with ExitStack() as stack:
        site = stack.enter_context(running(*DAPHNE, **variables))
        asyncio.run(run_within(part(listening(site), variables), 60))
        assert site.signal(signal.SIGTERM) == 0


def test_the_limits_of_a_connection(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement, a wait for a lock and a pause in a transaction are limited by PostgreSQL.

    An answer that never comes, since PostgreSQL stands still, is limited by the process.
    """
    monkeypatch.setattr(wait_limits, "ANSWER_S", 0.5)
    database = ConnectionHandler({"default": database_of(url)})["default"]
    database.ensure_connection()
    with database.cursor() as cursor:
        for name, value in wait_limits.SESSION_SETTINGS.items():
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == ("0" if name == "tcp_user_timeout" else value,), name
        backend = int(database.connection.info.backend_pid)
        os.kill(backend, signal.SIGSTOP)
        try:
            begin = time.monotonic()
            with pytest.raises(OperationalError, match=r"no answer for 0\.5 seconds"):
                cursor.execute("SELECT 1")
            assert time.monotonic() - begin >= 0.5
        finally:
            os.kill(backend, signal.SIGCONT)
    assert not database.is_usable()
    database.close()
    with database.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    database.close()


def test_a_connection_is_checked_now_and_then(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is replaced before its next use if it was cut; just after a check, a statement fails."""
    kept = {**database_of(url), "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    handler = ConnectionHandler({"default": kept, "other": database_of(url)})
    database, other = handler["default"], handler["other"]

    def backend() -> int:
        database.close_if_unusable_or_obsolete()  # as before each use in a thread
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    def cut(backend: int) -> None:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
            assert cursor.fetchone() == (True,)

    monkeypatch.setattr(health_check, "CHECK_INTERVAL_S", 60)
    first = backend()
    cut(first)
    with pytest.raises(OperationalError):
        backend()
    second = backend()  # after an error, Django checks it at once
    monkeypatch.setattr(health_check, "CHECK_INTERVAL_S", 0)
    cut(second)
    assert backend() not in (first, second)
    monkeypatch.setattr(health_check, "CHECK_INTERVAL_S", 60)
    database.close_if_unusable_or_obsolete()
    database.set_autocommit(False)
    monkeypatch.setattr(health_check, "CHECK_INTERVAL_S", 0)  # it is due, but would begin
    database.commit()  # a transaction
    database.set_autocommit(True)
    handler.close_all()


def test_a_block_with_a_limit_of_its_own(url: str) -> None:
    """The time of all statements in the block is limited, by PostgreSQL and by the process."""
    database = ConnectionHandler({"default": database_of(url)})["default"]
    connections["default"] = database  # of this thread only
    try:
        with database.cursor() as cursor:
            with pytest.raises(OperationalError, match="statement timeout"):
                with wait_limits.limited_waits(database, 0.1):
                    cursor.execute("SELECT pg_sleep(9)")
            with wait_limits.limited_waits(database, 9):
                cursor.execute("SHOW statement_timeout")
                assert cursor.fetchone() == ("9s",)
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("20s",)  # of every connection of a server
            backend = int(database.connection.info.backend_pid)
            os.kill(backend, signal.SIGSTOP)
            with pytest.raises(OperationalError, match=r"no answer for .* seconds"):
                with wait_limits.limited_waits(database, 0.1):
                    pass
            os.kill(backend, signal.SIGCONT)
    finally:
        database.close()
        del connections["default"]
