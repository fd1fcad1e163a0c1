"""The catalogue: all servers that are compared."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .load import compile_c, compiler
from .servers import (
    BUILT,
    PEERS,
    ROOT,
    Server,
    needs_built,
    needs_module,
    needs_program,
    which,
)


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
        program = which(command[0])
        if program is None:
            return ""
        done = subprocess.run([program, *command[1:]], check=False, capture_output=True, text=True)
        return done.stdout.splitlines()[0].strip() if done.stdout else ""

    return told


def of_node(name: str) -> Callable[[], str]:
    """Return what tells the version of a Node module that was installed."""

    def told() -> str:
        described = BUILT / "node_modules" / name / "package.json"
        return f"{name} {json.loads(described.read_text('utf-8'))['version']}"

    return told


def of_gorilla() -> str:
    """Tell the versions of Go and of Debian's package of the library."""
    package = "golang-github-gorilla-websocket-dev"
    library = of_program("dpkg-query", "--show", "--showformat=${Version}", package)()
    return f"gorilla/websocket {library}, {of_program('go', 'version')()}"


def no_file() -> str | None:
    """Tell whether the single file was built."""
    return None if FILE.exists() else f"no {FILE.name}: python3 build_zipapp.py"


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
    told = (PEERS / "mosquitto" / "mosquitto.conf").read_text("ascii")
    here = scratch / "mosquitto.conf"
    here.write_text(told.replace("PORT", str(port)).replace("FOLDER", str(scratch)), "ascii")
    return [which("mosquitto") or "", "-c", str(here)]


def ours(name: str, *program: str, missing: Callable[[], str | None] = lambda: None) -> Server:
    """Return our own server, run by *program*, with its default settings."""
    return Server(
        name,
        lambda port, scratch: [sys.executable, *program, "start", "--port", str(port)],
        missing=missing,
        version=of_packages("broadcast-server", "websockets"),
        ours=True,
    )


def node(name: str, folder: str, dialect: str = "text") -> Server:
    """Return a server that runs in Node on the module *name*."""
    return Server(
        f"Node {name}",
        lambda port, scratch: ["node", peer(folder, "server.js"), str(port)],
        dialect=dialect,
        missing=lambda: (
            needs_program("node", "nodejs")() or needs_built(BUILT / "node_modules" / name)()
        ),
        version=of_node(name),
        environment={"NODE_PATH": str(BUILT / "node_modules")},
    )


def picows(name: str, *options: str) -> Server:
    """Return a server on picows."""
    return Server(
        name,
        lambda port, scratch: [sys.executable, peer("picows"), str(port), *options],
        missing=lambda: (
            needs_module("picows")() or needs_module(options[0] if options else "sys")()
        ),
        version=of_packages("picows", *options),
    )


FILE = ROOT / "broadcast-server.pyz"
OURS = FILE.name
INSTALLED = "broadcast-server, installed"
UVLOOP = "broadcast-server, installed, uvloop"
WEBSOCKETS = "websockets broadcast()"
EACH = "C floor"
TURN = "C floor, coalescing"

OURS_ALL = (OURS, INSTALLED, UVLOOP)
FLOORS = (EACH, TURN)

SERVERS = (
    ours(OURS, str(FILE), missing=no_file),
    ours(INSTALLED, "-m", "broadcast_server"),
    Server(
        UVLOOP,
        lambda port, scratch: [sys.executable, peer("uvloop"), str(port)],
        missing=needs_module("uvloop"),
        version=of_packages("broadcast-server", "websockets", "uvloop"),
        ours=True,
    ),
    Server(
        WEBSOCKETS,
        lambda port, scratch: [sys.executable, peer("websockets"), str(port)],
        version=of_packages("websockets"),
    ),
    picows("picows"),
    picows("picows, uvloop", "uvloop"),
    node("ws", "ws"),
    node("socket.io", "socketio", "socketio"),
    Server(
        "Go gorilla/websocket",
        lambda port, scratch: [str(BUILT / "gorilla"), str(port)],
        missing=needs_built(BUILT / "gorilla"),
        version=of_gorilla,
    ),
    Server(
        "mosquitto",
        mosquitto,
        dialect="mqtt",
        missing=needs_program("mosquitto", "mosquitto"),
        version=of_program("mosquitto", "-h"),
    ),
    floor("each", EACH),
    floor("turn", TURN),
)
