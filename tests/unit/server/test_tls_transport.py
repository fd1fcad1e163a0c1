"""TLS of the server: what strangers and members cost, who gets a handshake, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from certificates import write_pair
from deployments import ANSWER_TIMEOUT_S, INSTALLED
from programs import Running, running, until

from broadcast_server.admission.handshake_slots import MAX_TOTAL, PATIENCE_S, HandshakeSlots
from broadcast_server.console.time_limit import run_within
from broadcast_server.server.api import Timeouts
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from broadcast_server.server.tls import ReloadableCertificate
from broadcast_server.server.tls_transport import MAX_HELLO_BYTES, TLSTransport
from broadcast_server.server.transport import PAUSE_AT_BYTES

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CALLS = 3000
"""A thousand such calls cost 300 MiB with asyncio's own TLS, and 8 without TLS."""

MEMBERS = 200

_LONG_RECORD = b"\x16\x03\x01\x40\x00"
"""The header of the longest record of a handshake."""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(*files)
    return files


@pytest.fixture
def server(pair: tuple[Path, Path]) -> Iterator[Running]:
    """A server with TLS in a process of its own."""
    files = "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])
    with running(*INSTALLED, "start", "--port", "0", "--rate", "0", *files) as process:
        assert process.url
        yield process
        assert process.signal(signal.SIGTERM) == 0
        assert "Traceback" not in process.errors and "rror" not in process.errors


@pytest.fixture
def trusting(pair: tuple[Path, Path]) -> ssl.SSLContext:
    """The settings of a client that trusts the server."""
    return ssl.create_default_context(cafile=str(pair[0]))


def _call(server: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.port)), ANSWER_TIMEOUT_S)


def _peak(server: Running) -> int:
    """Return the largest resident memory that the process has had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]  # always there


def _get(path: str, host: str = "localhost") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def _join(name: str) -> bytes:
    """Return the handshake of a WebSocket."""
    lines = (
        f"GET /?name={name} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _hello(context: ssl.SSLContext) -> bytes:
    """Return the first bytes of a handshake."""
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


# -- what they cost --


@linux_only
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["nothing", "half a hello", "a hello"])
def test_calls_cost_little(server: Running, trusting: ssl.SSLContext, share: float) -> None:
    """Clients that connect and disconnect, before or amid the handshake, leave no memory in use."""
    hello = _hello(trusting)
    sent = hello[: int(share * len(hello))]
    with trusting.wrap_socket(_call(server), server_hostname="localhost") as first:
        first.sendall(_get("/healthz"))
        first.recv(1000)
    before = _peak(server)
    for _ in range(CALLS):
        with _call(server) as client:
            client.sendall(sent)
    with trusting.wrap_socket(_call(server), server_hostname="localhost") as last:
        last.sendall(_get("/healthz"))
        assert last.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert _peak(server) - before < 60 * 2**20


@linux_only
def test_a_member_costs_little(server: Running, trusting: ssl.SSLContext) -> None:
    """A member that is connected with TLS and idle costs less than 60 KiB."""
    with ExitStack() as stack:

        def join(name: str) -> None:
            plain = stack.enter_context(_call(server))
            client = stack.enter_context(trusting.wrap_socket(plain, server_hostname="localhost"))
            client.sendall(_join(name))
            assert client.recv(4096).startswith(b"HTTP/1.1 101 ")

        for number in range(20):
            join(f"first{number}")
        before = server.rss
        for number in range(MEMBERS):
            join(f"m{number}")
        assert server.rss - before < MEMBERS * 60 * 2**10


# -- who gets a handshake --


def test_strangers_cannot_use_up_the_handshakes(server: Running, trusting: ssl.SSLContext) -> None:
    """A client joins although strangers hold all handshakes, and go on for ever."""
    with ExitStack() as stack:
        for number in range(MAX_TOTAL + 20):
            plain = stack.enter_context(_call(server))
            if number % 2:
                plain.sendall(_hello(trusting))
            else:
                stack.enter_context(trusting.wrap_socket(plain, server_hostname="localhost"))
        with trusting.wrap_socket(_call(server), server_hostname="localhost") as honest:
            honest.sendall(_join("honest"))
            assert honest.recv(4096).startswith(b"HTTP/1.1 101 ")
        text = f"{MAX_TOTAL} TLS handshakes do not go on, the oldest are closed for new ones"
        until(lambda: text in server.errors)
        assert server.errors.count("do not go on") == 1


async def _visit(port: int, trusting: ssl.SSLContext) -> bytes:
    """Return the response to a request over TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
    )
    writer.write(_get("/healthz"))
    response = await reader.read()
    writer.close()
    return response


