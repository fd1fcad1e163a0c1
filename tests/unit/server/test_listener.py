"""The listener: TLS, Unix sockets, systemd sockets, running out of files, and warnings."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import signal
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from certificates import write_pair
from deployments import ANSWER_TIMEOUT_S, INSTALLED, ServedDeployment
from programs import Finished, Running, running, shell, until
from wire import TEXT, Wire

from broadcast_server.admission.pending import PendingConnections
from broadcast_server.admission.trusted_proxies import parse_trusted_proxies
from broadcast_server.protocol.sanitize import strip_control
from broadcast_server.server.api import Timeouts
from broadcast_server.server.listen_socket import ConnectionTracker, ListenSocket
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.tls import ReloadableCertificate

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, Unix sockets, ulimit")


@pytest.fixture
def cert_and_key(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, as two files of one test."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(cert, key)
    return cert, key


@pytest.fixture
def tls_server(cert_and_key: tuple[Path, Path]) -> Iterator[Running]:
    """A server with the certificate of this test."""
    files = "--tls-cert", str(cert_and_key[0]), "--tls-key", str(cert_and_key[1])
    with running(*INSTALLED, "start", "--port", "0", "--rate", "0", *files) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        yield server
        assert server.signal(signal.SIGTERM) == 0


# -- addresses --


@pytest.mark.parametrize("host", ["::", ""])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    """`--host ::` takes IPv4 as well, as an empty host does, on one port."""

    async def scenario() -> None:
        server = Server(Settings(host=host, port=0, grace=0))
        await server.listen()
        ports = {url.rpartition(":")[2] for url in server.listener.urls}
        assert {url.rpartition(":")[0] for url in server.listener.urls} == {
            "ws://[::]",
            "ws://0.0.0.0",
        }
        assert len(ports) == 1
        port = int(ports.pop().rstrip("/"))
        for address in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
        await server.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("port_is_given", [False, True])
def test_a_free_port_that_is_taken_in_the_other_family(
    monkeypatch: pytest.MonkeyPatch, *, port_is_given: bool
) -> None:
    """The server tries another one, unless it was to use that port."""
    bind = ListenSocket.bind
    taken = list[socket.socket]()

    def take_port_of_other_family(self: ListenSocket, address: tuple[str, int]) -> None:
        if self.family == socket.AF_INET and not taken:
            taken.append(socket.create_server(("127.0.0.1", address[1])))
        bind(self, address)

    monkeypatch.setattr(ListenSocket, "bind", take_port_of_other_family)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        port = probe.getsockname()[1] if port_is_given else 0

    async def scenario() -> None:
        server = Server(Settings(host="::", port=port, grace=0))
        if port_is_given:
            with pytest.raises(OSError, match="in use"):
                await server.listen()
        else:
            await server.listen()
            assert len(server.listener.urls) == 2
        await server.stop()

    asyncio.run(scenario())
    (other,) = taken
    other.close()


@pytest.mark.parametrize("host", ["::", ""])
@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
def test_all_addresses_of_a_system_with_one_family(
    host: str, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family that the system does not have is left out."""
    bind = ListenSocket.bind

    def bind_or_fail(self: ListenSocket, address: tuple[str, int]) -> None:
        if self.family == missing:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        bind(self, address)

    monkeypatch.setattr(ListenSocket, "bind", bind_or_fail)

    async def scenario() -> None:
        server = Server(Settings(host=host, port=0, grace=0))
        await server.listen()
        assert len(server.listener.urls) == 1
        await server.stop()
        server = Server(Settings(host="127.0.0.1" if missing == socket.AF_INET else "::1", port=0))
        with pytest.raises(OSError, match="Cannot assign"):
            await server.listen()

    asyncio.run(scenario())


