"""Sending: one message is said once, to so many, or it is told why not."""

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
    # Not the one of the houses' tests: they are in rooms of the same names.
    return processes.url(tuple(program), ("--max-rooms", "9999"))


def test_a_message_is_said(program: list[str], url: str) -> None:
    """One message, of an argument or of all that is read, is said and it is told to how many."""
    web = url.replace("ws:", "http:")
    with connect(f"{url}?room=said&name=ear", proxy=None):
        script = f"""
            "$@" send 'deploy done' {url} --room said --name ci
            printf 'two\\nlines\\n' | "$@" send - --room said --name ear {url}
            "$@" send "x$(printf '\\033')" --json '{web}?room=said&name=web'
            "$@" send --room said -- -x {url}"""
        done = shell(script, program)
    assert (done.code, done.errors) == (0, "")
    first, second, third, fourth = done.output.splitlines()
    assert (first, second) == ("said to 1 in said", "said to 1 in said as ear-2")
    answer = json.loads(third)
    assert (answer["seq"], answer["name"], answer["count"]) == (3, "web", 1)
    assert fourth == "said to 1 in said"
    told = ["ci: deploy done", "ear-2: two\nlines", "web: x\x1b", "anonymous: -x"]
    assert said(url, "said") == told


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("head -c 131072 /dev/zero | tr '\\0' x | \"$@\" send -", "limit is 4096"),
        ('"$@" send - </dev/zero', "it is over 131072 bytes, which no server takes"),
        ('"$@" send - <&-', "message is empty"),
    ],
)
def test_what_no_room_takes(program: list[str], url: str, script: str, why: str) -> None:
    """A message that is none, or too much, is told in one line at once."""
    done = shell(re.sub(r"send (\S+)", rf"send \1 {url}", script), program)
    assert (done.code, done.output) == (1, "")
    assert re.fullmatch(rf"not said: .*{why}\n", done.errors)


def test_so_many_have_to_be_there(program: list[str], url: str) -> None:
    """With ``--require`` it waits until so many are there to hear it, and says nothing before."""
    command = [*program, "send", "all?", url, "--room", "required", "--require", "2"]
    with connect(f"{url}?room=required", proxy=None):
        with running(*command, "--timeout", "20") as sender:
            words = "* 1 is here, 2 are required, trying for 20 s\n"
            until(lambda: sender.errors == words, "a note")
            assert said(url, "required") == []
            with connect(f"{url}?room=required", proxy=None):
                assert sender.wait() == 0
                assert sender.output == "said to 2 in required\n"
        assert len(said(url, "required")) == 1
        done = shell('"$@" --timeout 1', command)
        assert (done.code, done.output) == (1, "")
        assert done.errors.endswith("\nnot said: 1 is here, 2 are required\n")
        assert len(said(url, "required")) == 1


def test_a_server_that_comes_late(program: list[str]) -> None:
    """A server that starts while a message waits for it gets the message."""
    port = str(free_port())
    with running(*program, "send", "hi", "--port", port, "--timeout", "20") as sender:
        until(lambda: sender.errors, "a note")
        why = f"Could not connect to server at ws://127.0.0.1:{port}/ (connection refused, "
        assert sender.errors.startswith(f"* {why}")
        with running(*program, "start", "--port", port):
            assert sender.wait() == 0
            assert sender.output == "said to 0 in lobby\n"
            assert sender.errors.count("\n") == 1


def test_nobody_is_there(program: list[str]) -> None:
    """A server that is not there in time is told, and that nothing was said."""
    done = shell('"$@" send hi --port 1 --timeout 1', program)
    assert (done.code, done.output) == (1, "")
    why = r"Could not connect to server at ws://127\.0\.0\.1:1/ \(connection refused, .*\)"
    assert re.fullmatch(rf"\* {why}, trying for 1 s\nnot said: {why}\n", done.errors)


@contextmanager
def swallowing(port: int, answers: int) -> Iterator[str]:
    """A way to the server on *port* on which so many answers are lost; later ones pass."""

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
    """A message whose answer was lost, twice, is sent again and said once."""
    with swallowing(int(url.rpartition(":")[2].rstrip("/")), 2) as way:
        done = shell(f'"$@" send hi {way} --room lost --timeout 60', program)
    assert (done.code, done.output) == (0, "said to 0 in lost\n")
    assert done.errors == "* connection lost, trying for 60 s\n"
    assert said(url, "lost") == ["anonymous: hi"]


def test_an_answer_that_never_comes(program: list[str]) -> None:
    """Where it cannot be known whether a message was said, that is what is told, and in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = shell(f'"$@" send hi --port {port} --timeout 1', program)
    assert (done.code, done.output) == (1, "")
    assert done.errors == "perhaps not said: no answer in time\n"


def test_by_a_token_over_tls_and_by_a_socket_file(
    program: list[str], token_file: str, tmp_path: Path
) -> None:
    """It signs in, trusts whom it is told to, and dials a socket file, as ``connect`` does."""
    cert, key, path = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "socket"
    write_pair(cert, key)
    start = [*program, "start", "--token-file", token_file]
    tls = ["--port", "0", "--tls-cert", str(cert), "--tls-key", str(key)]
    with running(*start, *tls) as server, running(*start, "--unix", str(path)) as file:
        assert file.url == f"unix:{path}"
        script = f"""
            "$@" send hi {server.url} --tls-ca {cert} --token-file {token_file}
            "$@" send hi --unix {path} --token-file {token_file}
            "$@" send hi {server.url} --tls-ca {cert}
            "$@" send hi {server.url} --token-file {token_file}"""
        done = shell(script, program)
        assert done.code == 1
        assert done.output == "said to 0 in lobby\n" * 2
        wants, distrusted = done.errors.splitlines()
        assert wants == "not said: this server wants a token: ask who runs it for one"
        assert distrusted.startswith(f"not said: Could not connect to server at {server.url} (its")
