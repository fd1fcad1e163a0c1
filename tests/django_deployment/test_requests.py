"""HTTP requests: accounts, bans and closed rooms apply to posts and event streams."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from accounts_client import account
from channels.db import database_sync_to_async
from django.test import override_settings
from django.utils.timezone import now
from django_client import begin_http_request, connected, http_request, run_async

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.publish import Published, PublishRequest
from django_site import models
from django_site.accounts.models import Account, Token
from django_site.asgi import application
from django_site.moderation import actions
from django_site.store import message_log
from django_site.transport.http import is_room_request

SESSION = "0123456789abcdef"


@pytest.fixture
def room() -> str:
    """A new room."""
    return secrets.token_hex(8)


def bearer(secret: str) -> tuple[bytes, bytes]:
    """Return the header with a token."""
    return b"authorization", f"Bearer {secret}".encode()


def token(of: Account) -> str:
    """Create a token of an account."""
    return Token.make(of, "test")[1]


async def post(target: str, *headers: tuple[bytes, bytes]) -> tuple[int, str]:
    """Publish a message by POST."""
    return await http_request("POST", target, *headers, body=b"hi")


class EventReader:
    """An event stream that is being read."""

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
async def listening(target: str, *headers: tuple[bytes, bytes]) -> AsyncIterator[EventReader]:
    """Open an event stream."""
    one = begin_http_request("GET", target, *headers)
    await one.send_input({"type": "http.request", "body": b""})
    assert (await one.receive_output(timeout=10))["status"] == 200
    yield EventReader(one)
    await one.send_input({"type": "http.disconnect"})
    await one.wait(timeout=10)


def test_a_name_that_is_an_accounts(room: str) -> None:
    """Only the account itself can publish under its name, and the log records the account."""
    alice = account()
    secret = token(alice)

    async def part() -> None:
        target = f"/?room={room}&name={alice.username.lower()}"
        name = alice.username.lower()
        words = f"{name} is the name of an account: sign in to it, or choose another name\n"
        assert await post(target) == (403, words)
        status, text = await post(f"/?room={room}&name=other", bearer(secret))
        assert (status, json.loads(text)["name"]) == (200, alice.username)
        assert (await post(target, bearer("bst_wrong")))[0] == 401

    run_async(part)
    (message,) = models.Message.objects.filter(room__name=room)
    assert (message.account, message.name) == (alice, alice.username)


def test_guests_are_rejected_where_a_login_is_required(room: str) -> None:
    """Where a login is required, guests can neither publish nor subscribe."""
    secret = token(account())

    async def part() -> None:
        for status, text in (
            await post(f"/?room={room}"),
            await http_request("GET", f"/stream?room={room}&poll=1"),
        ):
            assert status == 401 and text.startswith("this site is for accounts only")
        assert (await post(f"/?room={room}", bearer(secret)))[0] == 200
        assert (await http_request("GET", f"/stream?room={room}&poll=1", bearer(secret)))[0] == 200

    with override_settings(BROADCAST_LOGIN="required"):
        run_async(part)


def test_a_ban_holds_for_posts(room: str) -> None:
    """A banned client cannot publish, but a repeated post gets its first response."""
    by = account()

    async def part() -> None:
        target = f"/?room={room}&name=eve&session={SESSION}&id=1"
        status, first = await post(target)
        assert status == 200
        row = await database_sync_to_async(message_log.open_room)(room)
        ban = models.Ban(room=row, name="eve", until=now() + timedelta(hours=1), reason="spam")
        await database_sync_to_async(actions.impose_ban)(ban, by)
        status, text = await post(f"/?room={room}&name=eve-2")
        assert status == 403 and text.startswith("you are banned until ")
        status, again = await post(target)
        assert json.loads(again) == {**json.loads(first), "repeated": True}
        assert (await post(f"/?room={room}&name=bob"))[0] == 200

    run_async(part)


def test_a_closed_room_rejects_posts_and_streams(room: str) -> None:
    """Closing a room ends its streams, and rejects posts and new streams."""
    by = account()

    async def part() -> None:
        async with listening(f"/stream?room={room}") as stream:
            assert (await stream.event() or {})["type"] == "welcome"
            row = await database_sync_to_async(message_log.open_room)(room)
            await database_sync_to_async(actions.close_room)(row, by, "enough")
            last = {"type": "error", "code": "closed", "text": f"{room} is closed: enough"}
            assert await stream.event() == last
            assert await stream.event() is None
        for status, text in (
            await post(f"/?room={room}"),
            await http_request("GET", f"/stream?room={room}"),
        ):
            assert (status, text) == (403, f"{room} is closed: enough\n")

    run_async(part)


def test_a_token_that_is_revoked_ends_its_streams(room: str) -> None:
    """Revoking a token closes the streams of its account."""
    alice = account()
    secret = token(alice)

    async def part() -> None:
        async with listening(f"/stream?room={room}", bearer(secret)) as stream:
            assert (await stream.event() or {})["type"] == "welcome"
            await database_sync_to_async(alice.tokens.all().delete)()
            assert (await stream.event() or {})["code"] == "sign_in"
            assert await stream.event() is None

    run_async(part)


def test_a_subscriber_is_not_listed(room: str) -> None:
    """A subscriber has a row without a name, which is deleted with its stream."""

    def rows() -> list[str]:
        return [each.name for each in models.Member.objects.filter(room__name=room)]

    async def part() -> None:
        async with connected(f"/?name=alice&room={room}") as alice:
            async with listening(f"/stream?room={room}") as stream:
                assert (await stream.event() or {})["members"] == ["alice"]
                assert await database_sync_to_async(rows)() == ["alice", ""]
                await alice.send_to("/who")
                assert await alice.receive_from() == "* 1 here: alice"
                status, text = await post(f"/?room={room}&name=ci&require=2")
                assert (status, json.loads(text)["count"]) == (200, 2)
                assert await alice.receive_from() == "ci: hi"
            status, text = await post(f"/?room={room}&name=ci")
            while json.loads(text)["count"] == 2:  # the stream has not left yet
                status, text = await post(f"/?room={room}&name=ci")

    run_async(part)


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/nonexistent/", "/accounts/", "/Accounts/login/", "/accounts/login//",
        "//accounts/login/", "/accounts/login/x/", "/chat/accounts/login/", "/static/x/",
        "/chat/admin/", "/accounts/reset/a/b/c/",
    ],
)  # fmt: skip
def test_what_is_posted_to_another_page_is_no_message(room: str, path: str) -> None:
    """A password that is posted to a page that does not exist is not published."""

    async def part() -> None:
        for target in (f"{path}?room={room}", f"/prefix{path}?room={room}"):
            status, text = await http_request("POST", target, body=b"password=secret")
            assert status == 404
            assert text.endswith("a message is posted to / or to a prefix of a proxy\n")
        assert await database_sync_to_async(messages)() == 0
        assert (await post(f"/prefix/a/?room={room}"))[0] == 200
        assert await database_sync_to_async(messages)() == 1

    def messages() -> int:
        return models.Message.objects.filter(room__name=room).count()

    run_async(part)


def test_too_much_of_one_address(room: str) -> None:
    """Posts of one address are limited, and the rejection says when to retry."""

    async def part() -> None:
        target = f"/?room={room}"
        for _ in range(20):
            assert (await http_request("POST", target, body=b"x", address="192.0.2.1"))[0] == 200
        status = 200
        for _ in range(20):
            status, text = await http_request("POST", target, body=b"x", address="192.0.2.1")
            if status == 429:
                break
        assert (status, text) == (
            429,
            "more than 1 messages a second from your address, try again later\n",
        )
        assert (await http_request("POST", target, body=b"x", address="192.0.2.2"))[0] == 200

    with override_settings(BROADCAST_RATE=1):
        run_async(part)


def test_many_posts_at_once_are_each_published_once(room: str) -> None:
    """Concurrent posts are logged together, each with its own number and response."""

    async def part() -> None:
        repeats = [
            f"/?room={room}&name=ci&session={SESSION}&id={number % 20}" for number in range(40)
        ]
        answers = [json.loads(text) for _, text in await asyncio.gather(*map(post, repeats))]
        assert sorted(each["seq"] for each in answers) == sorted([*range(1, 21)] * 2)
        assert sum("repeated" in each for each in answers) == 20

    run_async(part)


def test_a_post_whose_client_disconnects_is_published(room: str) -> None:
    """A client that disconnects before its response leaves only its message behind."""

    async def part() -> None:
        node = await application.replicas.get(room)
        waiting = asyncio.ensure_future(
            node.publish(PublishRequest(JoinRequest(room=room), "x", None, 0), None, "t", 9)
        )
        await asyncio.sleep(0)
        waiting.cancel()
        said = await node.publish(
            PublishRequest(JoinRequest(room=room), "y", None, 0), None, "t", 9
        )
        assert isinstance(said, Published) and said.seq == 2
        assert not node._posts

    run_async(part)


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
    """A POST to an account page or the admin is a form, and not a message."""
    assert is_room_request({"method": method, "path": path}) is ours
