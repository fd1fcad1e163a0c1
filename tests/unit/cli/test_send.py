"""The send command: one message is published once, or the reason why not is printed."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from certificates import write_pair
from conftest import Processes
from programs import running, said, shell, until
from services import free_port
from websockets.sync.client import connect


@pytest.fixture
def url(processes: Processes, program: list[str]) -> str:
    """The address of a server."""
    # A server of its own, because the deployments' tests use rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


def test_a_message_is_sent(program: list[str], url: str) -> None:
    """A message from an argument or standard input is published, and the receivers counted."""
    web = url.replace("ws:", "http:")
    with connect(f"{url}?room=said&name=ear", proxy=None):
        script = f"""
            "$@" send 'deploy done' {url} --room said --name ci
            printf 'one\\rtwo\\nlines\\r\\n' | "$@" send - --room said --name ear {url}
            "$@" send "x$(printf '\\033')" --json '{web}?room=said&name=web'
            "$@" send --room said -- -x {url}"""
        done = shell(script, program)
    assert (done.code, done.errors) == (0, "")
    first, second, third, fourth = done.output.splitlines()
    assert (first, second) == ("sent to 1 in said", "sent to 1 in said as ear-2")
    answer = json.loads(third)
    assert (answer["seq"], answer["name"], answer["count"]) == (3, "web", 1)
    assert fourth == "sent to 1 in said"
    messages = ["ci: deploy done", "ear-2: two\nlines", "web: x\x1b", "anonymous: -x"]
    assert said(url, "said") == messages


def test_a_file_of_many_lines(program: list[str], url: str, tmp_path: Path) -> None:
    """It is one message; without the dash, nobody gets the address in its place, be it a pipe."""
    trace = "\n".join(f"  at frame {number}" for number in range(80))
    (tmp_path / "trace").write_text(f"{trace}\n", encoding="utf-8")
    host = url.removeprefix("ws://").rstrip("/")
    script = f"""
        "$@" send {host}/trace < {tmp_path}/trace; echo $?
        cat {tmp_path}/trace | "$@" send {url}; echo $?
        "$@" send {host} < /dev/null; echo $?
        "$@" send - {host}/trace < {tmp_path}/trace
        echo 'at 12:30' | "$@" send 12:30 {host}/trace
        "$@" send {host} {host}/trace < {tmp_path}/trace
        "$@" send a.example:1 --port {host.rpartition(":")[2]} --room trace"""
    done = shell(script, program)
    assert done.output.splitlines() == ["2", "2", "2", *["sent to 0 in trace"] * 4]
    remedy = (
        "is an address, and the text comes first: send TEXT ADDRESS, or send - ADDRESS for what is"
        " in a file or a pipe"
    )
    for line, address in zip(done.errors.splitlines(), (f"{host}/trace", url, host), strict=True):
        assert line.endswith(f"send: error: {address} {remedy}")
    assert said(url, "trace") == [
        f"anonymous: {text}" for text in (trace, "12:30", host, "a.example:1")
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            '"$@" send - </dev/zero',
            r"text is over 16777216 bytes, more than a room keeps \(--oversize cut sends .*\)",
        ),
        ('"$@" send - <&-', "message is empty"),
    ],
)
def test_an_invalid_message(program: list[str], url: str, script: str, reason: str) -> None:
    """A message that is empty, or longer than a room is, is one line of error, at once."""
    done = shell(re.sub(r"send (\S+)", rf"send \1 {url}", script), program)
    assert (done.code, done.output) == (1, "")
    assert re.fullmatch(rf"not sent: .*{reason}\n", done.errors)


def test_require(program: list[str], url: str) -> None:
    """With ``--require N`` the message is published only when N connections would receive it."""
    command = [*program, "send", "all?", url, "--room", "required", "--require", "2"]
    with connect(f"{url}?room=required", proxy=None):
        with running(*command, "--timeout", "20") as sender:
            words = "* 1 is here, 2 are required, trying for 20 s\n"
            until(lambda: sender.errors == words, "a note")
            assert said(url, "required") == []
            with connect(f"{url}?room=required", proxy=None):
                assert sender.wait() == 0
                assert sender.output == "sent to 2 in required\n"
        assert len(said(url, "required")) == 1
        done = shell('"$@" --timeout 1', command)
        assert (done.code, done.output) == (1, "")
        assert done.errors.endswith("\nnot sent: 1 is here, 2 are required\n")
        assert len(said(url, "required")) == 1


def test_a_server_that_starts_late(program: list[str]) -> None:
    """A server that starts while `send` retries receives the message."""
    port = str(free_port())
    with running(*program, "send", "hi", "--port", port, "--timeout", "20") as sender:
        until(lambda: sender.errors, "a note")
        why = f"Could not connect to server at ws://127.0.0.1:{port}/ (connection refused, "
        assert sender.errors.startswith(f"* {why}")
        with running(*program, "start", "--port", port):
            assert sender.wait() == 0
            assert sender.output == "sent to 0 in lobby\n"
            assert sender.errors.count("\n") == 1


def test_no_server(program: list[str]) -> None:
    """Without a server until the timeout, `send` exits with 1 and says that it failed."""
    done = shell('"$@" send hi --port 1 --timeout 1', program)
    assert (done.code, done.output) == (1, "")
    why = r"Could not connect to server at ws://127\.0\.0\.1:1/ \(connection refused, .*\)"
    assert re.fullmatch(rf"\* {why}, trying for 1 s\nnot sent: {why}\n", done.errors)


@contextmanager
def losing_answers(port: int, answers: int) -> Iterator[str]:
    """A proxy to the server on *port* that drops the first *answers* answers; yields its URL."""

    def relay(listener: socket.socket) -> None:
        with suppress(OSError):  # closed: the test is over
            for number in range(answers + 1):
                here, _ = listener.accept()
                with here, socket.create_connection(("127.0.0.1", port)) as there:
                    request = b""
                    while not request.endswith(b"hi"):
                        request += here.recv(65536)
                    there.sendall(request)
                    answer = b""
                    while chunk := there.recv(65536):
                        answer += chunk
                    assert b" 200 " in answer
                    if number == answers:
                        here.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay, args=(listener,))
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(10)
        assert not thread.is_alive()


def test_an_answer_that_is_lost(program: list[str], url: str) -> None:
    """A message whose answer was lost twice is sent again, and published once."""
    with losing_answers(int(url.rpartition(":")[2].rstrip("/")), 2) as proxy:
        done = shell(f'"$@" send hi {proxy} --room lost --timeout 60', program)
    assert (done.code, done.output) == (0, "sent to 0 in lost\n")
    assert done.errors == "* the server closed the connection, trying for 60 s\n"
    assert said(url, "lost") == ["anonymous: hi"]


def test_an_answer_that_never_comes(program: list[str]) -> None:
    """If it cannot be known whether a message was published, the error says so, and in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = shell(f'"$@" send hi --port {port} --timeout 1', program)
    assert (done.code, done.output) == (1, "")
    assert done.errors == "perhaps not sent: no answer in time\n"


