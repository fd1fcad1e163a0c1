"""Admission control of the Django deployment: what one process admits, and what it rejects."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from accounts_client import account, browser_of, close_reason, session_headers, welcome
from django.test import override_settings
from django_client import connected, run_async

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.admission.auth_throttle import FREE_FAILURES, MAX_WAITING_PER_ADDRESS
from broadcast_server.console.time_limit import run_within
from django_site.accounts.models import Token
from django_site.asgi import application
from django_site.client_address import parse_trusted_proxy
from django_site.replication import admission
from django_site.replication.admission import ProcessAdmission
from django_site.replication.replica_registry import SCOPE_KEY
from django_site.store.rejections import Rejected
from django_site.transport.http import handle_request
from django_site.transport.websocket import RoomConsumer

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def room() -> str:
    """A new room."""
    return secrets.token_hex(8)


async def rejected_as_full(target: str, address: str | None = None, **more: Any) -> str:
    """Check that a client is closed with 4013, and return the text of the error."""
    async with connected(target, address=address, **more) as one:
        text = str(await one.receive_from(timeout=10))
        assert (await one.receive_output(timeout=10))["code"] == 4013
    return text


def test_a_full_process(room: str) -> None:
    """A full process closes new clients with 4013, but not one that takes over its own session."""
    session = "0123456789abcdef"

    async def part() -> None:
        async with connected(f"/?name=alice&room={room}") as alice:
            text = await rejected_as_full(f"/?room={room}-2")
            assert text == "* server is at its limit of 1 rooms, join an existing room"
            async with connected(f"/?name=bob&room={room}&session={session}"):
                assert await alice.receive_from() == "bob joined the chat"
                text = await rejected_as_full(f"/?room={room}&session=fedcba9876543210")
                assert text == "* server is at its limit of 2 clients, try again later"
                async with connected(f"/?name=bob&room={room}&session={session}", as_json=True):
                    pass
            assert await alice.receive_from() == "bob left the chat"
            async with connected(f"/?name=eve&room={room}"):
                assert await alice.receive_from() == "eve joined the chat"
        async with connected(f"/?name=alice&room={room}-2"):
            pass

    with override_settings(BROADCAST_MAX_CLIENTS=2, BROADCAST_MAX_ROOMS=1):
        run_async(part)


def test_a_client_rejected_for_another_reason_takes_no_place(room: str) -> None:
    """The place of a client that could not join after all is free again."""

    async def part() -> None:
        await application.replicas.stop()
        for _ in range(2):
            async with connected(f"/?room={room}", as_json=True) as one:
                assert await close_reason(one) == ("stopping", 4001)

    with override_settings(BROADCAST_MAX_CLIENTS=1):
        run_async(part)


def forwarded(*values: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers in which a proxy passes on the client's address."""
    return tuple((b"x-forwarded-for", value.encode()) for value in values)


def test_an_address_is_full(room: str) -> None:
    """Clients behind a trusted proxy count by their own address; other peers cannot forge one."""
    most = "* your address is at its limit of 1 clients, try again later"
    target = f"/?room={room}"

    async def part() -> None:
        async with connected(target, address=HERE):
            assert await rejected_as_full(target, HERE) == most
            assert (
                await rejected_as_full(target, "127.0.0.1", headers=forwarded(THERE, HERE)) == most
            )
            # The header of a peer that is not trusted has no effect.
            assert await rejected_as_full(target, HERE, headers=forwarded(THERE)) == most
            async with connected(target, address="127.0.0.1", headers=forwarded(HERE, THERE)):
                assert await rejected_as_full(target, THERE) == most
            async with connected(target, address="127.0.0.1"), connected(target):
                pass

    trusted = parse_trusted_proxy("127.0.0.1")
    with override_settings(BROADCAST_MAX_CLIENTS_PER_ADDRESS=1, BROADCAST_TRUSTED_PROXY=trusted):
        run_async(part)


def test_joins_of_one_address_are_limited(room: str) -> None:
    """One address may join so often a second, with a burst of ten times as many."""
    target = f"/?room={room}"

    async def part() -> None:
        await application.replicas.stop()  # rejects them too, but only after the limit

        async def visit(address: str) -> str:
            async with connected(target, address=address, as_json=True) as one:
                return (await close_reason(one))[0]

        found = await asyncio.gather(*map(visit, 11 * [HERE]))
        assert sorted(found) == ["full"] + 10 * ["stopping"]
        assert await visit(THERE) == "stopping"

    with override_settings(BROADCAST_MAX_JOINS=1):
        run_async(part)


# -- tokens --


