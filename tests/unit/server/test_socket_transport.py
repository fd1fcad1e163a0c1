"""The socket transport: it does for a protocol what asyncio's own transport does.

Each test of it runs with both. What is sent is larger than what the system's buffers hold.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from broadcast_server.admission.pending import PendingConnections
from broadcast_server.admission.trusted_proxies import TrustedProxies
from broadcast_server.console.time_limit import run_within
from broadcast_server.server import acceptor
from broadcast_server.server.acceptor import Acceptor
from broadcast_server.server.listen_socket import ConnectionTracker, ListenSocket
from broadcast_server.server.socket_transport import SocketTransport
from broadcast_server.server.transport import MAX_UNSENT_BYTES, OPTIONS_ARE_INHERITED, set_options

LARGE = bytes(range(256)) * 2**15  # 8 MiB
TIMEOUT_S = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its event loop has no add_reader")


class Recorder(asyncio.Protocol):
    """A protocol that records what its transport calls."""

    transport: asyncio.Transport

    def __init__(self, *, keeps_open: bool = False, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.received = b""
        self.error: Exception | None = None
        self._keeps_open = keeps_open
        self._fails = fails
        self._changed = asyncio.Event()

    async def until(self, call: str) -> None:
        """Wait until *call* was made."""
        while call not in self.calls:
            self._changed.clear()
            await run_within(self._changed.wait(), TIMEOUT_S)

    def _note(self, call: str) -> None:
        if self.calls[-1:] != [call]:  # one of several alike
            self.calls.append(call)
        self._changed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.transport = cast(asyncio.Transport, transport)
        self._note("made")

    def data_received(self, data: bytes) -> None:
        """Note it, or fail."""
        self.received += data
        self._note("data")
        if self._fails:
            raise ZeroDivisionError

    def eof_received(self) -> bool:
        """Note it."""
        self._note("eof")
        return self._keeps_open

    def pause_writing(self) -> None:
        """Note it."""
        self._note("pause")

    def resume_writing(self) -> None:
        """Note it."""
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.error = exc
        self._note("lost")


Play = Callable[[Recorder, socket.socket], Awaitable[None]]


@pytest.fixture(params=["asyncio", "ours"])
def run(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Play a part with a connection, whose other end is a blocking socket; return the calls."""

    async def connected(play: Play, recorder: Recorder) -> list[str]:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            peer = socket.create_connection(server.getsockname())
            sock, address = server.accept()
        sock.setblocking(False)
        if request.param == "ours":
            SocketTransport(loop, sock, address).start(recorder)
        else:
            await loop.connect_accepted_socket(lambda: recorder, sock)
        with peer:
            await play(recorder, peer)
            await recorder.until("lost")
        assert sock.fileno() == -1
        return recorder.calls

    def run(play: Play, **options: bool) -> list[str]:
        async def main() -> list[str]:
            return await connected(play, Recorder(**options))

        return asyncio.run(main())

    return run


def receive_all(peer: socket.socket) -> Awaitable[bytes]:
    """Receive everything until the end, in a thread."""

    def receive() -> bytes:
        return b"".join(iter(lambda: peer.recv(2**16), b""))

    return asyncio.get_running_loop().run_in_executor(None, receive)


def test_what_the_socket_does_not_take_is_sent_later(run: Callable[..., list[str]]) -> None:
    """All of it arrives in order, and the protocol is paused meanwhile."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        transport = recorder.transport
        transport.set_write_buffer_limits(2**16)
        assert transport.get_write_buffer_limits() == (2**14, 2**16)
        transport.write(LARGE)
        transport.write(b"and more")
        assert recorder.calls == ["made", "pause"] and transport.get_write_buffer_size() > 2**16
        transport.close()
        assert transport.is_closing()
        assert await receive_all(peer) == LARGE + b"and more"

    assert run(play) == ["made", "pause", "resume", "lost"]


def test_the_end_of_writing_comes_after_what_was_written(run: Callable[..., list[str]]) -> None:
    """The client sees the end after everything, and can still send."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        assert recorder.transport.can_write_eof()
        recorder.transport.writelines([LARGE, b"end"])
        recorder.transport.write_eof()
        assert await receive_all(peer) == LARGE + b"end"
        peer.sendall(b"still here")
        peer.shutdown(socket.SHUT_WR)
        await recorder.until("eof")
        assert recorder.received == b"still here"

    assert run(play) == ["made", "pause", "resume", "data", "eof", "lost"]


