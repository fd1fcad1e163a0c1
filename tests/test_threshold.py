"""The threshold: what the hosted site allows in one process, and whom it refuses."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from django.test import override_settings
from hosted import play, visitor
from test_accounts import account, browser, ends, session_of, welcome

from broadcast_server.brake import FREE, WAITING
from broadcast_server.gate import Limits
from django_site import threshold
from django_site.accounts.models import Token
from django_site.address import trusted_of
from django_site.ends import Refused
from django_site.nodes import nodes
from django_site.threshold import Seat, Threshold

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def room() -> str:
    """A room of the test's own."""
    return secrets.token_hex(8)


async def refused(target: str, address: str | None = None, **more: Any) -> str:
    """Find that someone is closed with 4013, and return the error's text."""
    async with visitor(target, address=address, **more) as one:
        text = str(await one.receive_from(timeout=10))
        assert (await one.receive_output(timeout=10))["code"] == 4013
    return text


def test_a_full_process(room: str) -> None:
    """Who comes to a full process is closed with 4013, but not who replaces itself."""
    session = "0123456789abcdef"

    async def part() -> None:
        async with visitor(f"/?name=alice&room={room}") as alice:
            text = await refused(f"/?room={room}-2")
            assert text == "* server is full with 1 of 1 rooms, go to one that there is"
            async with visitor(f"/?name=bob&room={room}&session={session}"):
                assert await alice.receive_from() == "bob joined the chat"
                text = await refused(f"/?room={room}&session=fedcba9876543210")
                assert text == "* server is full with 2 of 2 clients, come back later"
                async with visitor(f"/?name=bob&room={room}&session={session}", as_json=True):
                    pass
            assert await alice.receive_from() == "bob left the chat"
            async with visitor(f"/?name=eve&room={room}"):
                assert await alice.receive_from() == "eve joined the chat"
        async with visitor(f"/?name=alice&room={room}-2"):
            pass

    with override_settings(BROADCAST_MAX_CLIENTS=2, BROADCAST_MAX_ROOMS=1):
        play(part)


def test_who_is_refused_for_another_reason_takes_no_place(room: str) -> None:
    """A place is free again when who had it could not come in after all."""

    async def part() -> None:
        await nodes().stop()
        for _ in range(2):
            async with visitor(f"/?room={room}", as_json=True) as one:
                assert await ends(one) == ("stopping", 4001)

    with override_settings(BROADCAST_MAX_CLIENTS=1):
        play(part)


