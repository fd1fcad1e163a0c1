"""The client: it connects, reconnects after a break, and loses no message."""

from __future__ import annotations

import asyncio
import os
import socket
from random import Random
from urllib.parse import urlsplit

import pytest
from client_harness import (
    SHORT_TIMEOUTS,
    RecordingSink,
    deployment,
    error_of,
    member,
    new_client,
    play,
    responding,
    websocket_server,
)
from faults.plan import FaultKind
from faults.proxy import ClientProxy
from websockets.asyncio.server import ServerConnection

from broadcast_server.client.address import parse_address, split_room, with_port
from broadcast_server.client.client import ClientError, ClientTimeouts, ReconnectingClient
from broadcast_server.client.outbox import MAX_UNCONFIRMED
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.codec import encode_json
from broadcast_server.protocol.messages import Error, Message, Welcome

# -- reconnecting --


def test_a_client_receives_its_own_messages_once_and_in_order() -> None:
    """A client receives each of its own messages once, in the order in which it sent them."""

    async def scenario() -> None:
        async with deployment() as (_, url), member(url) as (client, sink):
            sent = [str(number) for number in range(500)]
            for text in sent:
                client.send(text)
            await client.wait_confirmed()
            assert sink.texts == sent

    play(scenario)


def test_broken_connections_lose_and_repeat_no_message() -> None:
    """If connections break repeatedly, every member still receives each message once, in order."""

    async def scenario() -> None:
        async with (
            deployment() as (server, url),
            member(url) as (ann, sink),
            member(url, "bob") as (_, other),
        ):
            await other.until(lambda: other.events)
            sent = [str(number) for number in range(300)]
            for text in sent:
                ann.send(text)
                if int(text) % 50 == 25:
                    await sink.until(lambda text=text: len(sink.texts) > int(text) - 20)  # type: ignore[misc]
                    server.abort()
            await ann.wait_confirmed()
            await other.until(lambda: len(other.texts) == len(sent))
            assert sink.texts == sent
            assert other.texts == sent
            assert len(sink.notes) >= 5

    play(scenario)


def test_messages_sent_while_disconnected_are_sent_on_reconnect() -> None:
    """Messages sent while the server is down reach the next server at that address."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            port = int(url.rpartition(":")[2].rstrip("/"))
            context = member(url)
            client, sink = await context.__aenter__()
            client.send("before")
            await client.wait_confirmed()
        await sink.until(lambda: any("refused" in note for note in sink.notes))
        assert sink.notes[0].startswith("the server is stopping, trying again in 0.0")
        client.send("while away")
        client.send("and more")
        async with deployment(port):
            await client.wait_confirmed()
            assert sink.texts == ["before", "while away", "and more"]
            welcomes = [event for event in sink.events if isinstance(event, Welcome)]
            assert [welcome.recovered for welcome in welcomes] == [True, False]
            await context.__aexit__(None, None, None)

    play(scenario)


def test_a_client_replaced_by_its_own_late_attempt_reconnects() -> None:
    """If an attempt that the client gave up takes over its session later, the client reconnects."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            parts = urlsplit(url)
            link = ClientProxy(lambda: (str(parts.hostname), parts.port or 0), Random(1))
            async with member(await link.listen(), handshake=0.5) as (ann, sink):
                ann.send("before")
                await ann.wait_confirmed()
                # The connection breaks, and the next attempt is delayed beyond its timeout.
                await link.inject(FaultKind.LATE, 1.0)
                await sink.until(lambda: "no answer in time, trying again in 0.0 s" in sink.notes)
                await sink.until(lambda: sink.notes[-1].startswith("a newer connection"))
                ann.send("after")
                await ann.wait_confirmed()
                assert sink.texts == ["before", "after"]
            await link.close()

    play(scenario)


def test_a_replay_is_invisible_to_other_members() -> None:
    """A client that asks for older messages misses none, and other members see nothing of it."""

    async def scenario() -> None:
        async with deployment() as (_, url), member(url) as (ann, sink):
            await sink.until(lambda: sink.events)
            async with member(url, "bob") as (_, other):
                await other.until(lambda: other.events)
                for text in "abc":
                    ann.send(text)
                await ann.wait_confirmed()
                ann.show_again(2)
                await sink.until(lambda: sink.texts == [*"abcbc"])
                ann.send("d")
                await ann.wait_confirmed()
                ann.show_again(99)
                await sink.until(lambda: sink.texts == [*"abcbcdabcd"])
                ann.send("e")
                await other.until(lambda: other.texts == [*"abcde"])
                assert {type(event) for event in other.events} == {Welcome, Message}
                assert sink.notes == []

    play(scenario)


