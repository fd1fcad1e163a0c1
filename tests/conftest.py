"""Fixtures and hooks of the whole suite: deployments that are started once for all tests."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from certificates import write_pair
from deployments import (
    INSTALLED,
    BareDeployment,
    Deployment,
    ServedDeployment,
    serving,
    zipped,
)
from hypothesis import HealthCheck, settings
from leftovers import watch
from programs import Running, listening, running
from services import SHARED_FOLDER, postgresql, redis_server, site_folder
from transcripts import HOST_SUFFIX
from wire import Wire
from xdist.scheduler import LoadScopeScheduling

from broadcast_server.cli.options import parse_options
from broadcast_server.cli.start import settings_of
from broadcast_server.server.settings import Settings
from broadcast_server.server.tls import ReloadableCertificate

DAPHNE = (sys.executable, "-m", "daphne", "-p", "0", "django_site.asgi:application")
ROOT = Path(__file__).resolve().parent.parent
UVICORN = (sys.executable, "-m", "uvicorn", "--port", "0", "django_site.asgi:application")
DEPLOYMENTS = ("bare", "server", "logged", "installed", "zipapp", "daphne", "uvicorn", "cluster")
OWN_SERVERS = ("server", "installed", "zipapp")
DJANGO_KINDS = ("daphne", "uvicorn", "cluster")

# A shell without job control starts background commands with Ctrl+C ignored, and each program that
# a test starts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SLOWEST_GROUPS = (
    "daphne",
    "cluster",
    "uvicorn",
    "test_chaos",
    "installed",
    "test_zipapp",
    "logged",
    "test_outages",
    "server",
    "test_replication",
    "test_settings",
    "test_server",
    "zipapp",
    "test_benchmarks",
    "test_restored_database",
    "test_main",
    "test_bounded_lists",
    "test_names_on_screen",
    "test_servers",
    "test_distribution",
    "test_pipe",
    "test_prompt",
    "test_late_imports",
    "test_frozen_process",
    "test_suspend",
)
"""The slowest groups of tests, the slowest first: `group_of` says what a group is."""

# How long an example takes is not what these tests are about, and depends on the other workers.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Else each process compiles all modules, and each worker rewrites the assertions of all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

NO_RATE = ("--rate", "0")
"""Tests publish many messages at once. Those of the rate give their own."""

FRIEND = "https://friend.example"
"""The only origin besides its own that each server allows."""

OPERATOR_FILE = Path(__file__).parent / "operator_key.txt"
"""A file with the operator key of each server."""

USUAL = (*NO_RATE, "--allow-origin", FRIEND, "--operator-file", str(OPERATOR_FILE))
"""The options of each server: with options of their own, tests cost a server of each kind."""

SHARED = pytest.StashKey["tempfile.TemporaryDirectory[str]"]()
WATCH = pytest.StashKey["subprocess.Popen[bytes] | None"]()

Part = Callable[[Deployment], Awaitable[None]]
ServedPart = Callable[[ServedDeployment], Awaitable[None]]


def variables(options: tuple[str, ...]) -> dict[str, Any]:
    """Return options of ``start`` as environment variables of the Django deployment."""
    given = {
        "BROADCAST_" + flag.strip("-").replace("-", "_").upper(): value
        for flag, value in zip(options[::2], options[1::2], strict=True)
    }
    usual = {
        "BROADCAST_RATE": "0",  # as `USUAL`
        "BROADCAST_ALLOW_ORIGIN": FRIEND,
        # The limit applies to clients with an X-Forwarded-For header; others are local.
        "BROADCAST_TRUSTED_PROXY": "127.0.0.1",
        "BROADCAST_MAX_CLIENTS_PER_ADDRESS": "1",
    }
    return usual | given


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all processes of this run share."""
    if not hasattr(config, "workerinput"):
        folder = config.stash[SHARED] = tempfile.TemporaryDirectory()
        os.environ[SHARED_FOLDER] = folder.name
        os.environ["XDG_CACHE_HOME"] = folder.name  # for the compiled modules of the single file
        config.stash[WATCH] = watch(SHARED_FOLDER)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder, and end what still runs."""
    if SHARED in config.stash:
        config.stash[SHARED].cleanup()
        if (watching := config.stash[WATCH]) is not None:
            watching.communicate()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Import another part of the tests first in each worker, which then collects all of them.

    In a new clone, pytest rewrites the assertions of each file when it is imported, and keeps the
    result. That takes longer than the rest of a collection, and no two workers need do the same.
    """
    if not hasattr(session.config, "workerinput"):
        return
    given = session.config.workerinput
    number, count = int(given["workerid"].removeprefix("gw")), given["workercount"]
    folders = [path for path in map(Path, session.config.args) if path.is_dir()]
    files = sorted(file for folder in folders for file in folder.rglob("test_*.py"))
    for file in files[number::count]:
        sys.path.insert(0, str(file.parent))  # as pytest does
        with suppress(Exception, pytest.skip.Exception):  # the collection will report it
            import_module(file.stem)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use at least four worker processes: half of the suite's time is spent waiting."""
    return max(4, os.cpu_count() or 1)