def bearer(token: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the header in which a program sends its token."""
    return ((b"authorization", f"Bearer {token}".encode()),)


@pytest.mark.parametrize("guess", ["guess", "bst_guess"])
def test_a_guesser_waits(guess: str, room: str) -> None:
    """After wrong tokens even a right one is delayed, and messages sent meanwhile as well."""
    target = f"/?name=bob&room={room}"

    async def part() -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(3):
            async with connected(target, address=HERE, headers=bearer(guess), as_json=True) as one:
                assert await close_reason(one) == ("token", 4501)
        async with connected(target, address=HERE, headers=bearer("s3cret")) as one:
            accepted = clock()  # at once, since Daphne waits only briefly for a handshake
            await one.send_to("hi")
            assert await one.receive_from(timeout=10) == "bob: hi"
            assert clock() - accepted > 0.45

    with override_settings(BROADCAST_TOKEN="s3cret"):
        run_async(part)


def test_too_many_guesses_at_once_are_rejected() -> None:
    """With too many waiting attempts of an address, a further one is rejected, right or wrong."""
    one = ProcessAdmission(AdmissionLimits())
    for _ in range(MAX_WAITING_PER_ADDRESS + FREE_FAILURES + 1):
        one.start_attempt(HERE, 0.0, wrong=True)
    with pytest.raises(Rejected) as refused:
        one.start_attempt(HERE, 0.0, wrong=False)
    assert refused.value.rejection.code == 4013
    one.end_wait(HERE)
    assert one.start_attempt(HERE, 0.0, wrong=False) == 8.0
    assert one.start_attempt(THERE, 0.0, wrong=False) == 0.0


def test_guests_bring_the_token(room: str) -> None:
    """A guest joins with the guests' token, in a header or in a subprotocol."""
    target = f"/?name=bob&room={room}"

    async def part() -> None:
        async with connected(target, headers=bearer("s3cret")) as one:
            await one.send_to("hi")
            assert await one.receive_from() == "bob: hi"
        async with connected(target, as_json=True, offered=("bearer.czNjcmV0",)) as one:
            assert json.loads(await one.receive_from())["type"] == "welcome"
        for headers, words in (
            ((), "this server requires a token: ask its operator for one"),
            (bearer("s3cre"), "token is wrong: ask the operator of the server for the right one"),
            (bearer(""), "token is wrong: ask the operator of the server for the right one"),
        ):
            async with connected(target, headers=headers) as one:
                assert await one.receive_from() == f"* {words}"
                assert (await one.receive_output())["code"] == 4501

    with override_settings(BROADCAST_TOKEN="s3cret"):
        run_async(part)


def test_accounts_need_no_token_of_guests(room: str) -> None:
    """An account joins with its own token, sent either way, or with its session."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    session = session_headers(browser_of(whose))
    coded = urlsafe_b64encode(secret.encode()).decode().rstrip("=")

    async def part() -> None:
        for more in (
            {"headers": bearer(secret)},
            {"offered": (f"bearer.{coded}",)},
            {"headers": session},
        ):
            async with connected(f"/?room={room}", as_json=True, **more) as one:
                assert (await welcome(one))["name"] == whose.username

    with override_settings(BROADCAST_TOKEN="s3cret"):
        run_async(part)


def test_a_client_that_is_lost_while_it_waits(room: str) -> None:
    """A client that is lost while its token has to wait joins no room and takes no place."""

    async def part() -> None:
        replicas, events = application.replicas, asyncio.Queue[dict[str, Any]]()
        now = asyncio.get_running_loop().time()
        for _ in range(FREE_FAILURES + 1):
            replicas.admission.record_failure(HERE, now)
        accepted = asyncio.Event()

        async def send(event: dict[str, Any]) -> None:
            assert event["type"] == "websocket.accept"
            accepted.set()

        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": f"room={room}".encode(),
            "headers": bearer("s3cret"),
            "subprotocols": (),
            "client": (HERE, 1),
            SCOPE_KEY: replicas,
        }
        consumer = RoomConsumer()
        serving = asyncio.ensure_future(consumer(scope, events.get, send))
        events.put_nowait({"type": "websocket.connect"})
        await run_within(accepted.wait(), 10)  # so that it is told to wait
        consumer._disconnected()  # as when Daphne has lost the connection
        events.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await run_within(serving, 10)
        assert room not in replicas._replicas
        assert replicas.admission._admission._connected.total == 0

    with override_settings(BROADCAST_TOKEN="s3cret"):
        run_async(part)


@pytest.mark.parametrize("kind", ["websocket", "POST", "GET"])
def test_a_client_that_is_cancelled_while_it_joins(room: str, kind: str) -> None:
    """A client that is lost between its admission and the room gives its place back."""

    async def part() -> None:
        replicas, events = application.replicas, asyncio.Queue[dict[str, Any]]()
        scope = {
            "type": "websocket" if kind == "websocket" else "http",
            "method": kind,
            "path": "/stream" if kind == "GET" else "/",
            "query_string": f"room={room}".encode(),
            "headers": ((b"content-length", b"2"),) if kind == "POST" else (),
            "subprotocols": (),
            "client": (HERE, 1),
            SCOPE_KEY: replicas,
        }

        async def send(event: dict[str, Any]) -> None:
            raise AssertionError(event)

        serve = RoomConsumer() if kind == "websocket" else handle_request
        first = {"type": "http.request", "body": b"hi"}
        events.put_nowait({"type": "websocket.connect"} if kind == "websocket" else first)
        counter = replicas.admission._admission._connected
        async with replicas._opening:  # as while the database does not answer
            serving = asyncio.ensure_future(serve(scope, events.get, send))
            while not counter.total:
                assert not serving.done(), serving.result()
                await asyncio.sleep(0)
            serving.cancel()
            await asyncio.wait({serving})
        assert serving.cancelled()
        assert (counter.total, counter._by_key) == (0, {})
        assert not replicas.admission._rooms and not replicas.admission._sessions

    run_async(part)


# -- admission control alone --


def test_nothing_is_kept_of_those_who_left() -> None:
    """When everyone has left, admission control remembers no room and no session."""
    one = ProcessAdmission(AdmissionLimits(rooms=1))
    places = [one.admit(HERE, "ops", session) for session in ("a", "a", None)]
    with pytest.raises(Rejected):
        one.admit(HERE, "dev", None)
    for place in places * 2:  # a second time does nothing
        place.release()
    assert not one._rooms
    assert not one._sessions
    one.admit(HERE, "dev", None)


def test_few_files() -> None:
    """A low limit on open files lowers the limit of clients."""
    assert admission.limits_from_settings(64).clients == 48
    assert (
        admission.limits_from_settings(2**20).clients
        == admission.limits_from_settings(None).clients
        == 10_000
    )