def test_delays_grow_and_are_jittered_from_zero() -> None:
    """The delay is random between 0 and a limit that doubles with each attempt up to a maximum."""
    timeouts = ClientTimeouts(first_delay=1, max_delay=15)
    for attempt, limit in ((0, 1), (1, 2), (3, 8), (4, 15), (10**6, 15)):
        delays = [timeouts.delay(attempt) for _ in range(1000)]
        assert 0 <= min(delays) < limit / 10
        assert limit * 0.9 < max(delays) <= limit


def test_a_full_window_makes_a_sender_wait() -> None:
    """If `MAX_UNCONFIRMED` messages lack their echo, `wait_for_window` waits for an echo."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            client, sink = new_client(url), RecordingSink()
            for number in range(MAX_UNCONFIRMED):
                await client.wait_for_window()
                client.send(str(number))
            waiting = asyncio.ensure_future(client.wait_for_window())
            await asyncio.sleep(0)
            assert not waiting.done()
            running = asyncio.ensure_future(client.run(sink))
            await run_within(waiting, 5)
            await client.wait_confirmed()
            assert len(sink.texts) == MAX_UNCONFIRMED
            client.leave()
            await running

    play(scenario)


# -- leaving --


async def check_leaves_at_once(url: str, timeouts: ClientTimeouts) -> None:
    """Check that `leave` ends a client that is still connecting to *url*."""
    client = new_client(url, timeouts)
    running = asyncio.ensure_future(client.run(RecordingSink()))
    done, _ = await asyncio.wait({running}, timeout=0.05)
    assert not done
    client.leave()
    await run_within(running, 1)


def test_it_leaves_while_it_connects() -> None:
    """`leave` ends a client that waits for the server's handshake."""

    async def scenario() -> None:
        async with responding(None) as url:
            await check_leaves_at_once(url, ClientTimeouts(handshake=60))

    play(scenario)


def test_it_leaves_while_it_looks_up_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """`leave` ends a client that waits for a host's look-up, which itself cannot be cancelled."""
    reader, writer = os.pipe()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: os.read(reader, 1))

    async def scenario() -> None:
        await check_leaves_at_once("ws://slow.example/", ClientTimeouts(handshake=60))

    play(scenario)
    os.write(writer, b".")
    os.close(writer)


def test_it_leaves_between_two_attempts() -> None:
    """`leave` ends a client that waits before its next attempt."""

    async def scenario() -> None:
        async with deployment() as (server, url):
            client = new_client(url, ClientTimeouts(first_delay=3600, max_delay=3600))
            sink = RecordingSink()
            running = asyncio.ensure_future(client.run(sink))
            await sink.until(lambda: client.has_been_live or sink.events)
            client.send("in")
            await client.wait_confirmed()
            server.abort()
            await sink.until(lambda: sink.notes)
            client.leave()
            await run_within(running, 1)

    play(scenario)


# -- connecting --


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (None, "no answer in time"),
        (b"", "the server closed the connection, does the port use TLS (wss://)?"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no web server is there"),
        (b"\0" * 100_000, "no web server is there"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            ("HTTP status 200, but not the response of a broadcast server, or does a proxy remove"
             " the Upgrade header?"),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\nThis is a broadcast server.",
            ("a broadcast server is there, but a proxy before it removes the Upgrade header of the"
            " request) (let the proxy pass on the headers Upgrade and Connection"),
        ),
        (
            b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\n\r\n",
            ("the response has status 101 but no valid Upgrade header, a proxy may remove it)"
            " (let the proxy pass on the headers Upgrade and Connection"),
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "no broadcast server is there: HTTP status 404",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot today", "not today"),
        (b"HTTP/1.1 421 Misdirected\r\nContent-Length: 8\r\n\r\nnot mine", "not mine"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://example.org/\r\nContent-Length: 0\r\n\r\n",
            "the server redirects to https://example.org/, use that address",
        ),
        (
            b"HTTP/1.1 308 Moved\r\nLocation: //example.org/x\r\nContent-Length: 0\r\n\r\n",
            "the server redirects to ws://example.org/x, use that address",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.2:9/\r\nContent-Length: 0\r\n\r\n",
            "the server redirects to ws://127.0.0.2:9/, use that address",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
            "no broadcast server is there: HTTP status 301",
        ),
    ],
    ids=["silence", "end", "ssh", "zeros", "http", "upgrade", "101", "404", "403", "421",
         "https", "relative", "elsewhere", "no address"],
)  # fmt: skip
def test_another_kind_of_server(response: bytes | None, reason: str) -> None:
    """If another kind of server listens at the address, the error says so in a few words."""

    async def scenario() -> None:
        async with responding(response) as url:
            assert await error_of(url) == f"Could not connect to server at {url} ({reason})"

    play(scenario)


