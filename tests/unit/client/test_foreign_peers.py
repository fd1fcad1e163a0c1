"""Peers that are no broadcast server: `connect`, `send` and `run` say the same of each.

Where they differ, `Peer` has the reason.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Thread

import pytest
from client_harness import SHORT_TIMEOUTS, RecordingSink, new_client, play

from broadcast_server.cli.run import Reporter
from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.target import Target

TIMEOUTS = replace(SHORT_TIMEOUTS, handshake=10.0)
CLOSED, NO_WEB, INVALID = (
    "the server closed the connection",
    "no web server is there",
    "the server's response is not valid HTTP",
)
FOREIGN = "HTTP status {}, but not the response of a broadcast server"
OTHER = "no broadcast server is there: HTTP status {}"
REDIRECT = "the server redirects to {}, use that address"
TLS_HINT = ", does the port use TLS (wss://)?"
UPGRADE_HINT = ", or does a proxy remove the Upgrade header?"


def response(status: object, *lines: str, body: str = "") -> bytes:
    """Return an HTTP response."""
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, f"Content-Length: {len(body)}"])
    return f"{head}\r\n\r\n{body}".encode()


@dataclass(frozen=True)
class Peer:
    """What a server sends to any request before it closes (None: a reset), and what is said."""

    sends: bytes | None
    reason: str
    """Of all three commands. URL stands for the server's address."""
    connect_hint: str = ""
    """What `connect` adds: it speaks to a person, and asks for an upgrade."""
    connect_reason: str = ""
    """The reason of `connect` if it is another one, with *why*."""
    why: str = ""
    retried: bool = False
    """Whether another attempt may succeed: `connect` reconnects, and so do the others."""
    sent_again: bool = False
    """Whether `send` and `run` try again, and `connect` gives up: they retry until their time is
    over, as for a server that is away; `connect` shows a person at once that it cannot join."""
    sure: bool = True
    """Whether the message was certainly not published."""


PEERS = {
    "SSH": Peer(b"SSH-2.0-OpenSSH_9.9\r\n", NO_WEB),
    "SMTP": Peer(b"220 mail.example.org ESMTP\r\n", NO_WEB),
    "zeros": Peer(b"\0" * 100_000, NO_WEB),
    "HTTP/2 settings": Peer(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80", NO_WEB),
    "a TLS alert": Peer(b"\x15\x03\x01\x00\x02\x02\x46", NO_WEB),
    "no byte": Peer(b"", CLOSED + TLS_HINT, sent_again=True, sure=False),
    "a reset": Peer(None, CLOSED + TLS_HINT, sent_again=True, sure=False),
    "a piece": Peer(b"HTT", CLOSED, sent_again=True, sure=False),
    "a status line": Peer(b"HTTP/1.1 404 X\r\n", CLOSED, sent_again=True, sure=False),
    "a head": Peer(
        b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\n1", CLOSED, sent_again=True, sure=False
    ),
    "100 only": Peer(b"HTTP/1.1 100 Continue\r\n\r\n", CLOSED, sent_again=True, sure=False),
    "part of 100": Peer(b"HTTP/1.1 100 Continue\r\n", CLOSED, sent_again=True, sure=False),
    "103 only": Peer(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", CLOSED, sent_again=True, sure=False
    ),
    "100, then 404": Peer(b"HTTP/1.1 100 X\r\n\r\n" + response(404), OTHER.format(404)),
    "103 twice, then 404": Peer(
        b"HTTP/1.1 103 X\r\nLink: </x>\r\n\r\n" * 2 + response(404), OTHER.format(404)
    ),
    "100 without end": Peer(b"HTTP/1.1 100 X\r\n\r\n" * 9000, INVALID, sure=False),
    "a status that is no number": Peer(b"HTTP/1.1 two\r\n\r\n", INVALID, sure=False),
    "status 99": Peer(response("099"), INVALID, sure=False),
    "status 600": Peer(response(600), INVALID, sure=False),
    "HTTP/2 in words": Peer(b"HTTP/2 200 OK\r\n\r\n", INVALID, sure=False),
    "too many headers": Peer(response(200, *["A: 1"] * 200), INVALID, sure=False),
    "too long a header": Peer(response(200, "A: " + "x" * 70_000), INVALID, sure=False),
    "a line that is no header": Peer(
        response(404, "no colon"),
        OTHER.format(404),
        connect_reason=INVALID,
        why="http.client skips what is no header",
    ),
    "HTTP/1.0": Peer(b"HTTP/1.0 404 Not Found\r\n\r\n", OTHER.format(404)),
    "101 without a header": Peer(
        b"HTTP/1.1 101 X\r\n\r\n",
        OTHER.format(101),
        connect_reason="the response has status 101 but no valid Upgrade header, a proxy may remove"
        " it) (let the proxy pass on the headers Upgrade and Connection",
        why="only `connect` asks for 101",
    ),
    "101 without a key": Peer(
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        OTHER.format(101),
        connect_hint=" without a valid handshake",
    ),
    "200": Peer(response(200, body="hi"), FOREIGN.format(200), UPGRADE_HINT, sure=False),
    "204": Peer(response(204), FOREIGN.format(204), UPGRADE_HINT, sure=False),
    "a broadcast server behind a proxy": Peer(
        response(200, body="This is a broadcast server."),
        FOREIGN.format(200),
        connect_reason="a broadcast server is there, but a proxy before it removes the Upgrade"
        " header of the request) (let the proxy pass on the headers Upgrade and Connection",
        why="such a proxy leaves the request of `send` as it is, and the server would take it",
        sure=False,
    ),
    "301 without an address": Peer(response(301), OTHER.format(301)),
    "301 to another server": Peer(
        response(301, "Location: https://example.org/"), REDIRECT.format("https://example.org/")
    ),
    "308 to where it is": Peer(response(308, "Location: /x"), REDIRECT.format("URLx")),
    "304": Peer(b"HTTP/1.1 304 X\r\n\r\n", OTHER.format(304)),
    "400": Peer(response(400, "Content-Type: text/plain", body="bad"), "bad"),
    "401 as HTML": Peer(response(401, "Content-Type: text/html", body="bad"), OTHER.format(401)),
    "404": Peer(response(404), OTHER.format(404)),
    "426": Peer(response(426), OTHER.format(426)),
    "429": Peer(response(429), "HTTP status 429", retried=True),
    "500": Peer(response(500), "HTTP status 500", retried=True, sure=False),
    "501": Peer(response(501), OTHER.format(501)),
    "503": Peer(response(503, body="busy"), "busy", retried=True, sure=False),
    "505": Peer(response(505), OTHER.format(505)),
}


@contextmanager
def running(
    peer: Peer, heads: list[bytes] | None = None, at_chat: bytes | None = None
) -> Iterator[str]:
    """The *peer*, as a server; yields its URL.

    The requests go to *heads*. The path /chat/ has the response *at_chat*, if that is given.
    """

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):  # shut down: the test is over
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += client.recv(65536)
                    if peer.sends is None:
                        linger = struct.pack("ii", 1, 0)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        continue
                    if heads is not None:
                        heads.append(request)
                    client.sendall(
                        at_chat if at_chat is not None and b" /chat/" in request else peer.sends
                    )
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        assert not thread.is_alive()