@pytest.mark.parametrize("passes", range(5))
def test_a_connection_that_comes_while_the_server_stops_is_closed(passes: int) -> None:
    """However far the loop has come with an accepted socket, it is closed before the loop is."""

    async def scenario() -> None:
        server = Server(Settings(port=0, grace=0))
        await server.listen()
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(passes):
                await asyncio.sleep(0)
            await server.stop()
            client.setblocking(False)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        asyncio.run(scenario())
        gc.collect()
    assert [str(each.message) for each in found] == []


# -- TLS --


def test_tls(tls_server: Running, cert_and_key: tuple[Path, Path]) -> None:
    """Only a client that trusts the certificate's authority can use a server with TLS."""
    script = f"""echo hi | "$@" connect {tls_server.url}"""
    done = shell(f"{script} --tls-ca {cert_and_key[0]}", INSTALLED)
    assert (done.code, done.output) == (0, "anonymous: hi\n")
    done = shell(script, INSTALLED)
    assert (done.code, done.output) == (1, "")
    assert re.fullmatch(
        r"Could not connect to server at \S+ \(its certificate is not trusted: [^\n]*\)"
        r" \(pass it with --tls-ca FILE\)\n",
        done.errors,
    )
    done = shell(f"""echo hi | "$@" connect {tls_server.url.replace("wss", "ws")}""", INSTALLED)
    assert done.code == 1 and len(done.errors.splitlines()) == 1


def test_plain_http_on_a_tls_port_is_closed_at_once(tls_server: Running) -> None:
    """Plain HTTP on a port with TLS is closed without a response or a log line."""
    with socket.create_connection(("127.0.0.1", int(tls_server.port)), ANSWER_TIMEOUT_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        assert plain.recv(100) == b""
        assert time.monotonic() - began < 5
    assert len(tls_server.errors.splitlines()) == 1


def test_a_certificate_is_renewed(tls_server: Running, cert_and_key: tuple[Path, Path]) -> None:
    """After SIGHUP new handshakes use the new certificate; an invalid one changes nothing."""
    address = "127.0.0.1", int(tls_server.port)
    first = ssl.get_server_certificate(address)
    write_pair(*cert_and_key)
    tls_server.process.send_signal(signal.SIGHUP)
    until(lambda: "certificate renewed" in tls_server.errors)
    second = ssl.get_server_certificate(address)
    assert second != first and second.strip() == cert_and_key[0].read_text().strip()
    good = cert_and_key[0].read_text()
    write_pair(cert_and_key[0], cert_and_key[1].with_name("another.pem"))
    tls_server.process.send_signal(signal.SIGHUP)
    until(lambda: "(the old certificate stays in use)" in tls_server.errors)
    assert ssl.get_server_certificate(address) == second
    assert re.search(
        r"Could not use the certificate: the private key in \S+ does not belong to [^\n]+"
        r" \(the old certificate stays in use\)\n",
        tls_server.errors,
    )
    assert cert_and_key[0].read_text() != good


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        (
            "--tls-cert {folder}/no.pem",
            1,
            "Could not use {folder}/no.pem: no such file or directory (check the path)",
        ),
        (
            "--tls-cert {folder}/key.pem",
            1,
            (
                "Could not use the certificate: {folder}/key.pem has a private key, and no"
                " certificate (name its file with --tls-cert)"
            ),
        ),
        (
            "--tls-key {folder}/key.pem",
            2,
            "broadcast-server start: error: --tls-key needs --tls-cert (give both)",
        ),
    ],
)
def test_an_unusable_certificate(
    options: str, code: int, error: str, cert_and_key: tuple[Path, Path]
) -> None:
    """A certificate that cannot be used is reported in one line, and the server does not start."""
    folder = str(cert_and_key[0].parent)
    done = shell(f'"$@" start --port 0 {options.format(folder=folder)}', INSTALLED)
    assert (done.code, done.errors) == (code, error.format(folder=folder) + "\n")