def test_tls_to_a_server_that_responds_without_tls() -> None:
    """A server that responds without TLS is told apart from one that is not running."""

    async def scenario() -> None:
        async with responding(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
            # With the short timeouts, creating the TLS context alone could take too long.
            error = await error_of(url.replace("ws:", "wss:"), ClientTimeouts())
            assert "(TLS failed: " in error

    play(scenario)


def test_tls_to_a_standalone_server_without_tls() -> None:
    """If the server closes the connection during the TLS handshake, the error says so."""

    async def scenario() -> None:
        async with deployment() as (_, plain_url):
            url = plain_url.replace("ws:", "wss:")
            reason = "TLS failed: the server closed the connection, does it use TLS?"
            error = await error_of(url, ClientTimeouts())
            assert error == f"Could not connect to server at {url} ({reason})"

    play(scenario)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ws://127.0.0.1:1/", "connection refused, is it running?"),
        ("ws://a..b:1/", "unknown host"),
    ],
)
def test_no_server_is_there(url: str, reason: str) -> None:
    """A port where nothing listens is told apart from a host that cannot exist."""

    async def scenario() -> None:
        assert await error_of(url) == f"Could not connect to server at {url} ({reason})"

    play(scenario)


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that the resolver does not know is reported as unknown."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    async def scenario() -> None:
        assert (await error_of("ws://nowhere.example/")).endswith("(unknown host)")

    play(scenario)


# -- other WebSocket servers --


@pytest.mark.parametrize(
    "frame",
    ["hello", "[]", '{"type":"message"}', "", b"\0\1", '{"type":"pong"}\n{"type":"message",'],
    ids=["text", "list", "no message", "empty", "binary", "half"],
)
def test_a_server_that_violates_the_protocol(frame: str | bytes) -> None:
    """If a server accepts our subprotocol but does not follow it, the client gives up."""

    async def handler(connection: ServerConnection) -> None:
        await connection.send(frame)
        await connection.wait_closed()

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            error = f"{url} sent an invalid event, it is not a broadcast server"
            assert await error_of(url) == error

    play(scenario)


def test_a_server_without_our_subprotocol() -> None:
    """A WebSocket server that does not accept our subprotocol is not a broadcast server."""

    async def scenario() -> None:
        async with websocket_server(lambda connection: connection.wait_closed(), None) as url:
            reason = "no broadcast server is there: the WebSocket server selects no subprotocol"
            assert await error_of(url) == f"Could not connect to server at {url} ({reason})"

    play(scenario)


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (4503, "you were removed", "you were removed"),
        (4500, "", "the room has a bad name"),
        (1009, "too big", "too big"),
    ],
)
def test_final_close_codes(code: int, reason: str, error: str) -> None:
    """A final close code ends the client with its reason or, without one, the error before it."""

    async def handler(connection: ServerConnection) -> None:
        if not reason:
            await connection.send(encode_json(Error("bad_room", error)))
        await connection.close(code, reason)

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            assert await error_of(url) == error

    play(scenario)


