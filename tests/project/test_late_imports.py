"""Late imports: whatever may be needed later is loaded before the single file can be replaced.

The file is replaced under a running program by every update. What is then imported from it is not
there, or is of another version.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from certificates import write_pair
from conftest import Processes
from programs import PATIENCE, ROOT, running, said, say, until
from terminal_person import ENTER, person
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

ISOLATED_PYTHON = (sys.executable, "-I", "-S", "-W", "error")
"""A Python without installed packages, with warnings as errors."""

REPORT_LATE_IMPORTS = """\
import os, runpy, sys
report, *sys.argv = sys.argv[1:]
sys.path[:0] = [""]  # run_path removes the first entry at its end
OURS = "broadcast_server", "websockets", "h11", "prompt_toolkit", "wcwidth"
descriptor = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def audit(event, arguments):
    late = event == "import" and arguments[0].partition(".")[0] in OURS
    if (late or event == "open" and arguments[0] == sys.argv[0]) and os.path.exists("late"):
        os.write(descriptor, f"{event} {arguments[0]}\\\\n".encode())

sys.addaudithook(audit)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a file as Python would, and writes to a file what it imports, or reads from itself, once
there is a file `late` in its folder."""

ALLOWED = {
    "admission.admission": "auth_throttle",  # when the server is made
    # When `connect` is called, in a program that is no single file.
    "library.async_connect": "broadcast_server.admission.token broadcast_server.server.tls",
    "rooms.local_room": "broadcast_server.protocol.publish",  # http_connection has loaded it
    "rooms.log_start": "log_upgrade",  # before the server listens
    "rooms.log_tables": "log_upgrade",
    "server.first_request": "http_connection websocket",  # which `serve` has loaded
    "server.listener": "activation handshakes tls_transport",  # before it listens
    "server.serve": "tls",  # by a reload, after it was loaded for the start
    # Likewise.
    "server.opening": "broadcast_server.console.tls_support broadcast_server.rooms.sqlite_log tls",
    "terminal.prompt": "prompt_toolkit.input.vt100",  # before the prompt is shown
}
"""Imports inside functions in areas whose code runs later, and why each is done early enough."""


def test_functions_import_nothing_late() -> None:
    """Outside of the command line, a function imports only what is known to be loaded early."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "broadcast_server").glob("*/*.py")):
        module = ".".join(path.relative_to(ROOT / "broadcast_server").with_suffix("").parts)
        if module.startswith("cli."):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        found.setdefault(module, set()).update(_names(node))
    ours = {
        module: {each for each in names if _is_module(module, each)}
        for module, names in found.items()
    }
    assert {module: names for module, names in ours.items() if names} == {
        module: {*names.split()} for module, names in ALLOWED.items()
    }


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "?"]


def _is_module(module: str, name: str) -> bool:
    """Return whether *name* is a module beside *module*, and not one of Python's."""
    beside = ROOT / "broadcast_server" / module.partition(".")[0] / f"{name}.py"
    return name.partition(".")[0] not in sys.stdlib_module_names or beside.exists()


class Archive:
    """A copy of the single file that reports what is imported from it late."""

    def __init__(self, zipapp_path: Path, folder: Path) -> None:
        self.path = Path(shutil.copy(zipapp_path, folder / "broadcast-server.pyz"))
        self.report = folder / "report"
        self.program = [
            *ISOLATED_PYTHON,
            "-c",
            f"import os; os.chdir({str(folder)!r})\n{REPORT_LATE_IMPORTS}",
            str(self.report),
            str(self.path),
        ]

    def replace(self) -> None:
        """Replace the file: from now on, an import is late."""
        self.path.write_text("# another version\n" * 99)
        (self.path.parent / "late").touch()

    def check(self) -> None:
        """Check that nothing was imported late."""
        assert self.report.read_text() == ""


@pytest.fixture
def archive(zipapp_path: Path, tmp_path: Path) -> Archive:
    """A copy of the single file."""
    return Archive(zipapp_path, tmp_path)


@pytest.fixture
def server(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    return processes.url(tuple(program), ("--max-message-bytes", "100"))


class Relay:
    """Passes connections on to a server, but breaks them, or answers with rubbish, if told to."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.port is not None
        self._server = ("127.0.0.1", address.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.rubbish: list[bytes] = []
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.rubbish:
                    client.recv(4096)
                    client.sendall(self.rubbish.pop(0))
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for ends in (client, server), (server, client):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self, *rubbish: bytes) -> None:
        """Cut all connections, and answer the next ones with *rubbish*."""
        self.rubbish += rubbish
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cut all connections, and accept no more."""
        self.cut()
        self._listener.close()
        for each in self._open:
            each.close()


@contextmanager
def relay_to(url: str) -> Iterator[Relay]:
    """A relay to the server at *url*."""
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.close()


UNAVAILABLE = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"
RUBBISH = b"SSH-2.0-OpenSSH_9.6\r\n"


@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_at_a_terminal(archive: Archive, server: str, options: list[str]) -> None:
    """Every command, key and trouble of a terminal works after the file was replaced."""
    room = f"late{len(options)}"
    with relay_to(server) as relay:
        with person(archive.program, relay.url, "--room", room, "--name", "ann", *options) as ann:
            ann.sees(".*1 here.*")
            archive.replace()
            ann.types("hello", ENTER)
            until(lambda: "ann: hello" in said(server, room), "a message")
            for line in (
                *("/help", "/who", "/name bea", "/me waves", f"/room {room}x", f"/room {room}"),
                *("/history 3", "/clear", "/nothing", "/room Bad Room!", "/name a:b", "x" * 200),
            ):
                ann.types(line, ENTER)
            if not options:
                for keys in (
                    *("/ro\t", "\x15", "be\t", "\x15", "\x1b[A", "\x1b[B", "\x12he", "\x07"),
                    *("\x15", "a\x1b\rb", ENTER, "\x1b[200~p\nq\x1b[201~", ENTER, "a b\x17\x19"),
                    *("\x1bb\x1bf\x1bu", "\x1f", "\x15", "\x0c", "\x14", "\x1b[3~", "\x15"),
                ):
                    ann.types(keys)
                ann.resizes(50, 12)
            say(server, room, "eve", "hi \x1b[31m@bea 👍🏽 漢字")
            relay.cut(RUBBISH, UNAVAILABLE)
            ann.types("meanwhile", ENTER)
            until(lambda: said(server, room)[-1].endswith(": meanwhile"), "a message after a break")
            ann.types("/quit", ENTER)
            assert ann.ends() == 0
    archive.check()


@pytest.mark.parametrize(
    "options",
    [["--json"], ["--exec", "sh", "-c", "test $BROADCAST_EVENT_TEXT = 1 || kill $$"]],
)
def test_in_a_pipe(archive: Archive, server: str, options: list[str]) -> None:
    """A pipe, and a command for each message, bear everything after the file was replaced."""
    room = f"pipe{len(options)}"
    with relay_to(server) as relay:
        arguments = ["connect", relay.url, "--room", room, "--name", "ann", "--listen", *options]
        with running(*archive.program, *arguments) as pipe:
            pipe.say("first\n")
            until(lambda: "ann: first" in said(server, room), "a message")
            archive.replace()
            pipe.say(f"{'x' * 200}\na\rb\x1b[31mred\n{'y' * 2**18}\n☃\n")
            say(server, room, "eve", "1", "2")
            until(lambda: "ann: ☃" in said(server, room), "a message after a long one")
            relay.cut(RUBBISH, UNAVAILABLE)
            pipe.say("meanwhile\n")
            until(lambda: "ann: meanwhile" in said(server, room), "a message after a break")
            if len(options) > 1:
                until(lambda: "was killed by SIGTERM" in pipe.errors, "a command that failed")
            assert pipe.signal(signal.SIGINT) == 0
    archive.check()


@pytest.mark.parametrize("command", ["send", "run"])
def test_while_it_reports(archive: Archive, server: str, command: str) -> None:
    """What is sent again, and the errors about it, work after the file was replaced."""
    with relay_to(server) as relay:
        relay.rubbish += [UNAVAILABLE] * 2
        room = ["--room", f"late-{command}"]
        words = {
            "send": ["now", relay.url, "--json", *room],
            "run": [relay.url, *room, "--", "sh", "-c", "sleep 0.2; exit 3"],
        }
        with running(*archive.program, command, *words[command]) as program:
            until(lambda: len(relay.rubbish) < 2, "a first attempt")
            archive.replace()
            assert program.wait() == (0 if command == "send" else 3)
            assert bool(program.output) is (command == "send")
        assert len(said(server, f"late-{command}")) == (1 if command == "send" else 2)
    archive.check()


REQUESTS = (
    *("GET /", "GET /metrics", "GET /broadcast-server.pyz", "GET /nothing", "PUT /", "OPTIONS /"),
    *("POST /?name=a", "POST /?name=a:b", "POST /?require=9", "POST /?x=%ff", "POST /x/"),
    *("GET /stream?poll=1", "GET /stream?poll=1&since=x.1", "HEAD /stream", "GET /stream?room=A"),
)
HEADERS = (
    "Authorization: Bearer sesame-sesame-sesame\r\nAccept: text/event-stream, text/html\r\n",
    "",
    "Host: evil.example\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: x\r\n",
)
TOKEN = {"Authorization": "Bearer sesame-sesame-sesame"}
FRAMES = (
    *("hi", "/who", '{"type":"members"}', '{"type":"name","name":"bo"}', "{bad", "x" * 70_000),
    *('{"type":"ping","id":"1"}', '{"type":"say","text":"\\ud800"}', "\0\x1b[31m", b"binary"),
)


def _request(url: str, trust: ssl.SSLContext, data: bytes) -> bytes:
    """Send bytes over TLS, and return the beginning of the answer."""
    port = urlsplit(url).port
    with socket.create_connection(("127.0.0.1", port or 0), timeout=PATIENCE) as plain:
        with trust.wrap_socket(plain, server_hostname="localhost") as wire:
            with suppress(OSError):
                wire.sendall(data)
                return wire.recv(65536)
    return b""


def _ask_everything(url: str, trust: ssl.SSLContext) -> None:
    """Ask a server with TLS and a token for all that it has, in valid and invalid ways."""
    for request in REQUESTS:
        for header in HEADERS[:1] if request[0] in "GH" else HEADERS:
            host = "" if header.startswith("Host") else "Host: localhost\r\n"
            body = "Content-Length: 2\r\n\r\nhi"
            if header.startswith("Transfer"):
                body = "\r\n2\r\nhi\r\n0\r\n\r\n"
            head = f"{request} HTTP/1.1\r\n{host}{header}{body}"
            _request(url, trust, head.encode())
    wrong = b"GET /stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n"
    for data in (
        wrong,
        wrong,
        RUBBISH + b"\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 5000,
    ):
        _request(url, trust, data)
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")  # without TLS
        plain.recv(100)
    for protocols in None, [Subprotocol("broadcast.v1.json")]:
        with connect(
            url, subprotocols=protocols, ssl=trust, additional_headers=TOKEN, proxy=None
        ) as client:
            for frame in FRAMES:
                client.send(frame)
            with suppress(ConnectionClosed):
                while True:
                    client.recv(PATIENCE)


def test_a_server(archive: Archive, tmp_path: Path) -> None:
    """A server with everything answers everything after the file was replaced."""
    token, log = tmp_path / "token", tmp_path / "rooms.log"
    token.write_text("sesame-sesame-sesame\n")
    write_pair(cert := tmp_path / "cert.pem", key := tmp_path / "key.pem")
    options = [
        *("--port", "0", "--token-file", str(token), "--log", str(log)),
        *("--tls-cert", str(cert), "--tls-key", str(key)),
    ]
    with running(*archive.program, "start", *options) as server:
        trust = ssl.create_default_context(cafile=cert)
        with connect(server.url, ssl=trust, additional_headers=TOKEN, proxy=None):
            archive.replace()
        _ask_everything(server.url, trust)
        log.rename(tmp_path / "moved")
        until(lambda: "written anew" in server.errors, "a warning")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "certificate renewed" in server.errors, "a new certificate")
        cert.write_text("rubbish")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: "the old certificate stays" in server.errors, "an error")
        assert server.signal(signal.SIGTERM) == 0
    archive.check()


REPLACE_AT_AN_IMPORT = """\
import runpy, sys
module, size, *sys.argv = sys.argv[1:]
sys.path[:0] = [""]  # run_path removes the first entry at its end

def audit(event, arguments):
    if event == "import" and arguments[0] == module:
        with open(sys.argv[0], "wb") as archive:
            archive.write(b"#" * int(size))

sys.addaudithook(audit)
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a file as Python would, and replaces the file when it imports a module."""


def replaced_during_the_start(
    archive: Path, tmp_path: Path, module: str, size: str, *command: str
) -> subprocess.CompletedProcess[str]:
    """Run *command* with a copy of *archive* that is replaced when it imports *module*."""
    path = shutil.copy(archive, tmp_path / "broadcast-server.pyz")
    return subprocess.run(
        [*ISOLATED_PYTHON, "-c", REPLACE_AT_AN_IMPORT, module, size, str(path), *command],
        cwd=tmp_path,
        env={**os.environ, "BROADCAST_TOKEN": "sesame-sesame-sesame"},
        capture_output=True,
        text=True,
        check=False,
    )


EARLY = ["broadcast_server.single_file.importer", "broadcast_server.single_file.code_cache"]
"""Modules that Python reads from the file itself; then the file is read as a whole."""

LATE = [
    "broadcast_server.__main__",
    "broadcast_server.cli.main",
    "broadcast_server.cli.target_option",
    "broadcast_server.client.publisher",
]


@pytest.mark.parametrize("size", ["0", "2000000"])
@pytest.mark.parametrize("module", EARLY)
@pytest.mark.parametrize("command", [["send", "x"], ["run", "--"], ["start"]], ids=" ".join)
def test_replaced_during_the_start(
    zipapp_path: Path, tmp_path: Path, command: list[str], module: str, size: str
) -> None:
    """A file that is replaced before all of it is read ends the command with one line."""
    done = replaced_during_the_start(zipapp_path, tmp_path, module, size, *command)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "was replaced before all of it was loaded (" in line
    assert line.endswith("), start it again")


@pytest.mark.parametrize("size", ["0", "2000000"])
@pytest.mark.parametrize("module", EARLY)
def test_run_is_replaced_during_the_start(
    zipapp_path: Path, tmp_path: Path, module: str, size: str
) -> None:
    """`run` runs its command all the same, once, and its exit code is the command's."""
    script = "echo x >> ran; echo ${BROADCAST_TOKEN-none} $0 $1; kill -PIPE $$; exit 3"
    words = ["sh", "-c", script, "a b", "--"]
    command = ["run", "--name", "ci", "--timeout", "1", "--", *words]
    done = replaced_during_the_start(zipapp_path, tmp_path, module, size, *command)
    assert done.stdout == "none a b --\n"
    # `sh` is ended by SIGPIPE, which Python itself ignores.
    assert done.returncode == -signal.SIGPIPE
    assert (tmp_path / "ran").read_text() == "x\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("* nothing is reported to the room: ")
    assert "was replaced before all of it was loaded (" in line


@pytest.mark.parametrize("size", ["0", "2000000"])
@pytest.mark.parametrize("module", LATE)
def test_replaced_once_it_was_read(
    zipapp_path: Path, tmp_path: Path, server: str, module: str, size: str
) -> None:
    """A file that is replaced after that runs as it was."""
    room = f"read{size}-{module.lower()}".replace("_", "-")
    for command, output in (
        (["send", "x", server, "--room", room], "sent"),
        (["run", server, "--room", room, "--", "sh", "-c", "echo ran"], "ran\n"),
    ):
        done = replaced_during_the_start(zipapp_path, tmp_path, module, size, *command)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(output)
        assert (tmp_path / "broadcast-server.pyz").stat().st_size == int(size)
    assert len(said(server, room)) == 3


@pytest.mark.parametrize(
    ("command", "code", "error"),
    [("no-such-command", 127, "command not found"), (".", 126, "permission denied")],
)
def test_run_is_replaced_and_its_command_cannot_run(
    zipapp_path: Path, tmp_path: Path, command: str, code: int, error: str
) -> None:
    """A command that does not run has the exit codes of a shell then, too."""
    done = replaced_during_the_start(zipapp_path, tmp_path, EARLY[0], "0", "run", "--", command)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.splitlines()[1:] == [f"broadcast-server run: {command}: {error}"]
