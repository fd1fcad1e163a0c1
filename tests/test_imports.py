"""Who may import whom: one way, from the wire outwards.

The table is the rule. A module is added here when it is added, and a line that
grows is a question to be asked before it is an answer.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import broadcast_server

PACKAGE = Path(broadcast_server.__file__).parent

# Pure modules first, then what each door and the house is made of. A module may
# import those above it; "" is the package itself, for its version.
TABLE = {
    "": "",
    "names": "",
    "protocol": "",
    "frames": "",
    "safe": "",
    "signals": "",
    "thread": "",
    "metrics": "protocol",
    "logline": "",
    "web": "metrics protocol",
    "proxies": "",
    "brake": "",
    "quota": "",
    "share": "frames",
    "entry": "names protocol",
    "post": "entry protocol web",
    "eventstream": "entry protocol web",
    "room": "entry names protocol",
    "history": "protocol",
    "logfile": "history protocol",
    "fanout": "protocol room",
    "conversation": "protocol",
    "gate": "brake protocol proxies quota",
    "streams": "safe",
    "tls": "streams",
    "secret": "streams",
    "porch": "",
    "door": "porch proxies",
    "opened": "door",
    "listener": "door opened proxies tls",
    "flow": "thread",
    "openroom": "fanout metrics protocol room",
    "memoryroom": "history logfile metrics openroom post protocol room",
    "connection": "entry frames gate protocol proxies quota share web",
    "tap": "connection eventstream openroom protocol",
    "exchange": "connection entry eventstream gate post proxies tap web",
    "arrival": "connection exchange tap web",
    "synopsis": "",
    "completion": "synopsis",
    "manual": "synopsis",
    "server": (
        "arrival connection door entry eventstream exchange gate history listener logfile logline"
        " memoryroom metrics openroom porch post protocol proxies room signals tap tls web"
    ),
    "address": "",
    "qr": "",
    "invitation": "qr web",
    "interfaces": "",
    "browser": "",
    "client": "conversation protocol thread",
    "screen": "conversation names protocol safe",
    "cursorfile": "entry protocol streams",
    "progress": "",
    "ending": "",
    "handler": "conversation ending protocol safe streams thread",
    "reply": "",
    "pipe": "client conversation cursorfile flow progress protocol safe signals streams",
    "commands": "entry protocol",
    "status": "",
    "talk": "client commands conversation protocol safe screen signals status streams",
    "plain": "client conversation flow pipe protocol safe screen talk",
    "completer": "commands names safe",
    "terminal": "client completer protocol screen status talk",
    "typed": "entry names protocol",
    "clientoptions": "typed",
    "options": "address clientoptions logline protocol proxies typed",
    "announcement": "browser interfaces invitation streams typed",
    "signin": "secret typed",
    "target": "address signin tls typed",
    "courier": "reply target",
    "send": "courier reply safe streams target",
    "run": "courier ending streams target",
    "cli": (
        "announcement client completion conversation cursorfile door gate handler history logline"
        " manual options pipe plain protocol run send server signin streams synopsis target"
        " terminal"
    ),
    "__main__": "cli",
}

PURE = (
    "address", "brake", "clientoptions", "commands", "completion", "conversation", "cursorfile",
    "ending", "entry", "eventstream", "fanout", "frames", "gate", "history", "invitation",
    "manual", "metrics", "names", "options", "porch", "post", "progress", "protocol", "proxies",
    "qr", "quota", "reply", "room", "safe", "screen", "share", "status", "synopsis", "typed", "web",
)  # fmt: skip
IMPURE = {"asyncio", "socket", "threading", "ssl", "websockets", "h11", "prompt_toolkit", "django"}

# Who alone imports what is not ours and not the standard library's.
OTHERS = {
    "websockets": {"connection", "client"},
    "h11": {"exchange"},
    "prompt_toolkit": {"completer", "terminal"},
}


def source(module: str) -> Path:
    """Find the file of a module."""
    return PACKAGE / f"{module or '__init__'}.py"


def imports(module: str) -> tuple[set[str], set[str]]:
    """Find what a module imports anywhere in it: of ours, and the rest by their first names."""
    ours: set[str] = set()
    rest: set[str] = set()
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=0, module=str() as name):
                rest.add(name.partition(".")[0])
            case ast.ImportFrom(module=None, names=names):
                ours.update(each.name for each in names)
            case ast.ImportFrom(module=str() as name):
                ours.add(name)
            case ast.Import(names=names):
                rest.update(each.name.partition(".")[0] for each in names)
            case ast.Call(
                func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str() as name)]
            ):
                package, _, name = name.partition(".")
                assert package == "broadcast_server"
                ours.add(name)
    return ours - {"__version__"}, rest


def test_every_module_is_in_the_table() -> None:
    """A new module has to be given its place."""
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    assert files == {source(module).name for module in TABLE}


@pytest.mark.parametrize("module", TABLE)
def test_a_module_imports_what_the_table_says(module: str) -> None:
    """A module imports those of ours that the table lists, no more, and no fewer."""
    assert imports(module)[0] == set(TABLE[module].split())


def test_imports_run_one_way() -> None:
    """No module imports one that is below it in the table, so there are no circles."""
    above: set[str] = set()
    for module, imported in TABLE.items():
        assert above.issuperset(imported.split()), module
        above.add(module)


@pytest.mark.parametrize("module", PURE)
def test_the_pure_modules_know_no_loop_and_no_socket(module: str) -> None:
    """What decides can be played like a card game: nothing in it waits or touches the world."""
    assert imports(module)[1].isdisjoint(IMPURE)


@pytest.mark.parametrize("module", TABLE)
def test_each_library_has_its_module(module: str) -> None:
    """Besides the standard library it imports what is its own to import: never django_site."""
    foreign = imports(module)[1] - sys.stdlib_module_names
    assert foreign == {name for name, modules in OTHERS.items() if module in modules}


def loaded_by(*modules: str) -> set[str]:
    """Import modules in a new interpreter, and return all that came with them."""
    names = ", ".join(f"broadcast_server.{module}" for module in modules)
    code = f"import sys, {names}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8", timeout=60
    )
    return set(run.stdout.split())


def test_a_server_loads_nothing_of_the_client() -> None:
    """Starting to serve costs no import that only `connect` needs, and none of h11 yet."""
    loaded = loaded_by("server")
    assert "broadcast_server.connection" in loaded
    ours = {f"broadcast_server.{name}" for name in ("client", "terminal", "pipe", "conversation")}
    assert loaded.isdisjoint({*ours, "prompt_toolkit", "websockets.asyncio", "h11"})


def test_a_server_loads_no_options_of_clients() -> None:
    """Starting to serve costs nothing for what can be typed behind other commands."""
    code = (
        "import sys; from broadcast_server.options import parse; parse(['{}']); print(*sys.modules)"
    )
    for command, read in (("start", False), ("connect", True)):
        run = subprocess.run(
            [sys.executable, "-c", code.format(command)], check=True, capture_output=True,
            encoding="utf-8", timeout=60,
        )  # fmt: skip
        assert ("broadcast_server.clientoptions" in run.stdout.split()) is read


def test_a_server_loads_what_it_was_asked_for_only() -> None:
    """Starting to serve costs no import that only a token, TLS or a socket file needs."""
    loaded = loaded_by("server", "listener", "gate")
    assert "broadcast_server.door" in loaded
    assert loaded.isdisjoint({f"broadcast_server.{name}" for name in ("brake", "opened", "tls")})


def test_who_says_one_message_loads_no_loop() -> None:
    """`send` and `run` cost no import that only a connection needs that stays."""
    loaded = loaded_by("cli", "target", "run", "send")
    assert "broadcast_server.courier" in loaded
    ours = {f"broadcast_server.{name}" for name in ("client", "conversation", "server", "handler")}
    assert loaded.isdisjoint({*ours, "asyncio", "websockets", "h11", "prompt_toolkit"})
    assert "http.client" not in loaded_by("cli", "target", "run")


def test_a_pipe_loads_nothing_of_the_server() -> None:
    """Joining from a pipe costs no import that only `start` or a terminal needs."""
    loaded = loaded_by("client", "pipe")
    assert "broadcast_server.conversation" in loaded
    ours = "server connection exchange room fanout history terminal"
    assert loaded.isdisjoint({f"broadcast_server.{name}" for name in ours.split()})
    assert loaded.isdisjoint({"prompt_toolkit", "h11"})