def test_a_stalled_handshake_is_cut(cert_and_key: tuple[Path, Path]) -> None:
    """A TLS handshake that does not go on is cut, and stopping does not wait for it."""

    async def part() -> None:
        settings = Settings(port=0, timeouts=Timeouts(handshake=0.2))
        server = Server(settings, certificate=ReloadableCertificate(*cert_and_key))
        await server.listen()
        wire = await Wire.connect(server.url)
        wire.send(b"\x16\x03\x01\x02\x00\x01")
        assert await wire.read_to_end() == b""
        silent = await Wire.connect(server.url)
        assert await silent.read_to_end() == b""
        await server.stop()
        await Wire.cut_all()

    asyncio.run(part())


def test_a_flood_through_tls(tls_server: Running, cert_and_key: tuple[Path, Path]) -> None:
    """Messages that wait for the next batch stay in order, through TLS, too."""
    script = f"""seq 20000 | "$@" connect {tls_server.url} --tls-ca {cert_and_key[0]}"""
    done = shell(script, INSTALLED)
    assert (done.code, done.errors) == (0, "")
    assert done.output.split("\n") == [*(f"anonymous: {n}" for n in range(1, 20001)), ""]


# -- Unix sockets --


def test_a_unix_socket(tmp_path: Path) -> None:
    """A server listens on a Unix socket, where a second one cannot, and removes the file."""
    path = tmp_path / "room.sock"
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url == f"unix:{path}"
        done = shell(f"""echo hi | "$@" connect --unix {path}""", INSTALLED)
        assert (done.code, done.output) == (0, "anonymous: hi\n")
        assert "joined lobby, from a local socket (1 here" in server.errors
        done = shell(f'"$@" start --unix {path}', INSTALLED)
        error = f"Address already in use: {path} (choose another with --unix)\n"
        assert (done.code, done.errors) == (1, error)
        assert server.signal(signal.SIGTERM) == 0
    assert not path.exists()
    done = shell(f"""echo hi | "$@" connect --unix {path}""", INSTALLED)
    assert done.code == 1
    assert done.errors == (
        f"Could not connect to server at unix:{path} (no such file or directory)\n"
    )


def test_a_stale_unix_socket(tmp_path: Path) -> None:
    """The socket file that a killed server left is replaced, any other file is not."""
    path = tmp_path / "room.sock"
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url
        server.process.kill()
        server.process.wait()
    assert path.exists()
    with running(*INSTALLED, "start", "--unix", str(path)) as server:
        assert server.url == f"unix:{path}"
        path.unlink()
        path.write_text("not a socket")
        assert server.signal(signal.SIGTERM) == 0
    assert path.read_text() == "not a socket"
    done = shell(f'"$@" start --unix {path}', INSTALLED)
    error = f"Could not listen on {path}: a file is there already (remove it, or choose another"
    assert (done.code, done.errors) == (1, f"{error} path with --unix)\n")


# -- systemd sockets --


def test_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """On a socket that outlives the server, a client that connects while it is down waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        os.set_inheritable(listening.fileno(), True)
        command = (
            "bash", "-c", 'exec 3<&"$LISTEN_SOCKET"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash",
            *INSTALLED, "start", "--log", str(tmp_path / "log"),
        )  # fmt: skip

        def serving() -> Iterator[Running]:
            number = listening.fileno()
            with running(*command, LISTEN_SOCKET=str(number), pass_fds=(number,)) as server:
                assert server.url == f"ws://127.0.0.1:{port}/"
                yield server

        for first in serving():
            assert shell(f'echo one | "$@" connect --port {port}', INSTALLED).code == 0
            assert first.signal(signal.SIGTERM) == 0
        client = running(*INSTALLED, "connect", "--port", str(port), "--history", "9")
        with client as waiting:
            waiting.say("two\n")
            until(lambda: _is_connected(waiting.process.pid, port), "a connection")
            for second in serving():
                assert waiting.end() == 0
                assert waiting.output == "anonymous: one\nanonymous: two\n"
                assert waiting.errors == ""
                assert second.signal(signal.SIGTERM) == 0


def _is_connected(pid: int, port: int) -> bool:
    """Tell whether the process *pid* has a connection to *port* of this machine."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[2] == f"0100007F:{port:04X}" and row[3] == "01"}
    links = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(str(file.readlink()))
    return any(f"socket:[{inode}]" in links for inode in inodes)