def test_a_client_that_sends_nothing_more_still_receives(run: Callable[..., list[str]]) -> None:
    """If the protocol wants it, the connection stays open, and the end is told once."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        peer.shutdown(socket.SHUT_WR)
        await recorder.until("eof")
        recorder.transport.write(b"bye")
        assert await asyncio.get_running_loop().run_in_executor(None, peer.recv, 3) == b"bye"
        recorder.transport.abort()

    assert run(play, keeps_open=True) == ["made", "eof", "lost"]


def test_reading_can_be_paused(run: Callable[..., list[str]]) -> None:
    """What the client sends meanwhile waits in the system, and is read later."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        recorder.transport.pause_reading()
        recorder.transport.pause_reading()
        assert not recorder.transport.is_reading()
        peer.sendall(b"early")
        for _ in range(5):
            await asyncio.sleep(0)
        assert recorder.calls == ["made"]
        recorder.transport.resume_reading()
        recorder.transport.resume_reading()
        await recorder.until("data")
        assert recorder.received == b"early"
        recorder.transport.close()
        recorder.transport.resume_reading()
        assert not recorder.transport.is_reading()

    assert run(play) == ["made", "data", "lost"]


@pytest.mark.parametrize("writes", [False, True], ids=["reading", "writing"])
def test_a_reset_ends_the_connection_once(run: Callable[..., list[str]], writes: bool) -> None:
    """The protocol gets the error, and what it writes from then on is dropped."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        if writes:
            recorder.transport.write(LARGE)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await recorder.until("lost")
        assert isinstance(recorder.error, ConnectionError)
        recorder.transport.write(b"dropped")
        recorder.transport.abort()
        recorder.transport.close()

    assert run(play) == ["made", *(["pause"] if writes else []), "lost"]


def test_a_protocol_that_fails_is_reported_and_cut(run: Callable[..., list[str]]) -> None:
    """An error in it is a bug: the loop's handler gets it, and the client is not left waiting."""
    reported: list[dict[str, Any]] = []

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        peer.sendall(b"x")
        await recorder.until("lost")

    assert run(play, fails=True) == ["made", "data", "lost"]
    assert [type(each["exception"]) for each in reported] == [ZeroDivisionError]


def test_another_protocol_gets_the_rest(run: Callable[..., list[str]]) -> None:
    """The first protocol reads a head, and hands the connection over."""

    async def play(recorder: Recorder, peer: socket.socket) -> None:
        other = Recorder()
        recorder.transport.set_protocol(other)
        assert recorder.transport.get_protocol() is other
        name = recorder.transport.get_extra_info("peername")
        assert name == peer.getsockname()
        assert recorder.transport.get_extra_info("socket").fileno() >= 0
        assert recorder.transport.get_extra_info("cipher", "none") == "none"
        peer.sendall(b"for the other")
        await other.until("data")
        peer.close()
        await other.until("lost")
        recorder.calls += other.calls

    assert run(play) == ["made", "data", "eof", "lost"]


class ShortOfMemory(ListenSocket):
    """A listening socket for which the system has no memory at first."""

    refusals = 1

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, but not the first time."""
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOMEM, "no memory")
        return super().accept()


@pytest.mark.parametrize("kind", [ListenSocket, ShortOfMemory])
def test_connections_are_accepted(
    kind: type[ListenSocket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tracked, and has the options of its listening socket; a shortage delays it."""
    monkeypatch.setattr(acceptor, "RETRY_S", 0.01)
    clients = 3

    async def main() -> None:
        tracker = ConnectionTracker(PendingConnections(9, 9, None), TrustedProxies())
        recorders: list[Recorder] = []
        all_accepted = asyncio.Event()

        def make() -> Recorder:
            recorders.append(Recorder())
            if len(recorders) == clients:
                all_accepted.set()
            return recorders[-1]

        sock = kind(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.tracker = tracker
        sock.bind(("127.0.0.1", 0))
        set_options(sock)
        accepting = Acceptor(sock, make)
        accepting.start(clients)
        peers = [socket.create_connection(sock.getsockname()) for _ in range(clients)]
        for peer in peers:
            peer.sendall(b"x")
        await run_within(all_accepted.wait(), TIMEOUT_S)
        for recorder in recorders:
            await recorder.until("data")
            accepted = recorder.transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if OPTIONS_ARE_INHERITED:
                low = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
                assert low == MAX_UNSENT_BYTES
        address = sock.getsockname()
        accepting.close()
        accepting.close()
        with pytest.raises(ConnectionError):
            socket.create_connection(address)
        for peer in peers:
            peer.close()
        await tracker.close_all(lambda: None)
        for recorder in recorders:
            await recorder.until("lost")

    asyncio.run(main())
