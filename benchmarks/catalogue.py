"""The catalogue: all servers that are compared."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .load import compile_c, compiler
from .servers import BUILT, PEERS, Server, needs_built, needs_program


def of_packages(*names: str) -> Callable[[], str]:
    """Return what tells the versions of Python packages."""

    def told() -> str:
        found = []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                found.append(f"no {name}")
        return ", ".join(found)

    return told


def of_program(*command: str) -> Callable[[], str]:
    """Return what tells the version in the first line that a command prints."""

    def told() -> str:
        if shutil.which(command[0]) is None:
            return ""
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.stdout.splitlines()[0].strip() if done.stdout else ""

    return told


def of_node(name: str) -> Callable[[], str]:
    """Return what tells the version of a Node module that was installed."""

    def told() -> str:
        described = BUILT / "node_modules" / name / "package.json"
        return f"{name} {json.loads(described.read_text('utf-8'))['version']}"

    return told


def no_compiler() -> str | None:
    """Tell whether the system's C compiler is there."""
    return None if compiler() else "no cc: install a C compiler"


def peer(name: str, file: str = "server.py") -> str:
    """Return the path of a peer's file."""
    return str(PEERS / name / file)


@functools.cache
def floor_program() -> Path:
    """Compile the floor in C, once."""
    return compile_c(PEERS / "floor" / "floor.c", Path(tempfile.mkdtemp()))


def floor(kind: str, name: str) -> Server:
    """Return the floor in C, *each* or *turn*."""
    return Server(
        name,
        lambda port, scratch: [str(floor_program()), str(port), kind],
        missing=no_compiler,
        version=of_program("cc", "--version"),
    )


def mosquitto(port: int, scratch: Path) -> list[str]:
    """Write the broker's configuration, and return its command."""
    told = PEERS / "mosquitto" / "mosquitto.conf"
    here = scratch / "mosquitto.conf"
    here.write_text(told.read_text("ascii").replace("PORT", str(port)), "ascii")
    return [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(here)]


def ours(*options: str) -> Callable[[int, Path], list[str]]:
    """Return what makes our own command."""

    def command(port: int, scratch: Path) -> list[str]:
        program = [sys.executable, "-m", "broadcast_server"]
        return [*program, "start", "--port", str(port), *options]

    return command


def node(name: str) -> Server:
    """Return a server that runs in Node."""
    return Server(
        name,
        lambda port, scratch: ["node", peer(name, "server.js"), str(port)],
        dialect="socketio" if name == "socket.io" else "text",
        missing=lambda: (
            needs_program("node", "nodejs")() or needs_built(BUILT / "node_modules" / name)()
        ),
        version=of_node(name),
        environment={"NODE_PATH": str(BUILT / "node_modules")},
    )


OURS = "broadcast-server"
UVLOOP = "broadcast-server, uvloop"
WEBSOCKETS = "websockets broadcast()"
EACH = "C floor"
TURN = "C floor, coalescing"

SERVERS = (
    Server(OURS, ours(), version=of_packages("websockets"), ours=True),
    Server(
        WEBSOCKETS,
        lambda port, scratch: [sys.executable, peer("websockets"), str(port)],
        version=of_packages("websockets"),
    ),
    floor("each", EACH),
    floor("turn", TURN),
)
