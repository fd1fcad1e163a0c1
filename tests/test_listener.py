"""The listener: TLS, socket files, sockets of systemd's, and no more files."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from certificates import write_pair
from houses import INSTALLED, PATIENCE, ServedHouse
from programs import Finished, Running, running, shell, until
from wire import TEXT, Wire

from broadcast_server.connection import Times
from broadcast_server.door import Door, Guests
from broadcast_server.opened import inherited
from broadcast_server.porch import Porch
from broadcast_server.proxies import parse_trusted
from broadcast_server.safe import safe_text
from broadcast_server.server import Server, Settings
from broadcast_server.tls import Certificate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, socket files, ulimit")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, for this test alone."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(cert, key)
    return cert, key


@pytest.fixture
def secure(pair: tuple[Path, Path]) -> Iterator[Running]:
    """A server with this test's certificate."""
    files = "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])
    with running(*INSTALLED, "start", "--port", "0", *files) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        yield server
        assert server.signal(signal.SIGTERM) == 0


# -- TLS --


def test_wss(secure: Running, pair: tuple[Path, Path]) -> None:
    """Who trusts its authority talks to a server through TLS, and nobody else does."""
    script = f"""echo hi | "$@" connect {secure.url}"""
    done = shell(f"{script} --tls-ca {pair[0]}", INSTALLED)
    assert (done.code, done.output) == (0, "anonymous: hi\n")
    done = shell(script, INSTALLED)
    assert (done.code, done.output) == (1, "")
    assert re.fullmatch(
        r"Could not connect to server at \S+ \(its certificate is not trusted: [^\n]*\)\n",
        done.errors,
    )
    done = shell(f"""echo hi | "$@" connect {secure.url.replace("wss", "ws")}""", INSTALLED)
    assert done.code == 1 and len(done.errors.splitlines()) == 1


def test_what_is_no_tls_ends_at_once(secure: Running) -> None:
    """Plain HTTP on the port of TLS is ended without a word on either side."""
    with socket.create_connection(("127.0.0.1", int(secure.port)), PATIENCE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        assert plain.recv(100) == b""
        assert time.monotonic() - began < 5
    assert len(secure.errors.splitlines()) == 1


def test_a_certificate_is_renewed(secure: Running, pair: tuple[Path, Path]) -> None:
    """SIGHUP has the next handshake see the new certificate, and a bad one changes nothing."""
    place = "127.0.0.1", int(secure.port)
    first = ssl.get_server_certificate(place)
    write_pair(*pair)
    secure.process.send_signal(signal.SIGHUP)
    until(lambda: "certificate renewed" in secure.errors)
    second = ssl.get_server_certificate(place)
    assert second != first and second.strip() == pair[0].read_text().strip()
    good = pair[0].read_text()
    write_pair(pair[0], pair[1].with_name("another.pem"))
    secure.process.send_signal(signal.SIGHUP)
    until(lambda: "(the old one stays)" in secure.errors)
    assert ssl.get_server_certificate(place) == second
    assert re.search(r"Could not use \S+ with \S+: \S[^\n]+ \(the old one stays\)\n", secure.errors)
    assert pair[0].read_text() != good


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (
            "--tls-cert {folder}/no.pem",
            1,
            "Could not use {folder}/no.pem: no such file or directory",
        ),
        (
            "--tls-cert {folder}/key.pem",
            1,
            "Could not use {folder}/key.pem: no PEM file with what is needed",
        ),
        (
            "--tls-key {folder}/key.pem",
            2,
            "broadcast-server start: error: --tls-key without --tls-cert is of no use, give both",
        ),
    ],
)
def test_a_certificate_that_is_none(
    options: str, code: int, why: str, pair: tuple[Path, Path]
) -> None:
    """A certificate that cannot be used is told in one line, and nothing listens."""
    folder = str(pair[0].parent)
    done = shell(f'"$@" start --port 0 {options.format(folder=folder)}', INSTALLED)
    assert (done.code, done.errors) == (code, why.format(folder=folder) + "\n")


def test_a_stalled_handshake_is_cut(pair: tuple[Path, Path]) -> None:
    """Who begins a TLS handshake and does not go on is cut; the end does not wait for it."""

    async def part() -> None:
        settings = Settings(port=0, times=Times(handshake=0.2))
        server = Server(settings, certificate=Certificate(*pair))
        await server.listen()
        wire = await Wire.dial(server.url)
        wire.send(b"\x16\x03\x01\x02\x00\x01")
        assert await wire.ended() == b""
        silent = await Wire.dial(server.url)
        assert await silent.ended() == b""
        await server.stop()
        await Wire.cut_all()

    asyncio.run(part())


def test_a_flood_through_tls(secure: Running, pair: tuple[Path, Path]) -> None:
    """What waits for its turn is kept in its order through TLS as well."""
    script = f"""seq 20000 | "$@" connect {secure.url} --tls-ca {pair[0]}"""
    done = shell(script, INSTALLED)
    assert (done.code, done.errors) == (0, "")
    assert done.output.split("\n") == [*(f"anonymous: {n}" for n in range(1, 20001)), ""]


