"""The client: it dials, comes back after a break, and loses nothing that was said."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit

import pytest
from faults.plan import Trouble
from faults.proxy import Link
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broadcast_server.address import address
from broadcast_server.client import Client, Failed, Pace
from broadcast_server.conversation import WINDOW, Conversation
from broadcast_server.protocol import SUBPROTOCOL, Error, Event, Message, Welcome, json_line
from broadcast_server.server import Server, Settings

AT_ONCE = Pace(first=0.01, longest=0.02, answer=0.2, goodbye=0.5)


class Ear:
    """A door that keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: list[str] = []
        self._news = asyncio.Event()

    def show(self, events: list[Event]) -> None:
        """Keep events."""
        self.events += events
        self._news.set()

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)
        self._news.set()

    async def drain(self) -> None:
        """Nothing to wait for."""

    @property
    def texts(self) -> list[str]:
        """What was said, in the order in which it was shown."""
        return [event.text for event in self.events if isinstance(event, Message)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        await asyncio.wait_for(wait(), 10)


def play(part: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine, with a limit."""

    async def limited() -> None:
        await asyncio.wait_for(part(), 20)

    asyncio.run(limited())


@asynccontextmanager
async def house(port: int = 0) -> AsyncIterator[tuple[Server, str]]:
    """A server of ours, and its address."""
    server = Server(Settings(port=port, grace=1))
    await server.listen()
    try:
        yield server, server.url
    finally:
        await server.stop()


@asynccontextmanager
async def member(url: str, name: str = "ann") -> AsyncIterator[tuple[Client, Ear]]:
    """A client that stays while this lasts."""
    client, ear = Client(url, {}, Conversation(name, None), AT_ONCE), Ear()
    staying = asyncio.ensure_future(client.run(ear))
    try:
        yield client, ear
    finally:
        client.leave()
        await staying


async def fails(url: str, pace: Pace = AT_ONCE) -> str:
    """Return why a client cannot be in a room at *url*."""
    with pytest.raises(Failed) as failed:
        await asyncio.wait_for(Client(url, {}, Conversation(None, None), pace).run(Ear()), 10)
    return str(failed.value)


# -- coming back --


def test_what_is_said_comes_back_once_and_in_order() -> None:
    """A client sees its own messages once each, in the order in which it said them."""

    async def part() -> None:
        async with house() as (_, url), member(url) as (client, ear):
            said = [str(number) for number in range(500)]
            for text in said:
                client.say(text)
            await client.all_heard()
            assert ear.texts == said

    play(part)


def test_a_cut_connection_loses_and_repeats_nothing() -> None:
    """Through connections that are cut again and again, all see every message once, in order."""

    async def part() -> None:
        async with (
            house() as (server, url),
            member(url) as (ann, ear),
            member(url, "bob") as (
                _,
                other,
            ),
        ):
            await other.until(lambda: other.events)
            said = [str(number) for number in range(300)]
            for text in said:
                ann.say(text)
                if int(text) % 50 == 25:
                    await ear.until(lambda text=text: len(ear.texts) > int(text) - 20)  # type: ignore[misc]
                    server.abort()
            await ann.all_heard()
            await other.until(lambda: len(other.texts) == len(said))
            assert ear.texts == said
            assert other.texts == said
            assert len(ear.notes) >= 5

    play(part)


def test_what_is_said_while_away_is_kept_and_sent_on_return() -> None:
    """What is said to a server that is gone reaches the next one at that address."""

    async def part() -> None:
        async with house() as (_, url):
            port = int(url.rpartition(":")[2].rstrip("/"))
            context = member(url)
            client, ear = await context.__aenter__()
            client.say("before")
            await client.all_heard()
        await ear.until(lambda: any("refused" in note for note in ear.notes))
        assert ear.notes[0].startswith("the server is stopping, trying again in 0.0")
        client.say("while away")
        client.say("and more")
        async with house(port):
            await client.all_heard()
            assert ear.texts == ["before", "while away", "and more"]
            welcomes = [event for event in ear.events if isinstance(event, Welcome)]
            assert [each.recovered for each in welcomes] == [True, False]
            await context.__aexit__(None, None, None)

    play(part)


def test_an_attempt_that_comes_through_late() -> None:
    """Who is replaced by an attempt that it had given up itself comes back."""

    async def part() -> None:
        async with house() as (_, url):
            parts = urlsplit(url)
            link = Link(lambda: (str(parts.hostname), parts.port or 0), Random(1))
            async with member(await link.listen()) as (ann, ear):
                ann.say("before")
                await ann.all_heard()
                # Cut, and the next attempt is held up for longer than it waits for an answer.
                await link.suffer(Trouble.LATE, 1.0)
                await ear.until(lambda: "no answer in time, trying again in 0.0 s" in ear.notes)
                await ear.until(lambda: ear.notes[-1].startswith("a newer connection"))
                ann.say("after")
                await ann.all_heard()
                assert ear.texts == ["before", "after"]
            await link.close()

    play(part)


def test_looking_back_is_seen_by_nobody_else() -> None:
    """Who asks for the past gets it again, misses nothing, and the others notice nothing."""

    async def part() -> None:
        async with house() as (_, url), member(url) as (ann, ear):
            await ear.until(lambda: ear.events)
            async with member(url, "bob") as (_, other):
                await other.until(lambda: other.events)
                for text in "abc":
                    ann.say(text)
                await ann.all_heard()
                ann.look_back(2)
                await ear.until(lambda: ear.texts == [*"abcbc"])
                ann.say("d")
                await ann.all_heard()
                ann.look_back(99)
                await ear.until(lambda: ear.texts == [*"abcbcdabcd"])
                ann.say("e")
                await other.until(lambda: other.texts == [*"abcde"])
                assert {type(event) for event in other.events} == {Welcome, Message}
                assert ear.notes == []

    play(part)


def test_delays_grow_and_are_jittered_from_zero() -> None:
    """The wait before an attempt is anything from nothing to twice the last limit, up to a most."""
    pace = Pace(first=1, longest=15)
    for attempt, most in ((0, 1), (1, 2), (3, 8), (4, 15), (10**6, 15)):
        waits = [pace.delay(attempt) for _ in range(1000)]
        assert 0 <= min(waits) < most / 10
        assert most * 0.9 < max(waits) <= most


def test_no_more_than_a_window_is_without_its_echo() -> None:
    """Who has a window's worth of messages without an echo waits before the next."""

    async def part() -> None:
        async with house() as (_, url):
            client, ear = Client(url, {}, Conversation(None, None), AT_ONCE), Ear()
            for number in range(WINDOW):
                await client.room_to_say()
                client.say(str(number))
            waiting = asyncio.ensure_future(client.room_to_say())
            await asyncio.sleep(0)
            assert not waiting.done()
            staying = asyncio.ensure_future(client.run(ear))
            await asyncio.wait_for(waiting, 5)
            await client.all_heard()
            assert len(ear.texts) == WINDOW
            client.leave()
            await staying

    play(part)


# -- leaving --


async def leaves_at_once(url: str, pace: Pace) -> None:
    """Check that a client that dials *url* can be made to leave."""
    client, ear = Client(url, {}, Conversation(None, None), pace), Ear()
    staying = asyncio.ensure_future(client.run(ear))
    done, _ = await asyncio.wait({staying}, timeout=0.05)
    assert not done
    client.leave()
    await asyncio.wait_for(staying, 1)


def test_it_leaves_while_it_dials() -> None:
    """A client that waits for an answer leaves when it is told to."""

    async def part() -> None:
        async with answering(None) as url:
            await leaves_at_once(url, Pace(answer=60))

    play(part)


def test_it_leaves_while_it_looks_a_host_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for an address leaves when it is told to, although that cannot be."""
    reader, writer = os.pipe()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: os.read(reader, 1))

    async def part() -> None:
        await leaves_at_once("ws://slow.example/", Pace(answer=60))

    play(part)
    os.write(writer, b".")
    os.close(writer)


def test_it_leaves_between_two_attempts() -> None:
    """A client that waits before it tries again leaves when it is told to."""

    async def part() -> None:
        async with house() as (server, url):
            client = Client(url, {}, Conversation(None, None), Pace(first=3600, longest=3600))
            ear = Ear()
            staying = asyncio.ensure_future(client.run(ear))
            await ear.until(lambda: client.been_live or ear.events)
            client.say("in")
            await client.all_heard()
            server.abort()
            await ear.until(lambda: ear.notes)
            client.leave()
            await asyncio.wait_for(staying, 1)

    play(part)


# -- dialling --


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A TCP server that says *answer* to everything and hangs up, or keeps silent."""
    over = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        over.set()
        server.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "no answer in time"),
        (b"", "no WebSocket server is there"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no WebSocket server is there"),
        (b"\0" * 100_000, "no WebSocket server is there"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "no broadcast server is there: HTTP status 200",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "no broadcast server is there: HTTP status 404",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot today", "not today"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://example.org/\r\nContent-Length: 0\r\n\r\n",
            "not the address of a WebSocket",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.2:9/\r\nContent-Length: 0\r\n\r\n",
            "not the address of a WebSocket",
        ),
    ],
    ids=["silence", "end", "ssh", "zeros", "http", "404", "403", "https", "elsewhere"],
)
def test_what_else_may_listen_there(answer: bytes | None, why: str) -> None:
    """Whatever else listens at the address, a client says in a few words that it is not ours."""

    async def part() -> None:
        async with answering(answer) as url:
            assert await fails(url) == f"Could not connect to server at {url} ({why})"

    play(part)


