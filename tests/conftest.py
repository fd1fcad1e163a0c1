"""What several test files share: the houses, started once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from houses import (
    INSTALLED,
    BareHouse,
    House,
    ServedHouse,
    serving,
    zipped,
)
from programs import Running, listening, running
from services import postgresql, redis_server
from wire import Wire
from xdist.scheduler import LoadScopeScheduling

from broadcast_server.cli import settings_of
from broadcast_server.options import parse

DAPHNE = (sys.executable, "-m", "daphne", "-p", "0", "django_site.asgi:application")
ROOT = Path(__file__).resolve().parent.parent
UVICORN = (sys.executable, "-m", "uvicorn", "--port", "0", "django_site.asgi:application")
HOUSES = ("bare", "server", "logged", "installed", "zipapp", "daphne", "uvicorn", "cluster")
SERVED = ("server", "installed", "zipapp")
HOSTED = ("daphne", "uvicorn", "cluster")
LONGEST = (
    "test_site_faults",
    "test_chaos",
    "test_page",
    "test_zipapp",
    "test_site",
    "cluster",
    "test_moderation",
    "zipapp",
    "test_listener",
    "test_cli",
    "test_terminal",
    "test_pipe",
    "test_accounts",
    "installed",
    "server",
    "test_server",
)
"""Groups of tests that take longer than any other, the longest first."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the same

Play = Callable[[House], Awaitable[None]]
Visit = Callable[[ServedHouse], Awaitable[None]]


def variables(options: tuple[str, ...]) -> dict[str, Any]:
    """Return options of ``start`` as the environment that a site reads."""
    given = {
        "BROADCAST_" + flag.strip("-").replace("-", "_").upper(): value
        for flag, value in zip(options[::2], options[1::2], strict=True)
    }
    usual = {
        "BROADCAST_RATE": "0",  # tests say much at once
        # For those who say that they come through a proxy; the others are of this machine.
        "BROADCAST_TRUSTED_PROXY": "127.0.0.1",
        "BROADCAST_MAX_CLIENTS_PER_ADDRESS": "1",
    }
    return usual | given


def migrate(**environment: str) -> None:
    """Make the tables of a database that is not embedded."""
    command = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(command, check=True, env={**os.environ, **environment}, timeout=60)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Have at least three processes: a third of the suite's time is spent waiting."""
    return max(3, os.cpu_count() or 1)


def group_of(test: str) -> str:
    """Return which tests a test runs in one process with: those of its house, or of its file.

    So each house is started once, however its tests are shared out.
    """
    path, _, name = test.partition("::")
    house = re.search(rf"\[({'|'.join(HOUSES)})[-\]]", name)
    return house[1] if house else Path(path).stem