# -- socket files --


def test_a_socket_file(tmp_path: Path) -> None:
    """A server listens on a file, refuses a second one there, and takes the file away."""
    path = tmp_path / "room.sock"
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url == f"unix:{path}"
        done = shell(f"""echo hi | "$@" connect --unix {path}""", INSTALLED)
        assert (done.code, done.output) == (0, "anonymous: hi\n")
        assert "joined lobby, from a local socket (1 here" in server.errors
        done = shell(f'"$@" start --unix {path}', INSTALLED)
        words = f"Address already in use: {path} (choose another with --unix)\n"
        assert (done.code, done.errors) == (1, words)
        assert server.signal(signal.SIGTERM) == 0
    assert not path.exists()
    done = shell(f"""echo hi | "$@" connect --unix {path}""", INSTALLED)
    assert done.code == 1
    assert done.errors == (
        f"Could not connect to server at unix:{path} (no such file or directory)\n"
    )


def test_the_socket_file_of_a_dead_server(tmp_path: Path) -> None:
    """A file that a killed server left is taken over, and one that is no socket is not."""
    path = tmp_path / "room.sock"
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url
        server.process.kill()
        server.process.wait()
    assert path.exists()
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url == f"unix:{path}"
        path.unlink()
        path.write_text("another's by now")
        assert server.signal(signal.SIGTERM) == 0
    assert path.read_text() == "another's by now"
    done = shell(f'"$@" start --unix {path}', INSTALLED)
    assert (done.code, done.errors) == (1, f"Could not listen on {path}: a file is there already\n")


# -- sockets of systemd's --


def test_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """On a socket that outlives the server, who dials while it is down waits and gets in."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        os.set_inheritable(door.fileno(), True)
        command = (
            "bash", "-c", 'exec 3<&"$DOOR"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash",
            *INSTALLED, "start", "--log", str(tmp_path / "log"),
        )  # fmt: skip

        def serving() -> Iterator[Running]:
            with running(*command, DOOR=str(door.fileno()), pass_fds=(door.fileno(),)) as server:
                assert server.url == f"ws://127.0.0.1:{port}/"
                yield server

        for first in serving():
            assert shell(f'echo one | "$@" connect --port {port}', INSTALLED).code == 0
            assert first.signal(signal.SIGTERM) == 0
        client = running(*INSTALLED, "connect", "--port", str(port), "--history", "9")
        with client as waiting:
            waiting.say("two\n")
            until(lambda: _dials(waiting.process.pid, port), "a client that dials")
            for second in serving():
                assert waiting.end() == 0
                assert waiting.output == "anonymous: one\nanonymous: two\n"
                assert waiting.errors == ""
                assert second.signal(signal.SIGTERM) == 0


def _dials(pid: int, port: int) -> bool:
    """Tell whether a process has a connection to that port of this machine."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01"}
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile, and so is not the one
            links.append(str(each.readlink()))
    return any(f"socket:[{inode}]" in links for inode in inodes)


def test_sockets_for_somebody_else() -> None:
    """Variables that a parent left for another process are nothing to us."""
    assert inherited({"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}) == []
    assert inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}) == []
    assert inherited({}) == []


# -- no more files --


def test_strangers_cannot_use_up_the_files() -> None:
    """While a hundred connections that say nothing hold all files, who wants to come in can."""
    limited = 'ulimit -n 40 && exec "$@"'
    with running("bash", "-c", limited, "bash", *INSTALLED, "start", "--port", "0") as server:

        async def part() -> None:
            first = await Wire.open(server.url, "/?name=first")
            silent = [await Wire.dial(server.url) for _ in range(100)]
            assert await silent[0].ended() == b""
            first.frame(TEXT, b"hi")
            assert await first.got() == (TEXT, b"first: hi")
            for name in ("second", "third"):
                await Wire.open(server.url, f"/?name={name}")
                assert await first.got() == (TEXT, f"{name} joined the chat".encode())
            for wire in silent:
                wire.cut()
            house = ServedHouse(server.url)
            last = await house.open("/?name=last", as_json=False)
            await last.heard_nothing(4)
            await house.close()
            await Wire.cut_all()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0
        lines = [line[9:] for line in server.errors.splitlines()]
        few, many = (line for line in lines if "files" in line or "nothing" in line)
        assert few == "at most 24 clients fit, as few files may be open (raise ulimit -n)"
        cut = r"\d+ connections ask for nothing, so the oldest are cut for who comes now"
        assert re.fullmatch(cut, many)