def test_tls_to_a_server_without() -> None:
    """A server that does not speak TLS is told apart from one that is not there."""

    async def part() -> None:
        async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
            # Its context alone takes most of what the others have.
            why = await fails(url.replace("ws:", "wss:"), Pace())
            assert "(TLS failed: " in why

    play(part)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ws://127.0.0.1:1/", "connection refused, is it running?"),
        ("ws://a..b/", "unknown host"),
    ],
)
def test_nobody_is_there(url: str, why: str) -> None:
    """An address where nobody listens, and one that cannot be, are told apart."""

    async def part() -> None:
        assert await fails(url) == f"Could not connect to server at {url} ({why})"

    play(part)


def test_an_unknown_host_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that the resolver does not know is called unknown."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    async def part() -> None:
        assert (await fails("ws://nowhere.example/")).endswith("(unknown host)")

    play(part)


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of which one address does not answer is reached at the next."""
    resolve = socket.getaddrinfo

    def both(host: str, port: int, **more: int) -> object:
        return [*resolve("127.0.0.2", port, type=socket.SOCK_STREAM),
                *resolve("127.0.0.1", port, type=socket.SOCK_STREAM)]  # fmt: skip

    async def part() -> None:
        async with house() as (_, url):
            monkeypatch.setattr(socket, "getaddrinfo", both)
            async with member(url.replace("127.0.0.1", "two.example")) as (client, ear):
                client.say("reached")
                await client.all_heard()
                assert ear.texts == ["reached"]

    play(part)


# -- servers that are not ours --


@asynccontextmanager
async def foreign(
    talk: Callable[[ServerConnection], Awaitable[None]], subprotocol: str | None = SUBPROTOCOL
) -> AsyncIterator[str]:
    """A WebSocket server of another kind."""
    spoken = None if subprotocol is None else [Subprotocol(subprotocol)]
    async with serve(talk, "127.0.0.1", 0, subprotocols=spoken) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


@pytest.mark.parametrize(
    "frame",
    ["hello", "[]", '{"type":"message"}', "", b"\0\1", '{"type":"pong"}\n{"type":"message",'],
    ids=["text", "list", "no message", "empty", "binary", "half"],
)
def test_a_server_that_talks_nonsense(frame: str | bytes) -> None:
    """A server that agrees to our subprotocol and does not keep it is given up."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send(frame)
        await connection.wait_closed()

    async def part() -> None:
        async with foreign(talk) as url:
            assert await fails(url) == f"{url} sent what no broadcast server sends"

    play(part)


