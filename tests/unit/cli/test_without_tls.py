"""A Python without OpenSSL: everything works that needs no TLS, and the rest says why not."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
from programs import Running, running, said, shell
from terminal_person import CTRL_D, ENTER, TIME, person

WITHOUT_OPENSSL = """\
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("_ssl", "_hashlib"):
            raise ImportError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())

from broadcast_server.__main__ import run

sys.exit(run())
"""

REMEDY = "(use ws://, or another Python)"
NO_TLS = "this Python has no TLS (its module ssl cannot be imported)"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of our program in a Python without OpenSSL."""
    script = tmp_path_factory.mktemp("bare") / "broadcast_server_without_openssl.py"
    script.write_text(WITHOUT_OPENSSL)
    return [sys.executable, "-W", "error", str(script)]


@pytest.fixture(scope="module")
def bare_server(bare: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server in a Python without OpenSSL."""
    log = tmp_path_factory.mktemp("log") / "log"
    with running(*bare, "start", "--port", "0", "--log", str(log)) as server:
        assert server.url
        yield server
        assert server.signal(signal.SIGTERM) == 0


def test_every_command_works(bare: list[str], bare_server: Running) -> None:
    """A server and all clients work, over ws:// and http://."""
    url = bare_server.url
    http = url.replace("ws:", "http:")
    script = f"""
        "$@" send one {url} --name ann
        "$@" send two '{http}?name=bob'
        echo three | "$@" connect {url} --name cid
        echo four | "$@" connect {http} --name dan --json | grep -c '"text":"four"'
        "$@" run {url} --label it -- true
        "$@" run {url} --only-failures -- sh -c 'exit 3'; echo $?
        "$@" connect {url} --history 9 </dev/null | grep -c ':'
        "$@" --version | wc -l"""
    done = shell(script, bare)
    assert (done.errors, done.code) == ("", 0)
    assert done.output.splitlines() == [
        "sent to 0 in lobby",
        "sent to 0 in lobby",
        "cid: three",
        "1",
        "3",
        "7",
        done.output.splitlines()[-1],
    ]
    assert said(url, "lobby")[:4] == ["ann: one", "bob: two", "cid: three", "dan: four"]


@pytest.mark.parametrize("options", [(), ("--plain",)])
def test_a_terminal_works(bare: list[str], bare_server: Running, options: tuple[str, ...]) -> None:
    """So does the terminal."""
    with person(bare, bare_server.url, "--room", "person", "--name", "ann", *options) as ann:
        ann.sees(".*(?:/help for help --|Ctrl.D leaves.)")
        ann.types("hi", ENTER)
        ann.sees("ann: hi" if options else TIME + "> ann: hi")
        ann.types(CTRL_D)
        assert ann.ends() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            "connect wss://localhost:1/",
            2,
            f"broadcast-server connect: error: {NO_TLS}, which wss://localhost:1/ needs {REMEDY}",
        ),
        (
            "send hi https://localhost:1/",
            2,
            f"broadcast-server send: error: {NO_TLS}, which https://localhost:1/ needs {REMEDY}",
        ),
        (
            "connect wss://localhost:1/ --tls-ca /no/file --json",
            2,
            f"broadcast-server connect: error: {NO_TLS}, which wss://localhost:1/ needs {REMEDY}",
        ),
        (
            "run wss://localhost:1/ -- sh -c 'exit 3'",
            3,
            f"* nothing is reported to the room: {NO_TLS}, which wss://localhost:1/ needs {REMEDY}",
        ),
        (
            "start --port 0 --tls-cert /no/file",
            1,
            f"{NO_TLS}, which --tls-cert needs (let a proxy use TLS)",
        ),
    ],
)
def test_what_needs_tls_says_so(bare: list[str], arguments: str, code: int, error: str) -> None:
    """What needs TLS says in one line that this Python has none, and `run` runs its command."""
    done = shell(f'"$@" {arguments}', bare)
    assert (done.errors, done.code) == (f"{error}\n", code)
