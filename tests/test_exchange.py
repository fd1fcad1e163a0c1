"""The exchange: what accounts, bans and closed rooms mean for who comes over HTTP."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.test import override_settings
from django.utils.timezone import now
from hosted import asked, over_http, play, visitor
from test_accounts import account

from broadcast_server.entry import Entry
from broadcast_server.post import Post, Said
from django_site import log, models, moderation
from django_site.accounts.models import Account, Token
from django_site.exchange import is_ours
from django_site.nodes import nodes

SESSION = "0123456789abcdef"


@pytest.fixture
def room() -> str:
    """A room of the test's own."""
    return secrets.token_hex(8)


def bearer(secret: str) -> tuple[bytes, bytes]:
    """Return the header that brings a token."""
    return b"authorization", f"Bearer {secret}".encode()


def token(of: Account) -> str:
    """Make a token."""
    return Token.make(of, "test")[1]


async def say(target: str, *headers: tuple[bytes, bytes]) -> tuple[int, str]:
    """Post a word."""
    return await asked("POST", target, *headers, body=b"hi")


class Ear:
    """A stream that is read."""

    def __init__(self, one: Any) -> None:
        self._one = one
        self._text = ""

    async def event(self) -> dict[str, Any] | None:
        """Return the next event, None at the end."""
        while "\n" not in self._text:
            part = await self._one.receive_output(timeout=10)
            if not part.get("more_body", False):
                return None
            self._text += part["body"].decode()
        line, _, self._text = self._text.partition("\n")
        found: dict[str, Any] = json.loads(line)
        return found


@asynccontextmanager
async def listening(target: str, *headers: tuple[bytes, bytes]) -> AsyncIterator[Ear]:
    """Listen."""
    one = over_http("GET", target, *headers)
    await one.send_input({"type": "http.request", "body": b""})
    assert (await one.receive_output(timeout=10))["status"] == 200
    yield Ear(one)
    await one.send_input({"type": "http.disconnect"})
    await one.wait(timeout=10)


def test_a_name_that_is_an_accounts(room: str) -> None:
    """Only who is signed in as it says something under an account's name; the log has whose."""
    alice = account()
    secret = token(alice)

    async def part() -> None:
        target = f"/?room={room}&name={alice.username.lower()}"
        name = alice.username.lower()
        words = f"{name} is the name of an account: sign in as it, or take another\n"
        assert await say(target) == (403, words)
        status, text = await say(f"/?room={room}&name=other", bearer(secret))
        assert (status, json.loads(text)["name"]) == (200, alice.username)
        assert (await say(target, bearer("bst_wrong")))[0] == 401

    play(part)
    (message,) = models.Message.objects.filter(room__name=room)
    assert (message.account, message.name) == (alice, alice.username)


def test_only_accounts_may_where_they_alone_may(room: str) -> None:
    """Where guests may not come in they may say and hear nothing either."""
    secret = token(account())

    async def part() -> None:
        for status, text in (
            await say(f"/?room={room}"),
            await asked("GET", f"/stream?room={room}&poll=1"),
        ):
            assert status == 401 and text.startswith("this site is for its accounts")
        assert (await say(f"/?room={room}", bearer(secret)))[0] == 200
        assert (await asked("GET", f"/stream?room={room}&poll=1", bearer(secret)))[0] == 200

    with override_settings(BROADCAST_LOGIN="required"):
        play(part)


def test_a_ban_holds_for_posts(room: str) -> None:
    """Who is banned is told so; a repeat of what was said before is answered as the first."""
    by = account()

    async def part() -> None:
        target = f"/?room={room}&name=eve&session={SESSION}&id=1"
        status, first = await say(target)
        assert status == 200
        row = await database_sync_to_async(log.open_room)(room)
        ban = models.Ban(room=row, name="eve", until=now() + timedelta(hours=1), reason="spam")
        await database_sync_to_async(moderation.ban)(ban, by)
        status, text = await say(f"/?room={room}&name=eve-2")
        assert status == 403 and text.startswith("you are banned until ")
        status, again = await say(target)
        assert json.loads(again) == {**json.loads(first), "repeated": True}
        assert (await say(f"/?room={room}&name=bob"))[0] == 200

    play(part)