def test_a_server_without_our_subprotocol() -> None:
    """A WebSocket server that does not agree to our subprotocol is none of ours."""

    async def part() -> None:
        async with foreign(lambda connection: connection.wait_closed(), None) as url:
            why = "no broadcast server is there"
            assert await fails(url) == f"Could not connect to server at {url} ({why})"

    play(part)


@pytest.mark.parametrize(
    ("code", "reason", "why"),
    [
        (4503, "you were removed", "you were removed"),
        (4500, "", "the room has a bad name"),
        (1009, "too big", "too big"),
    ],
)
def test_codes_by_which_a_client_gives_up(code: int, reason: str, why: str) -> None:
    """A final code ends a client with the code's reason or, without one, the error before it."""

    async def talk(connection: ServerConnection) -> None:
        if not reason:
            await connection.send(json_line(Error("bad_room", why)))
        await connection.close(code, reason)

    async def part() -> None:
        async with foreign(talk) as url:
            assert await fails(url) == why

    play(part)


def test_a_token_goes_with_every_connection() -> None:
    """A client that has a token sends it in the handshake, also when it comes back."""
    sent: list[str | None] = []

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        sent.append(connection.request.headers.get("Authorization"))
        await connection.close(4001 if len(sent) == 1 else 4500, "enough")

    async def part(token: str | None) -> None:
        async with foreign(talk) as url:
            client = Client(url, {}, Conversation(None, None), AT_ONCE, token)
            with pytest.raises(Failed, match="enough"):
                await client.run(Ear())

    play(lambda: part("s3cret"))
    assert sent == ["Bearer s3cret"] * 2
    play(lambda: part(None))
    assert sent[2:] == [None]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4001, 4008, 4013])
