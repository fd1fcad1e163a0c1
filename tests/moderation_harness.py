"""Moderation in this process: what there is to moderate, the admin, and the members of a room."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django_client import connected  # it sets Django up

# isort: split

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group, Permission
from django.test import Client as Browser
from django.test.utils import setup_test_environment, teardown_test_environment
from django.utils.timezone import now

from django_site import models
from django_site.accounts.models import Account
from django_site.moderation import actions, group
from django_site.store import message_log, publish

PATIENCE = 10.0
"""Seconds that a test waits for something before it fails."""

numbers = itertools.count(1)
"""What makes the names of rooms and accounts different."""


def new_room() -> models.Room:
    """Create an empty room."""
    return message_log.open_room(f"moderated-{next(numbers)}")


def new_account(*may: str, group: str = "", **fields: Any) -> Account:
    """Create an account with permissions, or with those of a group."""
    account = Account.objects.create(username=f"account {next(numbers)}", **fields)
    account.user_permissions.set(Permission.objects.filter(codename__in=may))
    if group:
        account.groups.add(Group.objects.get(name=group))
    return account


def log_messages(
    room: models.Room, *texts: str, name: str = "bob", account: Account | None = None
) -> list[models.Message]:
    """Log messages of an author, and return their rows."""
    key = None if account is None else account.pk
    drafts = [
        message_log.PendingMessage(name, text, "s", f"{next(numbers)}", key) for text in texts
    ]
    logged = [each.seq for each in publish.append(room.pk, drafts, unsure=False)[0].logged]
    return list(models.Message.objects.filter(room=room, seq__in=logged).order_by("seq"))


def imposed(by: Account, long: timedelta = timedelta(hours=1), **of: Any) -> models.Ban:
    """Impose a ban of a name or an account."""
    ban = models.Ban(until=now() + long, **of)
    actions.impose_ban(ban, by)
    return ban


def last_record() -> tuple[str, str, str, str]:
    """Return the last record: the moderator, the action, its subject and the reason."""
    last = models.Record.objects.all()[0]
    return last.by_name, last.action, last.subject, last.reason


@pytest.fixture(scope="module", autouse=True)
def pages() -> Iterator[None]:
    """Let responses keep the contexts of their templates."""
    setup_test_environment()
    yield
    teardown_test_environment()


@pytest.fixture
def dana() -> Account:
    """An account with the permissions of moderators, and no others."""
    return new_account(group=group.GROUP, is_staff=True)


def signed_in(account: Account) -> Browser:
    """Return a browser in which *account* is signed in."""
    browser = Browser()
    browser.force_login(account)
    return browser


ADMIN = "/admin/django_site"


def page(browser: Browser, path: str, status: int = 200, **query: str) -> str:
    """Return a page of the admin."""
    found = browser.get(f"{ADMIN}/{path}", query)
    assert found.status_code == status, found.content[:500]
    return str(found.content, "utf-8")


def act(browser: Browser, path: str, *keys: int, reason: str = "") -> int:
    """Do an action on rows by sending its form, and return the status."""
    query = urlencode([("pk", key) for key in keys])
    return browser.post(f"{ADMIN}/{path}/?{query}", {"reason": reason}).status_code


class RoomClient:
    """A client in this process that returns one line at a time."""

    def __init__(self, one: WebsocketCommunicator) -> None:
        self._one = one
        self._lines: deque[str] = deque()

    async def line(self) -> str:
        """Return the next line. Raises EOFError with the close code at the end."""
        while not self._lines:
            output = await self._one.receive_output(timeout=PATIENCE)
            if output["type"] == "websocket.close":
                assert len(output["reason"].encode()) <= 123, "as many as a close frame takes"
                raise EOFError(output["code"])
            self._lines.extend(output["text"].split("\n"))
        return self._lines.popleft()

    async def event(self) -> dict[str, Any]:
        """Return the next line of JSON."""
        event: dict[str, Any] = json.loads(await self.line())
        return event

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Return the next lines of JSON."""
        return [await self.event() for _ in range(count)]

    async def send(self, frame: str) -> None:
        """Send a frame."""
        await self._one.send_to(frame)

    async def close_code(self) -> int:
        """Return the code with which the connection is closed now."""
        with pytest.raises(EOFError) as end:
            await self.line()
        return int(end.value.args[0])


@asynccontextmanager
async def in_room(
    room: models.Room,
    name: str,
    more: str = "",
    *,
    text: bool = False,
    token: str | None = None,
    address: str | None = None,
) -> AsyncIterator[RoomClient]:
    """Connect to a room from *address*, as a guest or with a token."""
    headers = () if token is None else ((b"authorization", b"Bearer " + token.encode()),)
    target = f"/?{urlencode({'room': room.name, 'name': name})}{more}"
    async with connected(target, as_json=not text, headers=headers, address=address) as one:
        yield RoomClient(one)


def in_thread(what: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Call a blocking function in a thread, like a view of the admin."""
    return database_sync_to_async(what)(*arguments, **more)


async def rejection(
    room: models.Room,
    name: str,
    token: str | None = None,
    more: str = "",
    address: str | None = None,
) -> tuple[str, int] | None:
    """Try to join. Returns the error and the close code, None if the client is welcome."""
    async with in_room(room, name, more, token=token, address=address) as one:
        first = await one.event()
        return None if first["type"] == "welcome" else (first["code"], await one.close_code())
