"""The dial: the addresses of a host race, and the time-out is over all of them."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from time import monotonic

import pytest
from client_harness import RecordingSink, deployment, play

from broadcast_server.client.client import ClientError, ClientTimeouts, ReconnectingClient
from broadcast_server.client.dial import Dialed, dial, look_up
from broadcast_server.client.publisher import HTTPPublisher, PublishFailed
from broadcast_server.client.session import ClientSession
from broadcast_server.client.target import Target

HOST = "many.localhost"

Place = tuple[str, int]

Resolve = Callable[..., None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """A function that sets the addresses of every host."""

    def set_places(*places: Place) -> None:
        results = [
            (socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for host, port in places
            for address in [(host, port, 0, 0) if ":" in host else (host, port)]
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: results)

    return set_places


@pytest.fixture
def dead() -> Iterator[list[Place]]:
    """Addresses that answer nothing, not even with a rejection: their queues are full."""
    if sys.platform != "linux":
        pytest.skip("other systems reject a connection if the queue is full")
    with ExitStack() as stack:
        places = []
        for last in range(2, 6):
            listener = stack.enter_context(socket.socket())
            listener.bind((f"127.0.0.{last}", 0))
            listener.listen(0)
            places.append(listener.getsockname())
            for _ in range(2):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(places[-1])
        yield places


@pytest.fixture
def silent() -> Iterator[Place]:
    """An address that takes connections, and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.fixture
def refusing() -> Place:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place: Place = listener.getsockname()
    return place


def place_of(url: str) -> Place:
    """Return the address in the URL of a server."""
    return "127.0.0.1", int(url.rpartition(":")[2].rstrip("/"))


async def check_joins(seconds: float) -> None:
    """Check that a client joins at its first attempt, in which it has so many seconds."""
    timeouts = ClientTimeouts(handshake=seconds)
    client = ReconnectingClient(f"ws://{HOST}/", {}, ClientSession(None, None), timeouts=timeouts)
    running = asyncio.ensure_future(client.run(sink := RecordingSink()))
    client.send("joined")
    waiting = asyncio.ensure_future(client.wait_confirmed())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    client.leave()
    await running
    assert sink.texts == ["joined"]
    assert sink.notes == []


def publish(seconds: float) -> int:
    """Publish a message, and return its receivers."""
    target = Target(f"ws://{HOST}/", {}, None, None, None)
    publisher = HTTPPublisher(target, None, None)
    publisher.deadline = monotonic() + seconds
    return publisher.publish("hi").receivers


async def check_both(seconds: float = 3600) -> None:
    """Check that both kinds of clients reach the server."""
    await check_joins(seconds)
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, partial(publish, seconds)) == 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_dead_addresses(dead: list[Place], resolve: Resolve, count: int) -> None:
    """A server is reached if addresses before its own do not answer.

    One after the other they would take the whole time, which here is an hour.
    """

    async def scenario() -> None:
        async with deployment() as (_, url):
            resolve(*dead[:count], place_of(url))
            await check_both()

    play(scenario)


def test_an_address_that_refuses(refusing: Place, resolve: Resolve) -> None:
    """A server is reached if the address before it refuses connections."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            resolve(refusing, place_of(url))
            await check_both()

    play(scenario)


def test_an_address_that_takes_connections_and_says_nothing(
    silent: Place, resolve: Resolve
) -> None:
    """An address that answers no request leaves some time for the next one."""

    async def scenario() -> None:
        async with deployment() as (_, url):
            resolve(silent, place_of(url))
            await check_both(seconds=3)

    play(scenario)


def test_the_time_is_over_all_addresses(dead: list[Place], resolve: Resolve) -> None:
    """If no address answers, a client gives up after the time for one attempt, not for each."""
    resolve(*dead)
    begin = monotonic()
    with pytest.raises(TimeoutError):
        dial(HOST, 80, begin + 0.5)
    assert 0.5 <= monotonic() - begin < len(dead) * 0.5

    async def scenario() -> None:
        timeouts = ClientTimeouts(handshake=0.5)
        session = ClientSession(None, None)
        client = ReconnectingClient(f"ws://{HOST}/", {}, session, timeouts=timeouts)
        with pytest.raises(ClientError, match="no answer in time"):
            await client.run(RecordingSink())

    play(scenario)
    with pytest.raises(PublishFailed, match=r"^not sent: .*no answer in time"):
        publish(0.5)


def test_a_refused_connection_says_more_than_a_missing_route(
    refusing: Place, resolve: Resolve
) -> None:
    """The error is that of the server, not that of a family of addresses without a route."""
    no_route = "224.0.0.1", 1  # TCP has no multicast
    for places in (no_route, refusing), (refusing, no_route):
        resolve(*places)
        with pytest.raises(ConnectionRefusedError):
            dial(HOST, 80, monotonic() + 10)


def test_the_families_alternate(resolve: Resolve) -> None:
    """The addresses are tried in the order of the system, but family by family in turn."""
    resolve(("::1", 1), ("::2", 1), ("::1", 1), ("::3", 1), ("127.0.0.1", 1), ("127.0.0.2", 1))
    found = [address.address[0] for address in look_up(HOST, 1)]
    assert found == ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]


def test_addresses_that_were_silent_come_last(silent: Place, resolve: Resolve) -> None:
    """An address that did not answer a request is tried after the others."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        resolve(silent, other := listener.getsockname())
        tried: list[Dialed] = []
        for _ in range(3):
            last = [each.address for each in tried]
            tried.append(dial(HOST, 80, monotonic() + 10, last=last))
            tried[-1].sock.close()
    assert [each.address.address for each in tried] == [silent, other, silent]
    assert [each.untried for each in tried] == [1, 0, 0]


def test_a_link_local_address_without_its_interface() -> None:
    """The error says what is missing: the system has "invalid argument" for it."""
    with pytest.raises(OSError, match=r"^the address lacks its interface, for example fe80::1%eth"):
        dial("fe80::1", 80, monotonic() + 10)


def test_a_host_without_addresses(resolve: Resolve) -> None:
    """A host may have no address at all."""
    resolve()
    with pytest.raises(OSError, match="the host has no address"):
        dial(HOST, 80, monotonic() + 10)