class LeavingSink(RecordingSink):
    """Has its *client* leave at the first notice."""

    def __init__(self, client: ReconnectingClient) -> None:
        super().__init__()
        self._client = client

    def note(self, text: str) -> None:
        """Record a notice, and leave."""
        super().note(text)
        self._client.leave()


async def connect(url: str) -> tuple[str, bool]:
    """Return what `connect` says of the server, and whether it tries again."""
    client = new_client(url, TIMEOUTS)
    sink = LeavingSink(client)
    try:
        await client.run(sink)
    except ClientError as error:
        return str(error), False
    return sink.notes[0].partition(", trying again in")[0], True


def send(url: str) -> tuple[str, bool]:
    """Return what `send` says of the server, and whether it tries again."""
    notes: list[str] = []
    publisher = HTTPPublisher(Target(url, {}, None, None, None), "ci", "lobby", note=notes.append)
    publisher.finish_within(0.3)
    with pytest.raises(PublishFailed) as failed:
        publisher.publish("hi")
    return str(failed.value), bool(notes)


def run(url: str) -> str:
    """Return what `run` says of the server."""
    reporter = Reporter(
        lambda: HTTPPublisher(Target(url, {}, None, None, None), "ci", "lobby"),
    )
    reporter.report("started")
    return reporter.finish(0.3)


@pytest.mark.parametrize("name", PEERS)
def test_all_commands_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three have the same words, and try again if one does; or there is a reason why not."""
    monkeypatch.setattr("broadcast_server.client.publisher.MAX_RETRY_S", 0.02)
    peer = PEERS[name]

    async def scenario() -> None:
        results.append(await connect(url))

    results: list[tuple[str, bool]] = []
    with running(peer) as url:
        play(scenario)
        said_by_run = run(url)
        results.append(send(url))
    reason = peer.reason.replace("URL", url)
    where = f"Could not connect to server at {url} ("
    # A server that speaks no HTTP cannot have been given the message: nothing was connected to.
    plain = f"{where}{reason})" if reason == NO_WEB else reason
    words = "not sent: " if peer.sure else "perhaps not sent: "
    assert results[1] == (words + plain, peer.retried or peer.sent_again)
    assert said_by_run == plain
    if peer.retried:
        assert results[0] == (reason, True)
    else:
        text = peer.connect_reason or reason + peer.connect_hint
        assert results[0] == (f"{where}{text})", False)
    assert bool(peer.connect_reason) == bool(peer.why)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_on_the_same_server(status: int) -> None:
    """`send` follows, as `connect` does, a redirect to another path of the server."""
    moved = response(status, "Location: ../chat/")
    heads: list[bytes] = []
    accepted = b'{"seq":1,"name":"ci","room":"lobby","count":0}'
    taken = response(200, body=accepted.decode())
    with running(Peer(moved, ""), heads, taken) as url:
        notes: list[str] = []
        publisher = HTTPPublisher(Target(url, {}, None, None, None), "ci", None, note=notes.append)
        publisher.finish_within(10)
        assert publisher.publish("hi").line == accepted.decode()
    assert notes == []
    paths = [head.split(b" ")[1].partition(b"?") for head in heads]
    assert [path for path, _, _ in paths] == [b"/", b"/chat/"]
    assert paths[0][2] == paths[1][2]  # the same id: it is one message