def forwarded(*values: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return what a proxy says of whose request it is."""
    return tuple((b"x-forwarded-for", value.encode()) for value in values)


def test_an_address_is_full(room: str) -> None:
    """Behind proxies that are trusted each client counts by its own address, and nobody else's."""
    most = "* your address is full with 1 of 1 clients, come back later"
    target = f"/?room={room}"

    async def part() -> None:
        async with visitor(target, address=HERE):
            assert await refused(target, HERE) == most
            assert await refused(target, "127.0.0.1", headers=forwarded(THERE, HERE)) == most
            # Nobody believes a stranger that it is someone else.
            assert await refused(target, HERE, headers=forwarded(THERE)) == most
            async with visitor(target, address="127.0.0.1", headers=forwarded(HERE, THERE)):
                assert await refused(target, THERE) == most
            async with visitor(target, address="127.0.0.1"), visitor(target):
                pass

    trusted = trusted_of("127.0.0.1")
    with override_settings(BROADCAST_MAX_CLIENTS_PER_ADDRESS=1, BROADCAST_TRUSTED_PROXY=trusted):
        play(part)


def test_who_comes_too_often(room: str) -> None:
    """Of one address only so many come in a second, with ten seconds' worth at once."""
    target = f"/?room={room}"

    async def part() -> None:
        await nodes().stop()  # a reason to be refused that is looked at later

        async def visit(address: str) -> str:
            async with visitor(target, address=address, as_json=True) as one:
                return (await ends(one))[0]

        found = await asyncio.gather(*map(visit, 11 * [HERE]))
        assert sorted(found) == ["full"] + 10 * ["stopping"]
        assert await visit(THERE) == "stopping"

    with override_settings(BROADCAST_MAX_JOINS=1):
        play(part)


# -- tokens --


def bearer(token: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return what the socket of a program with a token sends."""
    return ((b"authorization", f"Bearer {token}".encode()),)


@pytest.mark.parametrize("guess", ["guess", "bst_guess"])
def test_a_guesser_waits(guess: str, room: str) -> None:
    """After wrong tokens an address waits, also with the right one; what it says meanwhile too."""
    target = f"/?name=bob&room={room}"

    async def part() -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(3):
            async with visitor(target, address=HERE, headers=bearer(guess), as_json=True) as one:
                assert await ends(one) == ("token", 4501)
        async with visitor(target, address=HERE, headers=bearer("s3cret")) as one:
            accepted = clock()  # first, as Daphne has no patience for a handshake
            await one.send_to("hi")
            assert await one.receive_from(timeout=10) == "bob: hi"
            assert clock() - accepted > 0.45

    with override_settings(BROADCAST_TOKEN="s3cret"):
        play(part)


def test_guesses_side_by_side_are_turned_away() -> None:
    """When too many of an address wait a further one comes back later, right or wrong."""
    one = Threshold(Limits())
    for _ in range(WAITING + FREE + 1):
        one.guess(HERE, 0.0, wrong=True)
    with pytest.raises(Refused) as refused:
        one.guess(HERE, 0.0, wrong=False)
    assert refused.value.end.code == 4013
    one.waited(HERE)
    assert one.guess(HERE, 0.0, wrong=False) == 8.0
    assert one.guess(THERE, 0.0, wrong=False) == 0.0


def test_guests_bring_the_token(room: str) -> None:
    """With a token for guests who has it comes in, by a header or as a page does."""
    target = f"/?name=bob&room={room}"

    async def part() -> None:
        async with visitor(target, headers=bearer("s3cret")) as one:
            await one.send_to("hi")
            assert await one.receive_from() == "bob: hi"
        async with visitor(target, as_json=True, offered=("bearer.czNjcmV0",)) as one:
            assert json.loads(await one.receive_from())["type"] == "welcome"
        for headers, words in (
            ((), "this server wants a token: ask who runs it for one"),
            (bearer("s3cre"), "token is wrong: ask who runs the server for the right one"),
            (bearer(""), "token is wrong: ask who runs the server for the right one"),
        ):
            async with visitor(target, headers=headers) as one:
                assert await one.receive_from() == f"* {words}"
                assert (await one.receive_output())["code"] == 4501

    with override_settings(BROADCAST_TOKEN="s3cret"):
        play(part)


def test_accounts_need_no_token_of_guests(room: str) -> None:
    """An account comes in by what is its own, a program's token by either way, a session."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    session = session_of(browser(whose))
    coded = urlsafe_b64encode(secret.encode()).decode().rstrip("=")

    async def part() -> None:
        for more in (
            {"headers": bearer(secret)},
            {"offered": (f"bearer.{coded}",)},
            {"headers": session},
        ):
            async with visitor(f"/?room={room}", as_json=True, **more) as one:
                assert (await welcome(one))["name"] == whose.username

    with override_settings(BROADCAST_TOKEN="s3cret"):
        play(part)


# -- the threshold alone --


def test_nothing_is_kept_of_those_who_left() -> None:
    """When everyone has left the threshold remembers no room and no session."""
    one = Threshold(Limits(rooms=1))
    seats = [Seat(HERE, "ops", session) for session in ("a", "a", None)]
    for seat in seats:
        one.enter(seat)
    with pytest.raises(Refused):
        one.enter(Seat(HERE, "dev", None))
    for seat in seats:
        one.leave(seat)
    assert not one._rooms
    assert not one._sessions
    one.enter(Seat(HERE, "dev", None))


def test_few_files() -> None:
    """Where fewer files may be open than clients are allowed, only so many may come."""
    assert threshold.limits(64).clients == 48
    assert threshold.limits(2**20).clients == threshold.limits(None).clients == 10_000