def test_codes_after_which_a_client_comes_back(code: int) -> None:
    """A code that is not final makes a client come back."""
    calls: list[str] = []

    async def talk(connection: ServerConnection) -> None:
        calls.append("a call")
        await connection.close(code if len(calls) < 3 else 4503, "enough")

    async def part() -> None:
        async with foreign(talk) as url:
            assert await fails(url) == "enough"
            assert len(calls) == 3

    play(part)


# -- addresses --


@pytest.mark.parametrize(
    ("typed", "url", "query"),
    [
        ("ws://h:1/", "ws://h:1/", {}),
        ("h:1", "ws://h:1/", {}),
        ("h", "ws://h/", {}),
        ("[::1]:1", "ws://[::1]:1/", {}),
        (
            "https://h/chat/?room=ops&name=a%20b#top",
            "wss://h/chat/",
            {"room": "ops", "name": "a b"},
        ),
    ],
)
def test_addresses_that_people_paste(typed: str, url: str, query: dict[str, str]) -> None:
    """A socket's address, a page's, and a host with a port all lead to the socket."""
    assert address(typed) == (url, query)


@pytest.mark.parametrize(
    "typed",
    ["", "ftp://h/", "ws:///", "ws://h:x/", "ws://h:0/", "ws://h:65536/", "ws://[::1/",
     "ws://a b/", "ws://me:secret@h/", "ws://h/\udcff"],
)  # fmt: skip
def test_what_is_no_address(typed: str) -> None:
    """What cannot be an address is refused with a reason, before anything is dialled."""
    with pytest.raises(ValueError, match=r"."):
        address(typed)