def group_of(test: str) -> str:
    """Return a test's group, whose tests run in one worker process.

    The group is the deployment that the test runs against, else its file. So each deployment is
    started once, however many workers there are.
    """
    path, _, name = test.partition("::")
    deployment = re.search(rf"\[({'|'.join(DEPLOYMENTS)})[-\]]", name)
    return deployment[1] if deployment else Path(path).stem


class ByDeployment(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Distributes tests by `group_of`: xdist ignores its own groups since pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByDeployment:
    """Make xdist use the scheduler above."""
    return ByDeployment(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slowest groups first, so that no worker is left with one of them at the end."""
    ranks = {group: place for place, group in enumerate(SLOWEST_GROUPS)}
    items.sort(key=lambda item: ranks.get(group_of(item.nodeid), len(SLOWEST_GROUPS)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what lasts to the end: all modules and the list of all tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


TOKENS_SCRIPT = """
from django_site.accounts.models import Account, Token
from django.contrib.auth.models import Group
for name in {names}:
    host = Account.objects.create(username=name)
    host.groups.add(Group.objects.get(name="moderators"))
    print(Token.make(host, "t")[1])
"""


class Processes:
    """Server processes that tests share: one for each program and set of options."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.services: dict[str, Any] = {}
        """The variables that tell the cluster's sites where Redis and PostgreSQL are."""
        self._running: dict[tuple[tuple[str, ...], tuple[str, ...]], Running] = {}
        self._sites: dict[str, dict[str, Any]] = {}  # by address: where the data of a site is
        self._tokens: dict[str, dict[str, str]] = {}  # by address: of moderators

    def url(self, program: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Return the address of *program* with these options; start it on the first call."""
        key = program, options
        if key not in self._running:
            command = *program, "start", "--port", "0", *USUAL, *options
            self._running[key] = self._stack.enter_context(running(*command))
        return self._running[key].url

    def django_url(self, command: tuple[str, ...], options: tuple[str, ...]) -> str:
        """Return the address of a Django deployment that *command* serves."""
        key = command, options
        if key not in self._running:
            data = site_folder(self._stack.enter_context(tempfile.TemporaryDirectory()))
            site = running(*command, BROADCAST_DATA=data, **variables(options))
            self._running[key] = self._stack.enter_context(site)
            self._sites[listening(self._running[key])] = {"BROADCAST_DATA": data}
        return listening(self._running[key])

    def operator_tokens(self, url: str, names: tuple[str, ...]) -> dict[str, str]:
        """Return the tokens of moderators at the Django deployment at *url*, made once."""
        if url not in self._tokens:
            command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c"]
            script = TOKENS_SCRIPT.format(names=[f"{name}{HOST_SUFFIX}" for name in names])
            site = {**os.environ, **self._sites.get(url, self.services)}
            done = subprocess.run([*command, script], env=site, check=True, capture_output=True)
            self._tokens[url] = dict(zip(names, done.stdout.decode().split(), strict=True))
        return self._tokens[url]

    def running(self, command: tuple[str, ...], options: tuple[str, ...]) -> Running:
        """Return the process of a server that has been started."""
        return self._running[command, options]

    def cluster_urls(self, options: tuple[str, ...]) -> list[str]:
        """Return the addresses of two Django processes that share a Redis and a PostgreSQL."""
        if not self.services:
            redis = self._stack.enter_context(redis_server())
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            url = self._stack.enter_context(postgresql(folder / "postgresql"))
            self.services = {
                "REDIS_URL": redis.url,
                "DATABASE_URL": url,
                "SECRET_KEY": secrets.token_urlsafe(48),
            }
        urls = []
        for place in ("one", "two"):
            key = (*DAPHNE, place), options
            if key not in self._running:
                site = running(*DAPHNE, **self.services, **variables(options))
                self._running[key] = self._stack.enter_context(site)
            urls.append(listening(self._running[key]))
        return urls

    def stop(self) -> None:
        """Stop all servers. Each must exit cleanly and must not have printed a traceback."""
        for (command, _), server in self._running.items():
            # uvicorn raises the signal again after its shutdown.
            expected = -signal.SIGTERM if command == UVICORN else 0
            assert server.signal(signal.SIGTERM) == expected


LOGGING_FLAGS = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing")
"""What `start` sets for its process, as the documentation of `logging` advises."""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what `start` changes of `logging`, if a test runs it in this process."""
    factory = logging.getLogRecordFactory()
    flags = [getattr(logging, name) for name in LOGGING_FLAGS]
    yield
    logging.setLogRecordFactory(factory)
    for name, value in zip(LOGGING_FLAGS, flags, strict=True):
        setattr(logging, name, value)


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The command of the installed program, for tests that start processes themselves."""
    return list(INSTALLED)


@pytest.fixture(scope="module")
def server(program: list[str]) -> Iterator[Running]:
    """A server for all tests of one file; each test uses its own room."""
    with running(*program, "start", "--port", "0", *NO_RATE) as server:
        assert server.url
        yield server
        assert server.signal(signal.SIGTERM) == 0


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Server processes that live until the last test."""
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
    """The single file, built once for all tests. Tests must not change it."""
    path = tmp_path_factory.mktemp("zipapp") / "broadcast-server.pyz"
    command = [sys.executable, "-W", "error", str(ROOT / "build_zipapp.py"), "--output", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture(params=["cluster"])  # the parameter puts its tests into that group
def cluster(processes: Processes) -> list[str]:
    """The addresses of two Django processes that share a Redis and a PostgreSQL."""
    return processes.cluster_urls(())


@cache
def settings_with(options: tuple[str, ...]) -> Settings:
    """Return the settings of a server with these options, at a free port."""
    return replace(settings_of(parse_options(["start", *USUAL, *options])), port=0)


class Player:
    """Runs a test's coroutine against a deployment of one kind."""

    def __init__(self, kind: str, processes: Processes, request: pytest.FixtureRequest) -> None:
        self.kind = kind
        self._processes = processes
        self._request = request
        self._hosts: tuple[str, ...] = ()

    @property
    def is_django(self) -> bool:
        """Whether it is a Django deployment, which Daphne or uvicorn serves."""
        return self.kind in ("daphne", "uvicorn", "cluster")

    def play(
        self, part: Part, options: tuple[str, ...] = (), *, hosts: tuple[str, ...] = ()
    ) -> None:
        """Run *part* against a deployment with these options of ``start``.

        A Django deployment has a moderator's account for each of *hosts*, see `transcripts`.
        """
        self._hosts = hosts if self.is_django else ()
        asyncio.run(self._play(part, options))

    def play_served(self, part: ServedPart, options: tuple[str, ...] = ()) -> None:
        """Run *part*, which needs an address, against a deployment that has one."""

        async def served(deployment: Deployment) -> None:
            assert isinstance(deployment, ServedDeployment)
            await part(deployment)

        self.play(served, options)

    async def _play(self, part: Part, options: tuple[str, ...]) -> None:
        settings = settings_with(options)
        if self.kind == "bare":
            await part(BareDeployment(settings))
        elif self.kind == "cluster":
            await self._play_at(self._processes.cluster_urls(options), part)
        elif self.kind in ("daphne", "uvicorn"):
            command = DAPHNE if self.kind == "daphne" else UVICORN
            await self._play_at([self._processes.django_url(command, options)], part)
        elif self.kind == "server":
            async with serving(settings) as server:
                await self._play_at([server.url], part)
        elif self.kind == "logged":
            with tempfile.TemporaryDirectory() as folder:
                async with serving(replace(settings, log=Path(folder, "log"))) as server:
                    await self._play_at([server.url], part)
        elif self.kind == "tls":
            pair = self._request.getfixturevalue("certificate")
            trusting = ssl.create_default_context(cafile=str(pair[0]))
            async with serving(settings, ReloadableCertificate(*pair)) as server:
                await self._play_at([server.url], part, trusting)
        else:
            await self._play_at([self._processes.url(self._program(), options)], part)

    async def _play_at(
        self, urls: list[str], part: Part, trusting: ssl.SSLContext | None = None
    ) -> None:
        deployment = ServedDeployment(*urls, trusting=trusting)
        if self._hosts:
            deployment.operator_tokens = self._processes.operator_tokens(urls[0], self._hosts)
        try:
            await part(deployment)
        finally:
            await deployment.close()
            await Wire.cut_all()

    def _program(self) -> tuple[str, ...]:
        if self.kind == "installed":
            return INSTALLED
        return zipped(self._request.getfixturevalue("zipapp_path"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    write_pair(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(params=(*DEPLOYMENTS, "tls"))
def player(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Each kind of deployment in turn, and the standalone server with TLS."""
    return Player(request.param, processes, request)


@pytest.fixture(params=DEPLOYMENTS[1:])
def any_server(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Each kind of deployment that has a socket, in turn."""
    return Player(request.param, processes, request)


@pytest.fixture
def installed(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """The installed server only, for slow tests."""
    return Player("installed", processes, request)


@pytest.fixture(params=OWN_SERVERS)
def own_server(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """Each kind of the standalone server in turn."""
    return Player(request.param, processes, request)


@pytest.fixture(params=("daphne", "uvicorn"))
def django_server(request: pytest.FixtureRequest, processes: Processes) -> Player:
    """The Django deployment under each of its servers, as one process."""
    return Player(request.param, processes, request)