def test_a_room_that_is_closed_is_closed_for_all(room: str) -> None:
    """When a room is closed its streams end, also where nobody else is; nobody says anything."""
    by = account()

    async def part() -> None:
        async with listening(f"/stream?room={room}") as ear:
            assert (await ear.event() or {})["type"] == "welcome"
            row = await database_sync_to_async(log.open_room)(room)
            await database_sync_to_async(moderation.close)(row, by, "enough")
            last = {"type": "error", "code": "closed", "text": f"{room} is closed: enough"}
            assert await ear.event() == last
            assert await ear.event() is None
        for status, text in (
            await say(f"/?room={room}"),
            await asked("GET", f"/stream?room={room}"),
        ):
            assert (status, text) == (403, f"{room} is closed: enough\n")

    play(part)


def test_a_token_that_is_revoked_ends_its_streams(room: str) -> None:
    """An account that changes is looked at anew, who listens by it as well."""
    alice = account()
    secret = token(alice)

    async def part() -> None:
        async with listening(f"/stream?room={room}", bearer(secret)) as ear:
            assert (await ear.event() or {})["type"] == "welcome"
            await database_sync_to_async(alice.tokens.all().delete)()
            assert (await ear.event() or {})["code"] == "sign_in"
            assert await ear.event() is None

    play(part)


def test_who_listens_is_on_no_roster(room: str) -> None:
    """A stream has a row, by which it is closed; nobody sees it, and it goes with the stream."""

    def rows() -> list[str]:
        return [each.name for each in models.Member.objects.filter(room__name=room)]

    async def part() -> None:
        async with visitor(f"/?name=alice&room={room}") as alice:
            async with listening(f"/stream?room={room}") as ear:
                assert (await ear.event() or {})["members"] == ["alice"]
                assert await database_sync_to_async(rows)() == ["alice", ""]
                await alice.send_to("/who")
                assert await alice.receive_from() == "* 1 here: alice"
                status, text = await say(f"/?room={room}&name=ci&require=2")
                assert (status, json.loads(text)["count"]) == (200, 2)
                assert await alice.receive_from() == "ci: hi"
            status, text = await say(f"/?room={room}&name=ci")
            while json.loads(text)["count"] == 2:  # it has not left yet
                status, text = await say(f"/?room={room}&name=ci")

    play(part)


def test_too_much_of_one_address(room: str) -> None:
    """The rate of an address holds for what it posts, and says when to come again."""

    async def part() -> None:
        target = f"/?room={room}"
        for _ in range(10):
            assert (await asked("POST", target, body=b"x", address="192.0.2.1"))[0] == 200
        status = 200
        for _ in range(20):
            status, text = await asked("POST", target, body=b"x", address="192.0.2.1")
            if status == 429:
                break
        assert (status, text) == (
            429,
            "more than 1 messages a second come from your address, say it again later\n",
        )
        assert (await asked("POST", target, body=b"x", address="192.0.2.2"))[0] == 200

    with override_settings(BROADCAST_RATE=1):
        play(part)


def test_many_posts_at_once_are_each_said_once(room: str) -> None:
    """Posts that come together are logged together, each with its own number and answer."""

    async def part() -> None:
        repeats = [
            f"/?room={room}&name=ci&session={SESSION}&id={number % 20}" for number in range(40)
        ]
        answers = [json.loads(text) for _, text in await asyncio.gather(*map(say, repeats))]
        assert sorted(each["seq"] for each in answers) == sorted([*range(1, 21)] * 2)
        assert sum("repeated" in each for each in answers) == 20

    play(part)


def test_who_stops_waiting_has_said_it(room: str) -> None:
    """A client that goes away before its answer leaves nothing behind but what it said."""

    async def part() -> None:
        node = await nodes().get(room)
        waiting = asyncio.ensure_future(
            node.say(Post(Entry(room=room), "x", None, 0), None, "t", 9)
        )
        await asyncio.sleep(0)
        waiting.cancel()
        said = await node.say(Post(Entry(room=room), "y", None, 0), None, "t", 9)
        assert isinstance(said, Said) and said.seq == 2
        assert not node._letters

    play(part)


@pytest.mark.parametrize(
    ("method", "path", "ours"),
    [
        ("POST", "/", True),
        ("POST", "/any/prefix/", True),
        ("POST", "/accounts/login/", False),
        ("POST", "/admin/django_site/room/", False),
        ("GET", "/", False),
        ("GET", "/stream", True),
        ("HEAD", "/stream", True),
        ("GET", "/accounts/login/", False),
        ("OPTIONS", "/", True),
        ("OPTIONS", "/accounts/login/", False),
        ("PUT", "/x", True),
        ("OPTIONS", "*", False),
    ],
)
def test_forms_are_djangos(method: str, path: str, ours: bool) -> None:
    """What is posted to a page of accounts or of the admin is a form, and not said."""
    assert is_ours({"method": method, "path": path}) is ours