def test_the_wrong_scheme(program: list[str], tmp_path: Path) -> None:
    """``connect``, ``send`` and ``run`` have the same words for ws:// with TLS and vice versa."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(cert, key)
    start = [*program, "start", "--port", "0"]
    with (
        running(*start) as plain,
        running(*start, "--tls-cert", str(cert), "--tls-key", str(key)) as tls,
    ):
        script = """
            "$@" connect $url </dev/null
            "$@" send hi $url --timeout 1 2>&1 | tail -1 >&2
            "$@" run $url --only-failures --timeout 1 -- false"""
        wss, ws = plain.url.replace("ws:", "wss:"), tls.url.replace("wss:", "ws:")
        done = shell(script, program, url=wss)
        reason = "TLS failed: the server closed the connection, does it use TLS?"
        why = f"Could not connect to server at {wss} ({reason})"
        report = "* could not report to the room"
        assert done.errors.splitlines() == [why, f"not sent: {why}", f"{report}: {why}"]
        done = shell(script, program, url=ws)
        reason = "the server closed the connection, does the port use TLS (wss://)?"
        assert done.errors.splitlines() == [
            f"Could not connect to server at {ws} ({reason})",
            f"perhaps not sent: {reason}",
            f"{report}: {reason}",
        ]


def test_token_tls_and_unix_socket(program: list[str], token_file: str, tmp_path: Path) -> None:
    """Token, --tls-ca and --unix work as for ``connect``."""
    cert, key, path = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "socket"
    write_pair(cert, key)
    start = [*program, "start", "--token-file", token_file]
    tls = ["--port", "0", "--tls-cert", str(cert), "--tls-key", str(key)]
    with running(*start, *tls) as server, running(*start, "--unix", str(path)) as local:
        assert local.url == f"unix:{path}"
        script = f"""
            "$@" send hi {server.url} --tls-ca {cert} --token-file {token_file}
            "$@" send hi --unix {path} --token-file {token_file}
            "$@" send hi {server.url} --tls-ca {cert}
            "$@" send hi {server.url} --token-file {token_file}"""
        done = shell(script, program)
        assert done.code == 1
        assert done.output == "sent to 0 in lobby\n" * 2
        no_token, untrusted = done.errors.splitlines()
        assert no_token == "not sent: this server requires a token: ask its operator for one"
        assert untrusted.startswith(f"not sent: Could not connect to server at {server.url} (its")
        assert untrusted.endswith(" (pass it with --tls-ca FILE)")
        done = shell(f'"$@" run {server.url} --token-file {token_file} -- true', program)
        assert done.code == 0
        assert done.errors.endswith(" (pass it with --tls-ca FILE)\n")