def test_the_token_is_sent_with_every_connection() -> None:
    """A client with a token sends it in every handshake, also when it reconnects."""
    sent: list[str | None] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        sent.append(connection.request.headers.get("Authorization"))
        await connection.close(4001 if len(sent) == 1 else 4500, "enough")

    async def scenario(token: str | None) -> None:
        async with websocket_server(handler) as url:
            client = ReconnectingClient(
                url, {}, ClientSession(None, None), timeouts=SHORT_TIMEOUTS, token=token
            )
            with pytest.raises(ClientError, match="enough"):
                await client.run(RecordingSink())

    play(lambda: scenario("s3cret"))
    assert sent == ["Bearer s3cret"] * 2
    play(lambda: scenario(None))
    assert sent[2:] == [None]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4001, 4008, 4013])
def test_close_codes_that_are_not_final(code: int) -> None:
    """After a close code that is not final, the client reconnects."""
    connections: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.close(code if len(connections) < 3 else 4503, "enough")

    async def scenario() -> None:
        async with websocket_server(handler) as url:
            assert await error_of(url) == "enough"
            assert len(connections) == 3

    play(scenario)


# -- addresses --


@pytest.mark.parametrize(
    ("typed", "url", "query"),
    [
        ("ws://h:1/", "ws://h:1/", {}),
        ("h:1", "ws://h:1/", {}),
        ("h", "ws://h:8765/", {}),
        ("h:", "ws://h:8765/", {}),
        ("h/chat/?room=ops", "ws://h:8765/chat/", {"room": "ops"}),
        ("[::1]", "ws://[::1]:8765/", {}),
        ("[::1]:1", "ws://[::1]:1/", {}),
        ("ws://h", "ws://h/", {}),
        ("wss://h/", "wss://h/", {}),
        (
            "https://h/chat/?room=ops&name=a%20b#top",
            "wss://h/chat/",
            {"room": "ops", "name": "a b"},
        ),
    ],
)
def test_addresses_that_people_paste(typed: str, url: str, query: dict[str, str]) -> None:
    """The URL of a WebSocket or a page, and a host with or without a port, are accepted."""
    assert parse_address(typed, 8765) == (url, query)


@pytest.mark.parametrize(
    ("url", "begin", "room"),
    [
        ("ws://h/", "ws://h/", None),
        ("ws://h/ops", "ws://h/", "ops"),
        ("ws://h/chat/", "ws://h/chat/", None),
        ("ws://h/chat/My%20Room", "ws://h/chat/", "my-room"),
        ("ws://h/chat/%23ops", "ws://h/chat/", "ops"),
        ("ws://h/%20", "ws://h/%20", None),
    ],
)
def test_a_room_at_the_end_of_an_address(url: str, begin: str, room: str | None) -> None:
    """What follows the last slash of an address is a room; a prefix of a proxy ends with one."""
    assert split_room(url) == (begin, room)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("fe80::1", "an IPv6 address is in brackets: [fe80::1]"),
        ("ws://::1/", "an IPv6 address is in brackets: [::1]"),
        ("h:99999", "port is 99999, must be 1 to 65535"),
        ("[::1]:x", "port is x, must be 1 to 65535"),
        ("h:٣", "port is ٣, must be 1 to 65535"),
    ],
)
def test_addresses_that_are_explained(typed: str, reason: str) -> None:
    """The error says what is wrong with an address in its own words, not in those of Python."""
    with pytest.raises(ValueError) as raised:
        parse_address(typed)
    assert str(raised.value) == reason


def test_a_public_address_has_no_default_port() -> None:
    """Without a default port, a host stays as it was typed: `--public-url` names a proxy."""
    assert parse_address("h") == ("ws://h/", {})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://h/", "ws://h:80/"),
        ("wss://[::1]/chat/", "wss://[::1]:443/chat/"),
        ("ws://h:/", "ws://h:80/"),
        ("ws://h:8765/", "ws://h:8765/"),
    ],
)
def test_an_address_is_shown_with_its_port(url: str, shown: str) -> None:
    """Errors name the port, also if the address has none."""
    assert with_port(url) == shown


@pytest.mark.parametrize(
    "typed",
    ["", "ftp://h/", "ws:///", "ws://h:x/", "ws://h:0/", "ws://h:65536/", "ws://[::1/",
     "ws://a b/", "ws://me:secret@h/", "ws://h/\udcff"],
)  # fmt: skip
def test_invalid_addresses(typed: str) -> None:
    """An invalid address is rejected with a reason."""
    with pytest.raises(ValueError, match=r"."):
        parse_address(typed)