def test_running_out_of_files(caplog: pytest.LogCaptureFixture) -> None:
    """Who comes when no file is left is turned away, which is told once; then all is well."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Door(socket.AF_INET, socket.SOCK_STREAM) as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)
        dialled = [socket.create_connection(door.getsockname()) for _ in range(3)]
        free = os.dup(door.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # for the one in reserve
        try:
            for one in dialled[:2]:
                with pytest.raises(BlockingIOError):
                    door.accept()
                assert one.recv(1) == b""
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        door.accept()[0].close()
        for one in dialled:
            one.close()
    assert caplog.messages == [
        "too many files are open, who comes now is turned away (raise ulimit -n)"
    ]


def test_one_address_cannot_take_the_porch() -> None:
    """Of one address the oldest that is not in has to go, not another's, and nobody who is in."""
    guests = Guests(Porch(10, 2, None), parse_trusted("192.0.2.9"))
    pairs = [socket.socketpair() for _ in range(7)]
    addresses = (*4 * ["192.0.2.1"], "192.0.2.2", *2 * ["192.0.2.9"])
    came = []
    for (ours, theirs), address in zip(pairs, addresses, strict=True):
        theirs.setblocking(False)
        came.append(guests.come(ours, (address, 1)))
        if len(came) == 1:
            guests.enter(came[0].fileno())
    cut = []
    for _, theirs in pairs:
        try:
            cut.append(theirs.recv(1) == b"")
        except BlockingIOError:
            cut.append(False)
    assert cut == [False, True, False, False, False, False, False]
    for guest, (_, theirs) in zip(came, pairs, strict=True):
        guest.close()
        theirs.close()
    assert not guests._by


# -- what is worth a word --


REACHED = "whoever reaches this port can"


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ("", f"{REACHED} come in (see --token-file) and read along (see --tls-cert)"),
        ("--trusted-proxy 10.0.0.1", f"{REACHED} come in (see --token-file)"),
        ("--token-file {token}", f"{REACHED} read along (see --tls-cert)"),
        ("--token-file {token} --tls-cert {cert} --tls-key {key}", ""),
        ("--host 127.0.0.1", ""),
    ],
)
def test_a_warning_for_an_open_door(
    options: str, warning: str, token_file: str, pair: tuple[Path, Path]
) -> None:
    """Who listens for more than this machine without token or TLS is told what that means."""
    given = options.format(token=token_file, cert=pair[0], key=pair[1]).split()
    with running(*INSTALLED, "start", "--host", "0.0.0.0", "--port", "0", *given) as server:
        assert server.url
        assert server.signal(signal.SIGTERM) == 0
        assert [line[9:] for line in server.errors.splitlines()[1:-1]] == [warning][: bool(warning)]


def test_the_log_names_the_client_behind_a_proxy() -> None:
    """The log has the address that a trusted proxy names, and nothing that is no address."""
    options = "--port", "0", "--trusted-proxy", "127.0.0.1"
    with running(*INSTALLED, "start", *options) as server:

        async def part() -> None:
            for name in (
                "203.0.113.7",
                "fe80::1%[31mred",
                "[31mred",
                "1.2.3.4 \xe2\x80\xae",
            ):
                wire = await Wire.open(server.url, "/?name=bob", f"X-Forwarded-For: {name}")
                wire.frame(TEXT, b"hi")
                await wire.got()
            await Wire.cut_all()

        asyncio.run(part())
        until(lambda: server.errors.count("left lobby") == 4)
        froms = re.findall(r"from ([^ ]+) ", server.errors)
        assert froms[0] == "203.0.113.7"
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+|fe80::1", each) for each in froms[1:])
        assert server.errors.isascii() and "\x1b" not in server.errors


HOSTILE = "\x1b[2J\u202eevil\x9b31m\x07\u2028forged"


def test_nothing_hostile_reaches_the_log() -> None:
    """Names, rooms, addresses, tokens and paths cannot put an escape or a line into the log."""
    options = "--port", "0", "--trusted-proxy", "127.0.0.1"
    with running(*INSTALLED, "start", *options, BROADCAST_TOKEN="s3cret") as server:

        async def part() -> None:
            coded = quote(HOSTILE)
            token = "Authorization: Bearer s3cret"
            for target in (f"/?name={coded}", f"/?room={coded}", f"/?session={coded}"):
                wire = await Wire.open(server.url, target, token)
                answer = (await wire.got())[1].decode()
                assert answer.startswith("* ") and safe_text(answer) == answer
            for more in (f"Authorization: Bearer {coded}", f"X-Forwarded-For: {coded}, {coded}"):
                wire = await Wire.open(server.url, "/?name=bob", token, more)
                wire.frame(TEXT, b"hi")
                await wire.got()
            wire = await Wire.dial(server.url)
            wire.send(f"GET /{HOSTILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await wire.ended()
            wire = await Wire.open(server.url, "/?name=ann", token)
            wire.frame(TEXT, b"hi")
            await wire.got()
            await Wire.cut_all()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0
        assert server.errors.isascii() and server.errors.replace("\n", "").isprintable()
        assert "evil" not in server.errors and "s3cret" not in server.errors


def test_nothing_hostile_reaches_the_terminal() -> None:
    """What a server answers to a client that it refuses is told without its escapes."""

    async def part() -> Finished:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = HOSTILE.encode()
            head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as fake:
            port = fake.sockets[0].getsockname()[1]
            script = f'"$@" connect --port {port}'
            return await asyncio.to_thread(shell, script, INSTALLED)

    done = asyncio.run(part())
    assert done.code == 1
    assert re.fullmatch(
        r"Could not connect to server at ws://127\.0\.0\.1:\d+/ \(evil31m\)\n", done.errors
    )