def test_what_waits_is_not_read(pair: tuple[Path, Path]) -> None:
    """Without a slot a connection keeps 2 KiB at most, and a longer ClientHello is still served."""
    trusting = ssl.create_default_context(cafile=str(pair[0]))
    trusting.set_alpn_protocols([f"{number:0200}" for number in range(40)])
    assert len(_hello(trusting)) > 4 * MAX_HELLO_BYTES - 500

    async def part() -> None:
        server = Server(Settings(port=0), certificate=ReloadableCertificate(*pair))
        await server.listen()
        handshakes = server.listener._handshakes
        assert handshakes is not None
        handshakes._slots = HandshakeSlots(1, 1, patience=60)
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        _, holder = await asyncio.open_connection("127.0.0.1", port)
        holder.write(_hello(trusting))
        while len(handshakes) < 1:  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0)
        strangers = []
        for record in (_LONG_RECORD, b"\x16\x03\x01\xff\xff"):
            strangers.append((await asyncio.open_connection("127.0.0.1", port))[1])
            strangers[-1].write(record + bytes(60_000))
        visits = [asyncio.ensure_future(_visit(port, trusting)) for _ in range(3)]
        while len(handshakes) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting = list(handshakes._connections.values())[1:]
        for _ in range(10):  # what is read now would be kept
            await asyncio.sleep(0)
        for each in waiting:
            assert isinstance(each, TLSTransport)
            assert len(each._hello) == MAX_HELLO_BYTES
        for writer in (holder, *strangers):
            writer.transport.abort()
        responses = await run_within(asyncio.gather(*visits), ANSWER_TIMEOUT_S)
        assert all(each.startswith(b"HTTP/1.1 200 ") for each in responses)
        await server.stop()

    asyncio.run(part())


def test_an_endless_hello_is_cut(pair: tuple[Path, Path]) -> None:
    """A client that has a slot sends no more than one record's length before the handshake ends."""

    async def part() -> None:
        settings = Settings(port=0, timeouts=Timeouts(handshake=10 * ANSWER_TIMEOUT_S))
        server = Server(settings, certificate=ReloadableCertificate(*pair))
        await server.listen()
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # OpenSSL waits for the rest: the message is 128,000 bytes long, over several records.
        writer.write(_LONG_RECORD + b"\x01\x01\xf4\x00\x03\x03" + bytes(16378))
        writer.write(_LONG_RECORD + bytes(100))
        with suppress(ConnectionResetError):
            assert await run_within(reader.read(), ANSWER_TIMEOUT_S) == b""
        writer.close()
        await server.stop()

    asyncio.run(part())


def test_a_crowd_gets_in(pair: tuple[Path, Path]) -> None:
    """All of a crowd that connects at once get a response, more than can be served at once."""
    trusting = ssl.create_default_context(cafile=str(pair[0]))

    async def part() -> None:
        server = Server(Settings(port=0), certificate=ReloadableCertificate(*pair))
        await server.listen()
        assert server.listener._handshakes is not None
        server.listener._handshakes._slots = HandshakeSlots(4, 4, patience=60)
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        responses = await asyncio.gather(*(_visit(port, trusting) for _ in range(50)))
        assert all(each.startswith(b"HTTP/1.1 200 ") for each in responses)
        await server.stop()

    asyncio.run(part())


def test_a_member_has_no_slot(pair: tuple[Path, Path]) -> None:
    """A slot is free again after the first request, however long its connection lasts."""

    async def part() -> None:
        server = Server(Settings(port=0), certificate=ReloadableCertificate(*pair))
        await server.listen()
        handshakes = server.listener._handshakes
        assert handshakes is not None
        trusting = ssl.create_default_context(cafile=str(pair[0]))
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
        )
        assert len(handshakes) == 1
        writer.write(_join("bob"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert len(handshakes) == 0
        writer.transport.abort()
        await server.stop()

    asyncio.run(part())


def test_a_handshake_that_waits_times_out(pair: tuple[Path, Path]) -> None:
    """The time for a handshake includes the time in which it waits for a slot."""

    async def part() -> None:
        settings = Settings(port=0, timeouts=Timeouts(handshake=PATIENCE_S / 4))
        server = Server(settings, certificate=ReloadableCertificate(*pair))
        await server.listen()
        trusting = ssl.create_default_context(cafile=str(pair[0]))
        port = int(server.url.rpartition(":")[2].rstrip("/"))
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_TOTAL + 1)]
        for _, writer in streams:
            writer.write(_hello(trusting))
        for reader, writer in streams:
            with suppress(ConnectionResetError):  # it is closed before its hello was read
                await run_within(reader.read(), ANSWER_TIMEOUT_S)
            writer.close()
        assert server.listener._handshakes is not None
        assert len(server.listener._handshakes) == 0
        await server.stop()

    asyncio.run(part())


# -- the handshake and the end, byte by byte --