class ByHouse(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Shares tests out by their groups; xdist's own groups do not count since pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByHouse:
    """Have xdist share tests out in this way."""
    return ByHouse(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first, so that at the end nobody waits for one of them."""
    places = {group: place for place, group in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(LONGEST)))


class Processes:
    """Servers in processes of their own: one for each program and set of options."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.services: dict[str, Any] = {}
        """Where the database and the bell of the cluster are, as the environment says it."""
        self._running: dict[tuple[tuple[str, ...], tuple[str, ...]], Running] = {}

    def url(self, program: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Return the address of such a server, started if it is not there yet."""
        key = program, options
        if key not in self._running:
            command = *program, "start", "--port", "0", *options
            self._running[key] = self._stack.enter_context(running(*command))
        return self._running[key].url

    def hosted_url(self, command: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Return the address of a site that *command* serves, with a database of its own."""
        key = command, options
        if key not in self._running:
            data = self._stack.enter_context(tempfile.TemporaryDirectory())
            site = running(*command, BROADCAST_DATA=data, **variables(options))
            self._running[key] = self._stack.enter_context(site)
        return listening(self._running[key])

    def running(self, command: tuple[str, ...], options: tuple[str, ...]) -> Running:
        """Return such a server, which runs already."""
        return self._running[command, options]

    def cluster_urls(self, options: tuple[str, ...]) -> list[str]:
        """Return the addresses of two sites on one Redis and one PostgreSQL."""
        if not self.services:
            redis = self._stack.enter_context(redis_server())
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            url = self._stack.enter_context(postgresql(folder / "postgresql"))
            self.services = {"REDIS_URL": redis.url, "DATABASE_URL": url}
            migrate(**self.services)
        urls = []
        for place in ("one", "two"):
            key = (*DAPHNE, place), options
            if key not in self._running:
                site = running(*DAPHNE, **self.services, **variables(options))
                self._running[key] = self._stack.enter_context(site)
            urls.append(listening(self._running[key]))
        return urls

    def stop(self) -> None:
        """Stop them all; none may have complained."""
        for (command, _), server in self._running.items():
            # uvicorn ends itself by the signal, when it is done.
            wanted = -signal.SIGTERM if command == UVICORN else 0
            assert server.signal(signal.SIGTERM) == wanted


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The command that runs us, for tests that run it themselves."""
    return list(INSTALLED)


@pytest.fixture(scope="module")
def server(program: list[str]) -> Iterator[Running]:
    """A server for all tests of a file; each has a room of its own."""
    with running(*program, "start", "--port", "0") as server:
        assert server.url
        yield server
        assert server.signal(signal.SIGTERM) == 0


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Processes that live until the last test."""
    with ExitStack() as stack:
        processes = Processes(stack)
        yield processes
        processes.stop()


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the token "s3cret"."""
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("s3cret\n", encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def zipapp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single file, built once for all tests; they are not to change it."""
    path = tmp_path_factory.mktemp("zipapp") / "broadcast-server.pyz"
    command = [sys.executable, "-W", "error", str(ROOT / "build_zipapp.py"), "--output", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture(params=["cluster"])  # the name has its tests run where that house is
def cluster(processes: Processes) -> list[str]:
    """The addresses of two sites on one Redis and one PostgreSQL."""
    return processes.cluster_urls(())


class Player:
    """Plays something against a house of one kind."""

    def __init__(self, kind: str, processes: Processes, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self._processes = processes
        self._request = request

    @property
    def hosted(self) -> bool:
        """Whether it is a site, which another's server serves."""
        return self.kind in ("daphne", "uvicorn", "cluster")

    def play(self, part: Play, options: tuple[str, ...] = ()) -> None:
        """Play *part* in a house with these options of ``start``."""
        asyncio.run(self._play(part, options))

    def visit(self, part: Visit, options: tuple[str, ...] = ()) -> None:
        """Play *part*, which needs an address, in a house that has one."""

        async def whole(house: House) -> None:
            assert isinstance(house, ServedHouse)
            await part(house)

        self.play(whole, options)

    async def _play(self, part: Play, options: tuple[str, ...]) -> None:
        settings = replace(settings_of(parse(["start", *options])), port=0)
        if self.kind == "bare":
            await part(BareHouse(settings))
        elif self.kind == "cluster":
            await self._visit(self._processes.cluster_urls(options), part)
        elif self.kind in ("daphne", "uvicorn"):
            command = DAPHNE if self.kind == "daphne" else UVICORN
            await self._visit([self._processes.hosted_url(command, options)], part)
        elif self.kind == "server":
            async with serving(settings) as server:
                await self._visit([server.url], part)
        elif self.kind == "logged":
            with tempfile.TemporaryDirectory() as folder:
                async with serving(replace(settings, log=Path(folder, "log"))) as server:
                    await self._visit([server.url], part)
        else:
            await self._visit([self._processes.url(self._program(), options)], part)

    async def _visit(self, urls: list[str], part: Play) -> None:
        house = ServedHouse(*urls)
        try:
            await part(house)
        finally:
            await house.close()
            await Wire.cut_all()

    def _program(self) -> tuple[str, ...]:
        if self.kind == "installed":
            return INSTALLED
        return zipped(self._request.getfixturevalue("zipapp_path"))


@pytest.fixture(params=HOUSES)
def player(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Every house in turn."""
    return Player(request.param, processes, request)


@pytest.fixture(params=HOUSES[1:])
def anywhere(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Every house that has a socket, in turn."""
    return Player(request.param, processes, request)


@pytest.fixture
def installed(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """The installed server alone, for what takes long."""
    return Player("installed", processes, request)


@pytest.fixture(params=SERVED)
def dialled(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Every house whose sockets are our own, in turn."""
    return Player(request.param, processes, request)


@pytest.fixture(params=("daphne", "uvicorn"))
def onsite(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """The hosted house under each of its servers, in one process."""
    return Player(request.param, processes, request)
