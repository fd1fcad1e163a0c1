"""The threads of Django's pages, and the database connections that they keep: both are bounded."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_client  # noqa: F401  # it sets Django up
import psycopg
import pytest
from asgiref.sync import sync_to_async
from conftest import DAPHNE, UVICORN
from programs import PATIENCE, listening, running, say
from services import postgresql_server, site_folder

from broadcast_server.console.time_limit import run_within
from django_site.transport import page_threads
from django_site.transport.page_threads import PageThreads

CONNECTIONS = 4
"""The BROADCAST_DB_CONNECTIONS of the servers here."""

MANY = 60
"""How many requests are sent to a server, `AT_ONCE` at a time: each needs the database."""

AT_ONCE = 40


def page(url: str, number: int) -> int:
    """Request the chat page with a session cookie that was made up, and return the status."""
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)) as connection:
        cookie = f"sessionid=madeup{number:026d}"
        connection.request("GET", "/", headers={"Cookie": cookie, "Accept": "text/html"})
        response = connection.getresponse()
        response.read()
        return response.status


def most(counted: Callable[[], int], url: str) -> int:
    """Send `MANY` requests, and return the most that *counted* returned meanwhile and after."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = [pool.submit(page, url, number) for number in range(MANY)]
        counts = [counted()]
        while not all(each.done() for each in sent):
            counts.append(counted())
        assert Counter(each.result() for each in sent) == {200: MANY}
    return max(*counts, counted())


@contextmanager
def site(command: tuple[str, ...], folder: Path, **variables: Any) -> Iterator[tuple[str, int]]:
    """Run a Django deployment in which somebody has published, and yield its address and pid."""
    variables["BROADCAST_DATA"] = site_folder(folder)
    with running(*command, BROADCAST_DB_CONNECTIONS=str(CONNECTIONS), **variables) as server:
        url = listening(server)
        say(url, "lobby", "bob", "hello")
        yield url, server.process.pid


@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_postgresql_connections_are_bounded(command: tuple[str, ...]) -> None:
    """However many requests a stranger sends, a process opens no more than it may."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgresql_server(folder / "postgresql"))
        watcher = stack.enter_context(psycopg.connect(database.url, autocommit=True))
        url, _ = stack.enter_context(site(command, folder, DATABASE_URL=database.url))

        def connections() -> int:
            others = "select count(*) from pg_stat_activity where datname = current_database()"
            row = watcher.execute(f"{others} and pid <> pg_backend_pid()").fetchone()
            assert row is not None
            return int(row[0])

        assert connections() == 1, "the connection of the rooms"
        assert most(connections, url) == CONNECTIONS


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are read from /proc")
@pytest.mark.parametrize("command", [DAPHNE, UVICORN], ids=["daphne", "uvicorn"])
def test_sqlite_connections_are_bounded(command: tuple[str, ...], tmp_path: Path) -> None:
    """The same with SQLite, where a connection is an open file."""
    with site(command, tmp_path) as (url, pid):
        file = str(tmp_path / "broadcast.sqlite3")

        def connections() -> int:
            found = 0
            for each in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    found += os.readlink(each) == file  # noqa: PTH115  # it need not exist
                except FileNotFoundError:  # closed in the meantime
                    pass
            return found

        assert connections() == 1, "the connection of the rooms"
        assert most(connections, url) == CONNECTIONS


# -- in this process ----------------------------------------------------------


class SlowApp:
    """An ASGI application: its blocking code waits for an event. It collects its threads."""

    def __init__(self) -> None:
        self.proceed = threading.Event()
        self.threads: list[set[int]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Respond to a request."""
        threads = {await sync_to_async(self._work)(), await sync_to_async(self._work)()}
        self.threads.append(threads)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    def _work(self) -> int:
        assert self.proceed.wait(PATIENCE)
        return threading.get_ident()


async def get(app: Any, address: str = "127.0.0.1") -> int:
    """Send a request to *app* and return the status of the response."""
    statuses: list[int] = []

    async def send(event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            statuses.append(event["status"])

    scope = {"type": "http", "path": "/", "client": (address, 1), "headers": []}
    await app(scope, None, send)
    [status] = statuses
    return status


def test_threads_are_shared() -> None:
    """Many requests at once share the threads, each request stays in one."""
    app = SlowApp()
    app.proceed.set()

    async def part() -> list[int]:
        return await asyncio.gather(*(get(pages) for _ in range(50)))

    pages = PageThreads(app, 3)
    assert asyncio.run(part()) == [200] * 50
    assert all(len(threads) == 1 for threads in app.threads)
    assert len(set().union(*app.threads)) == 3


def test_a_response_that_is_not_read_occupies_no_thread() -> None:
    """While a client does not take its response, its thread works for others."""

    async def part() -> None:
        reading, stuck = asyncio.Event(), asyncio.Event()

        async def send(event: dict[str, Any]) -> None:
            stuck.set()
            await reading.wait()

        scope = {"type": "http", "path": "/", "client": ("127.0.0.1", 1), "headers": []}
        slow = asyncio.ensure_future(pages(scope, None, send))
        await stuck.wait()
        assert await get(pages) == 200
        reading.set()
        await slow

    app = SlowApp()
    app.proceed.set()
    pages = PageThreads(app, 1)
    asyncio.run(run_within(part(), PATIENCE))


def test_too_many_requests_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that would wait too long are rejected."""
    monkeypatch.setattr(page_threads, "MAX_WAITING", 5)
    monkeypatch.setattr(page_threads, "MAX_WAITING_PER_ADDRESS", 3)

    async def part() -> None:
        from_ = partial(get, pages)
        first = [asyncio.ensure_future(from_("192.0.2.1")) for _ in range(3)]
        await asyncio.sleep(0)
        assert await from_("192.0.2.1") == 503
        second = [asyncio.ensure_future(from_("192.0.2.2")) for _ in range(2)]
        await asyncio.sleep(0)
        assert await from_("192.0.2.3") == 503
        app.proceed.set()
        assert await asyncio.gather(*first, *second) == [200] * 5
        assert await asyncio.gather(*(from_("192.0.2.1") for _ in range(3))) == [200] * 3

    app = SlowApp()
    pages = PageThreads(app, 2)
    asyncio.run(run_within(part(), PATIENCE))


def test_a_request_that_is_cancelled_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that disconnects while it waits does not count any more."""
    monkeypatch.setattr(page_threads, "MAX_WAITING", 2)

    async def part() -> None:
        waiting = [asyncio.ensure_future(get(pages)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await get(pages) == 503
        await asyncio.sleep(0)
        for each in waiting:
            each.cancel()
        app.proceed.set()
        await asyncio.wait(waiting)
        assert await get(pages) == 200

    app = SlowApp()
    pages = PageThreads(app, 1)
    asyncio.run(run_within(part(), PATIENCE))


def test_every_request_that_fails_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the application does not use up the places."""
    monkeypatch.setattr(page_threads, "MAX_WAITING", 1)

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    async def part() -> None:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="no"):
                await get(pages)

    pages = PageThreads(failing, 1)
    asyncio.run(part())