# -- running out of files --


def test_silent_connections_cannot_use_up_the_files() -> None:
    """Clients can join while a hundred connections that send nothing hold all files."""
    limited = 'ulimit -n 40 && exec "$@"'
    with running("bash", "-c", limited, "bash", *INSTALLED, "start", "--port", "0") as server:

        async def part() -> None:
            first = await Wire.open(server.url, "/?name=first")
            silent = [await Wire.connect(server.url) for _ in range(100)]
            assert await silent[0].read_to_end() == b""
            first.send_frame(TEXT, b"hi")
            assert await first.read_frame() == (TEXT, b"first: hi")
            for name in ("second", "third"):
                await Wire.open(server.url, f"/?name={name}")
                assert await first.read_frame() == (TEXT, f"{name} joined the chat".encode())
            for wire in silent:
                wire.cut()
            deployment = ServedDeployment(server.url)
            last = await deployment.open("/?name=last", as_json=False)
            await last.assert_nothing_new(4)
            await deployment.close()
            await Wire.cut_all()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0
        lines = [line[9:] for line in server.errors.splitlines()]
        few, many = (line for line in lines if "files" in line or "oldest" in line)
        assert few == "the limit on open files allows only 24 clients (raise ulimit -n)"
        evicting = r"\d+ connections have not joined a room, the oldest are closed for new ones"
        assert re.fullmatch(evicting, many)


def test_running_out_of_files(caplog: pytest.LogCaptureFixture) -> None:
    """Connections that no file is left for are dropped, with one warning, until there is one."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ListenSocket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        free = os.dup(listening.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))  # one for the file in reserve
        try:
            for client in clients[:2]:
                with pytest.raises(BlockingIOError):
                    listening.accept()
                assert client.recv(1) == b""
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        listening.accept()[0].close()
        for client in clients:
            client.close()
    assert caplog.messages == [
        "too many files are open, new connections are dropped (raise ulimit -n)"
    ]


def test_one_address_cannot_use_up_the_pending_connections() -> None:
    """Over the limit of an address its oldest pending connection is cut, and no other one."""
    pending = PendingConnections(10, 2, None)
    tracker = ConnectionTracker(pending, parse_trusted_proxies("192.0.2.9"))
    pairs = [socket.socketpair() for _ in range(7)]
    addresses = (*4 * ["192.0.2.1"], "192.0.2.2", *2 * ["192.0.2.9"])
    accepted = []
    for (server_end, client_end), address in zip(pairs, addresses, strict=True):
        client_end.setblocking(False)
        accepted.append(tracker.accepted(server_end, (address, 1)))
        if len(accepted) == 1:
            tracker.joined(accepted[0].fileno())
    cut = []
    for _, client_end in pairs:
        try:
            cut.append(client_end.recv(1) == b"")
        except BlockingIOError:
            cut.append(False)
    assert cut == [False, True, False, False, False, False, False]
    for connection, (_, client_end) in zip(accepted, pairs, strict=True):
        connection.close()
        client_end.close()
    assert not tracker._by_file_number


# -- warnings and the log --


ANYONE_CAN_JOIN = "anyone who can reach this port can join (see --token-file)"
ANYONE_CAN_READ = "anyone on the network path can read the traffic (see --tls-cert)"


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ("", f"{ANYONE_CAN_JOIN} and {ANYONE_CAN_READ}"),
        ("--trusted-proxy 10.0.0.1", ANYONE_CAN_JOIN),
        ("--token-file {token}", ANYONE_CAN_READ),
        ("--token-file {token} --tls-cert {cert} --tls-key {key}", ""),
        ("--host 127.0.0.1", ""),
    ],
)
def test_a_warning_for_an_exposed_server(
    options: str, warning: str, token_file: str, cert_and_key: tuple[Path, Path]
) -> None:
    """A server that other machines can reach without a token or TLS warns what that means."""
    given = options.format(token=token_file, cert=cert_and_key[0], key=cert_and_key[1]).split()
    with running(*INSTALLED, "start", "--host", "0.0.0.0", "--port", "0", *given) as server:
        assert server.url
        assert server.signal(signal.SIGTERM) == 0
        assert [line[9:] for line in server.errors.splitlines()[1:-1]] == [warning][: bool(warning)]


def test_the_log_names_the_client_behind_a_proxy() -> None:
    """The log has the client's address that a trusted proxy names, if it is a valid address."""
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
                wire.send_frame(TEXT, b"hi")
                await wire.read_frame()
            await Wire.cut_all()

        asyncio.run(part())
        until(lambda: server.errors.count("left lobby") == 4)
        addresses = re.findall(r"from ([^ ]+) ", server.errors)
        assert addresses[0] == "203.0.113.7"
        assert all(re.fullmatch(r"127\.0\.0\.1:\d+|fe80::1", each) for each in addresses[1:])
        assert server.errors.isascii() and "\x1b" not in server.errors