class _Client:
    """A client whose TLS can be halted at any byte."""

    def __init__(self, server: Running, context: ssl.SSLContext) -> None:
        self.socket = _call(server)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake_hands(self) -> None:
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                self.receive()
            else:
                return self.flush()

    def flush(self, step: int = 2**20) -> None:
        data = self.outgoing.read()
        for start in range(0, len(data), step):
            self.socket.sendall(data[start : start + step])

    def receive(self) -> None:
        data = self.socket.recv(2**16)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def read_to_end(self) -> bytes:
        """Return what the server sends until its close_notify. Raises SSLEOFError without one."""
        received = b""
        while True:
            try:
                data = self.session.read(2**16)
            except ssl.SSLZeroReturnError:
                return received
            except ssl.SSLWantReadError:
                self.receive()
            else:
                if not data:
                    return received
                received += data


def test_a_handshake_in_single_bytes(server: Running, trusting: ssl.SSLContext) -> None:
    """A handshake may arrive in any pieces, and the request together with its last one."""
    client = _Client(server, trusting)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client.socket:
        with pytest.raises(ssl.SSLWantReadError):
            client.session.do_handshake()
        client.flush(step=1)
        while True:
            client.receive()
            try:
                client.session.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        client.session.write(_get("/healthz"))
        client.flush()
        assert client.read_to_end().endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_server_ends_the_session(
    server: Running, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """After a response the client gets a close_notify: nothing was cut off."""
    trusting.minimum_version = trusting.maximum_version = version
    client = _Client(server, trusting)
    with client.socket:
        client.shake_hands()
        client.session.write(_get("/healthz"))
        client.flush()
        assert client.read_to_end().endswith(b"\r\n\r\nok\n")


def test_a_client_that_ends_its_half_gets_the_response(
    server: Running, trusting: ssl.SSLContext
) -> None:
    """A client that sends a request and its close_notify at once still gets the response."""
    client = _Client(server, trusting)
    with client.socket:
        client.shake_hands()
        body = b"hello"
        head = f"POST /?name=ci HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        client.session.write(head.encode() + body)
        with pytest.raises(ssl.SSLWantReadError):
            client.session.unwrap()
        client.flush()
        assert b'"name":"ci"' in client.read_to_end()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + bytes(MAX_HELLO_BYTES),
        b"\x15\x03\x03\x00\x02\x02\x00",
        b"\x80\x2e\x01\x03\x01",
    ],
    ids=["HTTP", "no hello", "a long record", "an alert", "SSL 2"],
)
def test_what_is_no_handshake_is_cut(server: Running, sent: bytes) -> None:
    """Whatever does not begin a handshake is cut at once, without a line in the log."""
    with _call(server) as client:
        client.sendall(sent)
        try:
            assert len(client.recv(100)) <= 7  # OpenSSL may answer with an alert
        except ConnectionResetError:
            pass
    assert len(server.errors.splitlines()) == 1


def test_garbage_in_a_session_is_cut(server: Running, trusting: ssl.SSLContext) -> None:
    """A record that cannot be decrypted ends the connection, and the member leaves."""
    client = _Client(server, trusting)
    with client.socket:
        client.shake_hands()
        client.session.write(_join("bob"))
        client.flush()
        until(lambda: "joined lobby" in server.errors)
        client.socket.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        until(lambda: "left lobby" in server.errors)
        while client.socket.recv(2**16):
            pass


def test_a_member_that_reads_slowly_gets_everything(
    server: Running, trusting: ssl.SSLContext
) -> None:
    """What a member with TLS cannot take yet waits, and nothing is lost or out of order."""
    count, text = 3000, "x" * 1000

    async def part() -> None:
        async def join(name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            stream = await asyncio.open_connection(
                "127.0.0.1", int(server.port), ssl=trusting, server_hostname="localhost"
            )
            stream[1].write(_join(name))
            assert (await stream[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            return stream

        slow, slow_writer = await join("slow")
        slow_writer.transport.pause_reading()  # type: ignore[attr-defined]
        _, writer = await join("fast")
        for first in range(0, count, 100):
            lines = "\n".join(f"{number} {text}" for number in range(first, first + 100)).encode()
            writer.write(b"\x81\xff" + len(lines).to_bytes(8, "big") + bytes(4) + lines)
            await writer.drain()
        slow_writer.transport.resume_reading()  # type: ignore[attr-defined]
        received = b""
        while f"fast: {count - 1} {text}".encode() not in received:
            received += await run_within(slow.read(2**20), ANSWER_TIMEOUT_S)
        numbers = [int(each) for each in re.findall(rb"fast: (\d+) x", received)]
        assert numbers == list(range(count))
        assert len(received) > 10 * PAUSE_AT_BYTES
        for each in (writer, slow_writer):
            each.transport.abort()

    asyncio.run(part())
