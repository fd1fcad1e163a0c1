"""Sockets of systemd: which can be used, and what is said about the others."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from programs import PATIENCE

from broadcast_server.server import activation
from broadcast_server.server.activation import systemd_sockets
from broadcast_server.server.listen_socket import ListenError

FIRST_FD = 200
"""Instead of 3, which the tests have in use."""


@pytest.fixture(autouse=True)
def _first_fd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "FIRST_FD", FIRST_FD)


@contextmanager
def passed(*files: int) -> Iterator[None]:
    """Pass copies of *files* to ourselves, as systemd does."""
    numbers = range(FIRST_FD, FIRST_FD + len(files))
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number, inheritable=True)
    try:
        yield
    finally:
        for number in numbers:
            try:
                os.close(number)
            except OSError:  # as it should be
                continue


def variables(count: object, name: str = "", pid: object = None) -> dict[str, str]:
    """Return the variables of systemd."""
    given = {"LISTEN_PID": pid or os.getpid(), "LISTEN_FDS": count, "LISTEN_FDNAMES": name}
    return {key: str(value) for key, value in given.items()}


IN_UNIT = "in the .socket unit)"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("udp", (f"systemd passed a datagram socket, and the server needs a stream"
         f" (write ListenStream= instead {IN_UNIT}")),
        ("unix datagram", (f"systemd passed a datagram socket, and the server needs a stream"
         f" (write ListenStream= instead {IN_UNIT}")),
        ("seqpacket", (f"systemd passed a sequential-packet socket, and the server needs a stream"
         f" (write ListenStream= instead {IN_UNIT}")),
        ("connection", (f"systemd passed a connection, and the server needs the socket that accepts"
         f" them (write Accept=no {IN_UNIT}")),
        ("lost connection", (f"systemd passed a connection, and the server needs the socket that"
         f" accepts them (write Accept=no {IN_UNIT}")),
        ("pipe", (f"systemd passed something else than a socket, as file descriptor {FIRST_FD}"
         f" (write only ListenStream= {IN_UNIT}")),
        ("tcp and udp", (f"systemd passed a datagram socket, and the server needs a stream"
         f" (write ListenStream= instead {IN_UNIT}")),
    ],
)  # fmt: skip
def test_what_is_no_listening_stream(tmp_path: Path, kind: str, error: str) -> None:
    """The error says what systemd passed, and what to write in the unit instead."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        local = {
            each: stack.enter_context(socket.socket(socket.AF_UNIX, each))
            for each in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
        }
        for number, sock in local.items():
            sock.bind(str(tmp_path / str(int(number))))
        stack.enter_context(socket.create_connection(listener.getsockname()))
        connection = stack.enter_context(listener.accept()[0])
        read, write = os.pipe()
        stack.callback(os.close, read)
        stack.callback(os.close, write)
        files = {
            "udp": [udp.fileno()],
            "unix datagram": [local[socket.SOCK_DGRAM].fileno()],
            "seqpacket": [local[socket.SOCK_SEQPACKET].fileno()],
            "connection": [connection.fileno()],
            "lost connection": [stack.enter_context(socket.socket()).fileno()],
            "pipe": [read],
            "tcp and udp": [listener.fileno(), udp.fileno()],
        }[kind]
        name = "connection" if kind == "lost connection" else ""
        with passed(*files), pytest.raises(ListenError) as raised:
            systemd_sockets(variables(len(files), name))
        assert str(raised.value) == error


@pytest.mark.parametrize(
    ("count", "error"),
    [
        ("2", (f"LISTEN_FDS is 2, but file descriptor {FIRST_FD + 1} was not passed"
         " (let systemd set the variable)")),
        ("99999999999", ("LISTEN_FDS is 99999999999, but file descriptor 201 was not passed"
         " (let systemd set the variable)")),
        ("-1", "LISTEN_FDS is '-1', not a number of sockets (unset LISTEN_PID)"),
        ("", "LISTEN_FDS is '', not a number of sockets (unset LISTEN_PID)"),
    ],
)  # fmt: skip
def test_a_wrong_number_of_sockets(count: str, error: str) -> None:
    """A file that we have opened ourselves is never taken for one of systemd's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, passed(listener.fileno()):
        os.dup2(listener.fileno(), FIRST_FD + 1, inheritable=False)
        with pytest.raises(ListenError) as raised:
            systemd_sockets(variables(count))
        assert str(raised.value) == error
        os.close(FIRST_FD + 1)


def test_what_can_be_used(tmp_path: Path) -> None:
    """Listening sockets can be used, of any family, and so can one that is only bound."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as bound,
        socket.socket(socket.AF_UNIX) as local,
    ):
        bound.bind(("127.0.0.1", 0))
        local.bind(str(tmp_path / "socket"))
        with passed(listening.fileno(), bound.fileno(), local.fileno()):
            sockets = systemd_sockets(variables(3, "connection.socket:a:b"))
            names = [each.getsockname() for each in (listening, bound, local)]
            assert [each.getsockname() for each in sockets] == names
            assert not any(os.get_inheritable(each.fileno()) for each in sockets)
            for each in sockets:
                each.close()
    assert systemd_sockets(variables(0)) == []
    assert systemd_sockets({}) == []


def test_the_sockets_of_a_wrapper(caplog: pytest.LogCaptureFixture) -> None:
    """A server that was not started by exec has the sockets, but they are not for it: it warns.

    Without a socket, the variables are only inherited.
    """
    other = os.getpid() + 1
    assert systemd_sockets(variables(1, pid=other)) == []
    assert not caplog.messages
    with socket.create_server(("127.0.0.1", 0)) as listener, passed(listener.fileno()):
        with caplog.at_level(logging.WARNING):
            assert systemd_sockets(variables(1, pid=other)) == []
    assert caplog.messages == [
        (
            f"LISTEN_PID is {other} and this is process {os.getpid()}: its sockets are not used"
            " (start it by exec)"
        )
    ]


@pytest.mark.parametrize(
    ("option", "reason"),
    [("--datagram", "a datagram socket"), ("--seqpacket", "a sequential-packet socket"),
     ("--accept", "a connection")],
)  # fmt: skip
def test_systemd_socket_activate(
    program: list[str], tmp_path: Path, option: str, reason: str
) -> None:
    """The real thing passes a wrong socket, and the server says so in one line."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("there is no systemd-socket-activate here")
    path = tmp_path / "socket"
    command = [activate, option, f"--listen={path}", *program, "start"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        kind = {"--datagram": socket.SOCK_DGRAM, "--seqpacket": socket.SOCK_SEQPACKET}
        assert child.stderr is not None
        assert "Listening on" in child.stderr.readline()
        with socket.socket(socket.AF_UNIX, kind.get(option, socket.SOCK_STREAM)) as client:
            client.connect(str(path))
            if option == "--datagram":
                client.send(b"hello")
            lines = iter(child.stderr.readline, "")
            line = next(each for each in lines if each.startswith("systemd passed"))
        assert line.startswith(f"systemd passed {reason}, and the server needs")
        if option == "--accept":
            child.terminate()
        child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
        child.wait()
