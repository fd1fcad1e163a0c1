"""The catalogue of all servers that are compared."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
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
from .tls_idle import write_certificate


def package_versions(*names: str) -> Callable[[], str]:
    """Return a function that describes the versions of Python packages."""

    def describe() -> str:
        found = []
        for name in names:
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                found.append(f"no {name}")
        return ", ".join(found)

    return describe


def program_version(*command: str) -> Callable[[], str]:
    """Return a function that returns the first line that a command prints."""

    def describe() -> str:
        program = which(command[0])
        if program is None:
            return ""
        done = subprocess.run([program, *command[1:]], check=False, capture_output=True, text=True)
        return done.stdout.splitlines()[0].strip() if done.stdout else ""

    return describe


def node_version(name: str) -> Callable[[], str]:
    """Return a function that describes the version of an installed Node module."""

    def describe() -> str:
        described = BUILT / "node_modules" / name / "package.json"
        return f"{name} {json.loads(described.read_text('utf-8'))['version']}"

    return describe


def gorilla_version() -> str:
    """Describe the versions of Go and of Debian's package of the library."""
    package = "golang-github-gorilla-websocket-dev"
    library = program_version("dpkg-query", "--show", "--showformat=${Version}", package)()
    return f"gorilla/websocket {library}, {program_version('go', 'version')()}"


def zipapp_missing() -> str | None:
    """Return why the single file cannot be run, None if it was built."""
    return None if ZIPAPP.exists() else f"no {ZIPAPP.name}: python3 build_zipapp.py"


def compiler_missing() -> str | None:
    """Return why C cannot be compiled, None if there is a compiler."""
    return None if compiler() else "no cc: install a C compiler"


def peer(name: str, file: str = "server.py") -> str:
    """Return the path of a peer's source file."""
    return str(PEERS / name / file)


@functools.cache
def floor_program() -> Path:
    """Compile the minimal server in C, once, and return its path."""
    return compile_c(PEERS / "floor" / "floor.c", Path(tempfile.mkdtemp()))


def floor(kind: str, name: str) -> Server:
    """Return the minimal server in C, which writes each message at once, or all of a turn together.

    *kind* is ``each`` or ``turn``.
    """
    return Server(
        name,
        lambda port, scratch: [str(floor_program()), str(port), kind],
        missing=compiler_missing,
        version=program_version("cc", "--version"),
        brief=kind == "each",
    )


def mosquitto(port: int, scratch: Path) -> list[str]:
    """Write the broker's configuration, and return its command."""
    template = (PEERS / "mosquitto" / "mosquitto.conf").read_text("ascii")
    configuration = scratch / "mosquitto.conf"
    configuration.write_text(
        template.replace("PORT", str(port)).replace("FOLDER", str(scratch)), "ascii"
    )
    return [which("mosquitto") or "", "-c", str(configuration)]


def ours(
    name: str, *program: str, missing: Callable[[], str | None] = lambda: None, tree: Path = ROOT
) -> Server:
    """Return our standalone server, run by *program*, with its default settings but the rate.

    The other servers have no rate either. *tree* is the folder of the project that is measured.
    """

    def command(port: int, scratch: Path) -> list[str]:
        return [sys.executable, *program, "start", "--rate", "0", "--port", str(port)]

    def many(port: int, scratch: Path) -> list[str]:
        return [*command(port, scratch), "--max-clients", str(MAX_CLIENTS)]

    def tls(port: int, scratch: Path) -> list[str]:
        cert, key = write_certificate(scratch)
        return [*command(port, scratch), "--tls-cert", cert, "--tls-key", key]

    return Server(
        name,
        command,
        missing=missing,
        version=package_versions("broadcast-server", "websockets"),
        ours=True,
        folder=tree,
        variants={"rooms": command, "many": many, "tls": tls},
    )


def uvloop(name: str, tree: Path = ROOT) -> Server:
    """Return our standalone server on uvloop."""
    return replace(
        ours(name, peer("uvloop"), missing=needs_module("uvloop"), tree=tree),
        version=package_versions("broadcast-server", "websockets", "uvloop"),
        environment={"PYTHONPATH": str(tree)},
        brief=True,
    )


def websockets(name: str) -> Server:
    """Return the broadcast of the documentation of websockets."""

    def tls(port: int, scratch: Path) -> list[str]:
        return [sys.executable, peer("websockets"), str(port), *write_certificate(scratch)]

    def rooms(port: int, scratch: Path) -> list[str]:
        return [sys.executable, peer("websockets", "rooms.py"), str(port)]

    return Server(
        name,
        lambda port, scratch: [sys.executable, peer("websockets"), str(port)],
        version=package_versions("websockets"),
        variants={"tls": tls, "rooms": rooms},
        brief=True,
    )


def node(name: str, folder: str, dialect: str = "text") -> Server:
    """Return a server in Node that uses the module *name*."""
    return Server(
        f"Node {name}",
        lambda port, scratch: ["node", peer(folder, "server.js"), str(port)],
        dialect=dialect,
        missing=lambda: (
            needs_program("node", "nodejs")() or needs_built(BUILT / "node_modules" / name)()
        ),
        version=node_version(name),
        environment={"NODE_PATH": str(BUILT / "node_modules")},
        brief=True,
    )


def picows(name: str, *options: str) -> Server:
    """Return a server that uses picows."""
    return Server(
        name,
        lambda port, scratch: [sys.executable, peer("picows"), str(port), *options],
        missing=lambda: (
            needs_module("picows")() or needs_module(options[0] if options else "sys")()
        ),
        version=package_versions("picows", *options),
        brief=True,
    )


ZIPAPP = ROOT / "broadcast-server.pyz"
OURS = ZIPAPP.name
INSTALLED = "broadcast-server, installed"
UVLOOP = "broadcast-server, installed, uvloop"
WEBSOCKETS = "websockets broadcast()"
FLOOR = "C floor"
COALESCING_FLOOR = "C floor, coalescing"

OURS_ALL = (OURS, INSTALLED, UVLOOP)
FLOORS = (FLOOR, COALESCING_FLOOR)

MAX_CLIENTS = 40_000
"""The limit on clients where a measurement needs more than the default."""

SERVERS = (
    ours(OURS, str(ZIPAPP), missing=zipapp_missing),
    ours(INSTALLED, "-m", "broadcast_server"),
    uvloop(UVLOOP),
    websockets(WEBSOCKETS),
    picows("picows"),
    picows("picows, uvloop", "uvloop"),
    node("ws", "ws"),
    node("socket.io", "socketio", "socketio"),
    Server(
        "Go gorilla/websocket",
        lambda port, scratch: [str(BUILT / "gorilla"), str(port)],
        missing=needs_built(BUILT / "gorilla"),
        version=gorilla_version,
        brief=True,
    ),
    Server(
        "mosquitto",
        mosquitto,
        dialect="mqtt",
        missing=needs_program("mosquitto", "mosquitto"),
        version=program_version("mosquitto", "-h"),
        brief=True,
    ),
    floor("each", FLOOR),
    floor("turn", COALESCING_FLOOR),
)