HOSTILE = "\x1b[2J\u202eevil\x9b31m\x07\u2028forged"


def test_nothing_hostile_reaches_the_log() -> None:
    """Names, rooms, addresses, tokens and paths cannot inject escapes or lines into the log."""
    options = "--port", "0", "--trusted-proxy", "127.0.0.1"
    with running(*INSTALLED, "start", *options, BROADCAST_TOKEN="s3cret") as server:

        async def part() -> None:
            quoted = quote(HOSTILE)
            token = "Authorization: Bearer s3cret"
            for target in (f"/?name={quoted}", f"/?room={quoted}", f"/?session={quoted}"):
                wire = await Wire.open(server.url, target, token)
                answer = (await wire.read_frame())[1].decode()
                assert answer.startswith("* ") and strip_control(answer) == answer
            for more in (f"Authorization: Bearer {quoted}", f"X-Forwarded-For: {quoted}, {quoted}"):
                wire = await Wire.open(server.url, "/?name=bob", token, more)
                wire.send_frame(TEXT, b"hi")
                await wire.read_frame()
            wire = await Wire.connect(server.url)
            wire.send(f"GET /{HOSTILE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await wire.read_to_end()
            wire = await Wire.open(server.url, "/?name=ann", token)
            wire.send_frame(TEXT, b"hi")
            await wire.read_frame()
            await Wire.cut_all()

        asyncio.run(part())
        assert server.signal(signal.SIGTERM) == 0
        assert server.errors.isascii() and server.errors.replace("\n", "").isprintable()
        assert "evil" not in server.errors and "s3cret" not in server.errors


def test_nothing_hostile_reaches_the_terminal() -> None:
    """The response of a server that rejects a client is shown without its escapes."""

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
        r"Could not connect to server at ws://127\.0\.0\.1:\d+/ \(evil\)\n", done.errors
    )


def test_messages_before_invalid_utf8_are_received() -> None:
    """Of messages that arrive together, those before an invalid one count, and none after it."""
    with running(*INSTALLED, "start", "--port", "0") as server:

        async def part() -> None:
            bob = await Wire.open(server.url, "/?name=bob")
            ann = await Wire.open(server.url, "/?name=ann")
            assert await bob.read_frame() == (TEXT, b"ann joined the chat")
            texts = (
                b"one",
                "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf".encode(),
                b"a\xff",
                b"no",
            )
            ann.send(b"".join(bytes([0x81, 0x80 | len(text), *bytes(4)]) + text for text in texts))
            seen = b""
            while b"left" not in seen:
                opcode, text = await bob.read_frame()
                assert opcode == TEXT
                seen += text + b"\n"
            assert seen.decode() == "ann: one\nann: zw\xf6lf\nann left the chat\n"
            ann.writer.write_eof()
            closing = await ann.read_to_end()
            assert b"\x03\xefinvalid start byte at position 1" in closing
            await Wire.cut_all()

        asyncio.run(part())
