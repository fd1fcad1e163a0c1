"""The servers: ours, those that a user could use instead, and the minimal servers in C.

Each is a command that listens on a port of 127.0.0.1. The code of the others is in `peers`, one
folder each. What they need besides this project's packages may be missing on a machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .load import SERVERS_CORE, Failed, pinned

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
BUILT = ROOT / "build" / "benchmarks"
"""Where `python -m benchmarks --install` puts what peers need; ignored by git."""

START_TIMEOUT_S = 30.0
"""Seconds that a server may take until it listens."""

Command = Callable[[int, Path], list[str]]


@dataclass(frozen=True)
class Server:
    """A server. *command* returns its command for a port and a scratch folder.

    *variants* are its commands for measurements that need another configuration. A server that
    is *brief* takes part in fewer rounds. *only* names the measurements it is needed for, if it
    is not needed for all.
    """

    name: str
    command: Command
    dialect: str = "text"
    missing: Callable[[], str | None] = lambda: None
    version: Callable[[], str] = lambda: ""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    ours: bool = False
    variants: Mapping[str, Command] = field(default_factory=dict)
    brief: bool = False
    only: frozenset[str] | None = None


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    server: Server
    process: subprocess.Popen[bytes]
    port: int
    seconds: float
    """From the start of the process until it accepted a connection."""

    @property
    def memory(self) -> int:
        """The private memory of the process and its children, in bytes."""
        total = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
                if line.startswith("Private"):
                    total += 1024 * int(line.split()[1])
        return total

    @property
    def target(self) -> dict[str, object]:
        """The options that tell the load generator about this server."""
        return {"port": self.port, "dialect": self.server.dialect, "pid": self.process.pid}


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: Server, scratch: Path, variant: str = "") -> Iterator[Running]:
    """Run *server* on its core, and kill it at the end. Raises Failed."""
    port = free_port()
    words = server.variants[variant] if variant else server.command
    command = pinned(words(port, scratch), SERVERS_CORE)
    log = scratch / "log"
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=server.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **server.environment},
        )
    try:
        while not _listens(port):
            if process.poll() is not None or time.perf_counter() - begin > START_TIMEOUT_S:
                lines = log.read_text("utf-8", "replace").strip().splitlines()
                raise Failed(f"{server.name} does not listen: {lines[-1:]}")
            time.sleep(0.002)
        yield Running(server, process, port, time.perf_counter() - begin)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            # If nothing listens there, a TCP socket can connect to itself.
            return bool(probe.getsockname() != probe.getpeername())
    except OSError:
        return False


# -- what is needed -----------------------------------------------------------


def needs_module(name: str) -> Callable[[], str | None]:
    """Return a function that says why the Python module *name* is missing, None if it is not."""

    def missing() -> str | None:
        if importlib.util.find_spec(name) is None:
            return f"no {name}: pip install -e '.[bench]'"
        return None

    return missing


def which(name: str) -> str | None:
    """Return the path of the program *name*, which may also be in /usr/sbin."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")


def needs_program(name: str, package: str) -> Callable[[], str | None]:
    """Return a function that says why the program *name* is missing, None if it is not."""
    return lambda: None if which(name) else f"no {name}: install {package}"


def needs_built(path: Path) -> Callable[[], str | None]:
    """Return a function that says why *path* is missing, None if ``--install`` has made it."""
    return lambda: None if path.exists() else f"no {path.name}: python -m benchmarks --install"
