"""Moderation: the actions, their permissions in the admin, and what clients see of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django_client import connected, run_async  # it sets Django up

# isort: split

import pytest
from channels import layers
from channels.db import database_sync_to_async
from channels.layers import InMemoryChannelLayer
from channels.testing import WebsocketCommunicator
from conftest import DAPHNE, ROOT, Processes
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.test import Client as Browser
from django.test.utils import (
    CaptureQueriesContext,
    override_settings,
    setup_test_environment,
    teardown_test_environment,
)
from django.utils.timezone import now
from programs import listening, running
from site_member import RecordingSink, join, members, until

from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Message, MessageHidden
from django_site import models
from django_site.accounts.models import Account, Token
from django_site.accounts.name_key import stored_key
from django_site.asgi import application
from django_site.moderation import actions, group
from django_site.store import message_log, presence, publish

PATIENCE = 10.0
"""Seconds that a test waits for something before it fails."""

_numbers = itertools.count(1)


def new_room() -> models.Room:
    """Create an empty room."""
    return message_log.open_room(f"moderated-{next(_numbers)}")


def new_account(*may: str, group: str = "", **fields: Any) -> Account:
    """Create an account with permissions, or with those of a group."""
    account = Account.objects.create(username=f"account {next(_numbers)}", **fields)
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
        message_log.PendingMessage(name, text, "s", f"{next(_numbers)}", key) for text in texts
    ]
    numbers = [each.seq for each in publish.append(room.pk, drafts, unsure=False)[0].logged]
    return list(models.Message.objects.filter(room=room, seq__in=numbers).order_by("seq"))


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


# -- permissions --


def test_the_group_of_moderators() -> None:
    """The site creates a group with the moderators' permissions, and does not change it later."""
    made = Group.objects.get(name=group.GROUP)
    assert {each.codename for each in made.permissions.all()} == set(group.PERMISSIONS)
    made.permissions.remove(Permission.objects.get(codename="add_ban"))
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    assert made.permissions.count() == len(group.PERMISSIONS) - 1, "what someone changed stays"
    made.permissions.add(Permission.objects.get(codename="add_ban"))


@pytest.mark.parametrize(
    ("table", "name", "permission"),
    [
        ("message", "hide", "change_message"),
        ("message", "unhide", "change_message"),
        ("room", "close", "change_room"),
        ("room", "reopen", "change_room"),
        ("ban", "lift", "change_ban"),
        ("ban", "add", "add_ban"),
    ],
)
def test_each_action_needs_its_permission(table: str, name: str, permission: str) -> None:
    """A button is shown only with its permission, and its page is forbidden without."""
    room = new_room()
    shown, hidden = log_messages(room, "one", "two")
    moderator = new_account(is_superuser=True)
    actions.hide([hidden], moderator)
    ban = imposed(moderator, name="bob", room=room)
    row = {"message": hidden if name == "unhide" else shown, "room": room, "ban": ban}[table]
    if name == "reopen":
        actions.close_room(room, moderator)
    without = [each for each in group.PERMISSIONS if each != permission]
    button = f"{ADMIN}/{table}/{name}/"
    for may in (without, group.PERMISSIONS):
        browser = signed_in(new_account(*may, is_staff=True))
        seen = page(browser, f"{table}/") + page(browser, f"{table}/{row.pk}/change/")
        if name == "add":  # the links to it are at the messages
            listed, read = page(browser, "message/"), page(browser, f"message/{shown.pk}/change/")
            assert (button in listed) == (button in read) == (permission in may)
        allowed = permission in may
        assert (button in seen) == allowed
        if name != "add":
            assert (f'<option value="{name}">' in seen) == allowed
        records = models.Record.objects.count()
        path = f"{table}/{name}/"
        assert browser.get(f"{ADMIN}/{path}?pk={row.pk}").status_code == (200 if allowed else 403)
        if not allowed:
            assert act(browser, f"{table}/{name}", row.pk) == 403
            data = {"action": name, "_selected_action": row.pk}
            browser.post(f"{ADMIN}/{table}/", data, follow=True)
            assert models.Record.objects.count() == records
    assert page(signed_in(new_account(*group.PERMISSIONS)), "", 302) == "", "staff only"


@pytest.mark.parametrize("table", ["message", "room", "record", "ban"])
def test_rows_cannot_be_edited_or_deleted(table: str, dana: Account) -> None:
    """Not even a superuser can edit or delete rows in the admin, or add any but bans."""
    room = new_room()
    message = log_messages(room, "hi")[0]
    ban = imposed(dana, name="eve", room=room)
    record = models.Record.objects.all()[0]
    row: Any = {"message": message, "room": room, "record": record, "ban": ban}[table]
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    assert 'type="submit" value="Save"' not in page(browser, f"{table}/{row.pk}/change/")
    before = type(row).objects.filter(pk=row.pk).values()[0]
    for path in (f"{row.pk}/change/", f"{row.pk}/delete/"):
        data = {"post": "yes", "name": "x", "text": "x", "reason": "x"}
        assert browser.post(f"{ADMIN}/{table}/{path}", data).status_code == 403
    browser.post(f"{ADMIN}/{table}/", {"action": "delete_selected", "_selected_action": row.pk})
    assert type(row).objects.filter(pk=row.pk).values()[0] == before
    page(browser, f"{table}/add/", 200 if table == "ban" else 403)
    assert page(browser, f"{table}/99999999/change/", 404)


# -- the archive --


def room_with_messages() -> tuple[models.Room, Account]:
    """Create a room with messages to search for."""
    room, account = new_room(), new_account()
    moderator = new_account()
    log_messages(room, "the disk is full")
    log_messages(room, "which disk?", name="BOB")
    log_messages(room, "the one in build-3", name="Zoë")
    actions.hide(log_messages(room, "cheap disks"), moderator)
    log_messages(room, "pruned", name="as it was called", account=account)
    long_ago = now() - timedelta(days=3)
    models.Message.objects.filter(room=room, seq=1).update(at=long_ago)
    return room, account


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"q": "DISK"}, [4, 2, 1]),
        ({"q": "disk full"}, [1]),
        ({"name": "bob"}, [4, 2, 1]),
        ({"name": "ZOË"}, [3]),
        ({"name": "{account}"}, [5]),
        ({"name": "nobody"}, []),
        ({"since": "{yesterday}"}, [5, 4, 3, 2]),
        ({"before": "{yesterday}"}, [1]),
        ({"hidden": "yes"}, [4]),
        ({"hidden": "no", "q": "disk"}, [2, 1]),
        ({"since": "soon"}, []),
        ({"hidden": "perhaps"}, []),
    ],
)
def test_the_archive_is_searched(query: dict[str, str], found: list[int], dana: Account) -> None:
    """Messages are found by room, name in any case, account, words, time and state."""
    room, account = room_with_messages()
    yesterday = f"{now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
    words = {"account": account.username.upper(), "yesterday": yesterday}
    asked = {key: value.format(**words) for key, value in query.items()}
    seen = signed_in(dana).get(f"{ADMIN}/message/", {**asked, "room": room.name.upper()})
    assert [each.seq for each in seen.context["cl"].result_list] == found


def test_the_archive_over_all_rooms(dana: Account) -> None:
    """Without a room, the newest messages of all rooms are first. An unknown room has none."""
    messages = [log_messages(new_room(), "hi")[0].pk for _ in range(3)]
    browser = signed_in(dana)
    listed = browser.get(f"{ADMIN}/message/").context["cl"].result_list
    assert [each.pk for each in listed[:3]] == messages[::-1]
    assert "nothing found" in page(browser, "message/", room="not-there")


def test_the_archive_is_read_by_pages_and_never_counted(dana: Account) -> None:
    """Each page links to its neighbours, with a constant number of queries and without COUNT."""
    room = new_room()
    numbers = [each.seq for each in log_messages(room, *(f"line {n}" for n in range(250)))]
    browser = signed_in(dana)
    for number, ways in ((1, {"2"}), (2, {"1", "3"}), (3, {"2"})):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            seen = browser.get(f"{ADMIN}/message/", {"room": room.name, "p": str(number)})
        listed = [each.seq for each in seen.context["cl"].result_list]
        assert listed == numbers[::-1][(number - 1) * 100 : number * 100]
        html = str(seen.content, "utf-8")
        assert {p for p in "0123" if f'href="?p={p}&amp;room={room.name}"' in html} == ways
        assert not [each for each in queries if "COUNT(" in each["sql"]]
        assert len(queries) <= 8


def test_a_message_is_shown_in_context_and_escaped(dana: Account) -> None:
    """A message is shown with those before and after it, and its text is escaped."""
    room, account = new_room(), new_account()
    log_messages(room, *(f"before {n}" for n in range(11)))
    text = "<script>x</script>\nbob: fine \u202eevil\u202c \x1b[31m\0 " + "long " * 100 + "end"
    message = log_messages(room, text, name="<b>", account=account)[0]
    log_messages(room, *(f"after {n}" for n in range(11)))
    seen = page(signed_in(dana), f"message/{message.pk}/change/")
    assert "&lt;script&gt;x&lt;/script&gt;" in seen and "<script>x" not in seen
    assert r"fine \u202eevil\u202c \u001b[31m\u0000 " in seen
    assert "end</p>" in seen and "<p>bob: fine" in seen
    assert f'&lt;b&gt; <span class="account" title="account {account}">' in seen
    for number in range(11):
        assert (f">before {number}<" in seen) == (number > 0)
        assert (f">after {number}<" in seen) == (number < 10)
    listed = page(signed_in(dana), "message/", room=room.name)
    assert "&lt;script&gt;x&lt;/script&gt; ⏎ bob: fine" in listed and "end<" not in listed
    assert "\u202e" not in seen + listed


def test_messages_are_hidden_and_shown_again(dana: Account) -> None:
    """Messages selected in the list are hidden with a reason and a record, and shown again."""
    room = new_room()
    one, two, three = log_messages(room, "one", "two", "three")
    browser = signed_in(dana)
    url = f"{ADMIN}/message/?room={room.name}"
    # A forged request that claims to select the rows of all pages.
    data = {"action": "hide", "_selected_action": [one.pk, two.pk], "select_across": "1"}
    asked = browser.post(url, data)
    assert asked.status_code == 302
    why = str(browser.get(asked["Location"]).content, "utf-8")
    assert f"{room} 1, bob: one" in why and f"{room} 2, bob: two" in why and "three" not in why
    assert models.Message.objects.filter(room=room, edit=None).count() == 3
    done = browser.post(asked["Location"], {"reason": "spam"})
    assert done["Location"] == url
    assert message_log.read(room.pk, 0, 9) == [
        MessageHidden(1, one.client_id),
        MessageHidden(2, two.client_id),
    ] + [each for each in message_log.read(room.pk, 2, 9) if isinstance(each, Message)]
    assert last_record() == (dana.username, "hide", f"{room} 2, bob: two", "spam")
    assert "Hide: 2 messages" in str(browser.get(url).content, "utf-8")
    # A message that is hidden already is not changed.
    assert act(browser, "message/hide", one.pk, three.pk) == 302
    assert [each.seq for each in message_log.read_hidden(room.pk, 0, 99)] == [1, 2, 3]
    assert act(browser, "message/unhide", one.pk, reason="by mistake") == 302
    assert isinstance(message_log.read(room.pk, 0, 1)[0], Message)
    assert last_record() == (dana.username, "unhide", f"{room} 1, bob: one", "by mistake")


def test_a_rolled_back_action_changes_nothing(dana: Account) -> None:
    """After a rollback no message is hidden, and there is no record."""
    room = new_room()
    message = log_messages(room, "one")[0]
    records = models.Record.objects.count()
    with transaction.atomic():
        assert actions.hide([message], dana) == 1
        transaction.set_rollback(True)
    assert isinstance(message_log.read(room.pk, 0, 1)[0], Message)
    assert models.Record.objects.count() == records


# -- rooms, bans, records --


def test_rooms_are_closed_and_opened_again(dana: Account) -> None:
    """The list shows the members and messages of a room. Closing and opening it is recorded."""
    room = new_room()
    log_messages(room, "hi")
    presence.join(room.pk, "elsewhere", [presence.JoinAttempt(JoinRequest(name="bob"), "t")])
    browser = signed_in(dana)
    listed = browser.get(f"{ADMIN}/room/", {"q": room.name}).context["cl"].result_list
    assert [(each.head, each.here) for each in listed] == [(1, 1)]
    assert "1: bob" in page(browser, f"room/{room.pk}/change/")
    assert act(browser, "room/close", room.pk, reason="exam") == 302
    room.refresh_from_db()
    assert room.closed is not None and room.closed_why == "exam"
    assert last_record() == (dana.username, "close", f"room {room}", "exam")
    for state, wanted in (("closed", [room]), ("open", [])):
        query = {"q": room.name, "state": state}
        assert [*browser.get(f"{ADMIN}/room/", query).context["cl"].result_list] == wanted
    assert act(browser, "room/reopen", room.pk) == 302
    room.refresh_from_db()
    assert room.closed is None
    assert last_record()[:3] == (dana.username, "reopen", f"room {room}")
    presence.remove_process("elsewhere")


def test_a_ban_from_a_message(dana: Account) -> None:
    """The link at a message opens a form with the author and the room, which imposes the ban."""
    room, account = new_room(), new_account()
    browser = signed_in(dana)
    for message in (
        log_messages(room, "x")[0],
        log_messages(room, "y", name=account.username, account=account)[0],
    ):
        way = browser.get(f"{ADMIN}/message/{message.pk}/change/").context["tools"][-1][0]
        form = browser.get(way).context["adminform"].form
        data = {**form.initial, "how_long": "1 week", "reason": "spam"}
        assert browser.post(way, data).status_code == 302
        ban = models.Ban.objects.all()[0]
        assert (ban.account, ban.name) == (
            (None, "bob") if message.account is None else (account, "")
        )
        assert ban.room == room
        assert timedelta(days=6) < ban.until - now() < timedelta(days=8)
        assert last_record() == (dana.username, "ban", str(ban), "spam")
        assert act(browser, "ban/lift", ban.pk, reason="sorry") == 302


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({}, "enter a name or an account"),
        ({"name": "bob", "account": "{account}"}, "enter a name or an account"),
        ({"name": "a:b"}, "colon"),
        ({"name": "{account}"}, "is an account"),
        ({"account": "not there"}, "there is no account called not there"),
        ({"name": "bob", "room": "not-there"}, "there is no room called not-there"),
        ({"name": "bob", "how_long": "until"}, "enter a time in the future"),
        ({"name": "bob", "how_long": "until", "until": "2001-01-01T00:00"}, "a time in the future"),
        ({"name": "bob", "how_long": "until", "until": "9999-12-31T23:59"}, "within 10 years"),
        ({"name": "bob", "how_long": "until", "until": "9999-12-31T23:59-12:00"}, "within 10 y"),
        ({"name": "bob", "how_long": "until", "until": "0001-01-01T00:00+12:00"}, "the future"),
        ({"name": "bob", "how_long": "until", "until": "2999-01-01T00:00+99:99"}, "valid date"),
        ({"name": "bob", "how_long": "until", "until": "\0"}, "valid date"),
        ({"name": "bob\0"}, "Null characters"),
        ({"account": "bob\0"}, "Null characters"),
        ({"name": "bob", "room": "a\0"}, "Null characters"),
        ({"name": "bob", "reason": "a\0"}, "Null characters"),
        ({"name": "bob", "how_long": "for ever"}, "not one of the available"),
    ],
)
def test_an_invalid_ban_is_rejected(asked: dict[str, str], error: str, dana: Account) -> None:
    """A ban without a valid name or account, room or end is rejected with an error in the form."""
    account, bans = new_account(), models.Ban.objects.count()
    data = {key: value.format(account=account.username) for key, value in asked.items()}
    seen = signed_in(dana).post(f"{ADMIN}/ban/add/", {"how_long": "1 hour", **data})
    assert seen.status_code == 200
    assert error in str(seen.context["adminform"].form.errors)
    assert models.Ban.objects.count() == bans


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "UTC"])
def test_a_ban_until_the_end_of_the_calendar_is_listed(zone: str, dana: Account) -> None:
    """A ban that a program has imposed without an end can be read and lifted in any time zone."""
    name, end = f"far-{next(_numbers)}", datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
    ban = models.Ban(name=name, until=end)
    actions.impose_ban(ban, dana)
    browser = signed_in(dana)
    with override_settings(TIME_ZONE=zone):
        assert name in page(browser, "ban/", q=name)
        assert name in page(browser, f"ban/{ban.pk}/change/")
        assert act(browser, "ban/lift", ban.pk) == 302
        assert "lifted" in page(browser, "ban/", q=name)


def test_bans_are_listed_with_their_state(dana: Account) -> None:
    """A ban is active, over or lifted, and the list can be filtered by that."""
    room = new_room()
    bans = {
        "active": imposed(dana, name="a", room=room),
        "over": imposed(dana, timedelta(hours=-1), name="b", room=room),
        "lifted": imposed(dana, name="c", room=room),
    }
    browser = signed_in(dana)
    assert act(browser, "ban/lift", *(each.pk for each in bans.values())) == 302
    assert act(browser, "ban/lift", bans["active"].pk) == 302
    again = bans["again"] = imposed(dana, name="d", room=room)
    for state, wanted in (("active", "d"), ("over", "b"), ("lifted", "ca")):
        listed = browser.get(f"{ADMIN}/ban/", {"state": state}).context["cl"].result_list
        assert [each.name for each in listed if each.room == room] == [*wanted]
    assert last_record()[:3] == (dana.username, "ban", str(again))


def test_records_are_found(dana: Account) -> None:
    """Records are found by moderator, subject and reason."""
    room = new_room()
    actions.hide(log_messages(room, "watches"), dana, "advert")
    browser = signed_in(dana)
    for words in (f"{room} watches", "advert", f'"{dana.username}"'):
        found = browser.get(f"{ADMIN}/record/", {"q": words}).context["cl"].result_list
        assert [each.subject for each in found] == [f"{room} 1, bob: watches"]
    assert "watches" in page(browser, f"record/{found[0].pk}/change/")


# -- accounts --


def test_an_account_goes_and_what_it_did_stays(dana: Account) -> None:
    """Deleting an account deletes its bans, and keeps its messages and records."""
    room, account = new_room(), new_account()
    message = log_messages(room, "hi", name=account.username, account=account)[0]
    actions.hide([message], account)
    ban = imposed(dana, account=account)
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    url = f"/admin/accounts/account/{account.pk}/delete/"
    assert browser.post(url, {"post": "yes"}).status_code == 302
    assert not Account.objects.filter(pk=account.pk).exists()
    message.refresh_from_db()
    assert (message.account, message.name) == (None, account.username)
    assert models.Record.objects.get(action="hide", subject__contains=room.name).by is None
    assert not models.Ban.objects.filter(pk=ban.pk).exists()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ﬁnn", ""),
        ("a:b", "colon"),
        ("Account {number}", "taken"),
        ("ａccount {number}", "too similar to another"),
    ],
)
def test_a_new_account(name: str, error: str) -> None:
    """A new account keeps the spelling of its name, which must be valid and unlike any other."""
    number = new_account().username.split()[1]
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    data = {"username": name.format(number=number), "usable_password": "true"}
    data["password1"] = data["password2"] = "correct horse 9"
    made = browser.post("/admin/accounts/account/add/", data)
    if error:
        assert error in str(made.context["adminform"].form.errors)
    else:
        assert made.status_code == 302
        account = Account.objects.get(username=name)
        url = f"/admin/accounts/account/{account.pk}/change/"
        form = browser.get(url).context["adminform"].form
        changed = {**form.initial, "email": "x@example.org", "groups": [], "user_permissions": []}
        data = {key: value for key, value in changed.items() if value is not None}
        assert browser.post(url, data).status_code == 302
        account.refresh_from_db()
        assert (account.username, account.email) == (name, "x@example.org")
        account.delete()


def test_tokens_are_revoked_and_not_seen() -> None:
    """Tokens are listed without their secrets, and can be revoked."""
    token, secret = Token.make(new_account(), "laptop")
    browser = signed_in(new_account(is_superuser=True, is_staff=True))
    url = f"/admin/accounts/token/{token.pk}"
    for path in ("/admin/accounts/token/", f"{url}/change/"):
        seen = str(browser.get(path).content, "utf-8")
        assert "laptop" in seen and token.digest not in seen and secret not in seen
    assert browser.get("/admin/accounts/token/add/").status_code == 403
    assert browser.post(f"{url}/delete/", {"post": "yes"}).status_code == 302
    assert Token.account_of(secret) is None


# -- live, in this process --


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
    room: models.Room, name: str, more: str = "", *, text: bool = False, token: str | None = None
) -> AsyncIterator[RoomClient]:
    """Connect to a room, as a guest or with a token."""
    headers = () if token is None else ((b"authorization", b"Bearer " + token.encode()),)
    target = f"/?{urlencode({'room': room.name, 'name': name})}{more}"
    async with connected(target, as_json=not text, headers=headers) as one:
        yield RoomClient(one)


def in_thread(what: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Call a blocking function in a thread, like a view of the admin."""
    return database_sync_to_async(what)(*arguments, **more)


async def rejection(
    room: models.Room, name: str, token: str | None = None
) -> tuple[str, int] | None:
    """Try to join. Returns the error and the close code, None if the client is welcome."""
    async with in_room(room, name, token=token) as one:
        first = await one.event()
        return None if first["type"] == "welcome" else (first["code"], await one.close_code())


def test_a_hidden_message_live(dana: Account) -> None:
    """JSON clients get the event at once and in history at its place; text clients get neither."""
    room = new_room()

    async def part() -> None:
        async with in_room(room, "j") as j, in_room(room, "t", text=True) as t:
            assert [each["type"] for each in await j.events(2)] == ["welcome", "joined"]
            for number in (1, 2, 3):
                await j.send(f'{{"type":"say","text":"line {number}","id":"id{number}"}}')
                assert (await j.event())["seq"] == number
                assert await t.line() == f"j: line {number}"
            rows = await in_thread(
                lambda: list(models.Message.objects.filter(room=room, seq__gte=2))
            )
            await in_thread(actions.hide, rows[:1], dana)
            hidden = {"type": "hidden", "seq": 2, "id": "id2"}
            assert await run_within(j.event(), 0.5) == hidden
            await t.send("/who")
            assert await t.line() == "* 2 here: j, t"
            async with in_room(room, "late", "&history=9") as late:
                welcome, *events = await late.events(4)
                assert [each.get("text") for each in events] == ["line 1", None, "line 3"]
                assert events[1] == hidden
            async with in_room(room, "old", "&history=9", text=True) as old:
                assert [await old.line(), await old.line()] == ["j: line 1", "j: line 3"]
            # The numbers have no gap: hidden messages count.
            cursor = f"&since={welcome['epoch']}.1"
            async with in_room(room, "back", cursor) as back:
                _, *events = await back.events(3)
                assert [each["seq"] for each in events] == [2, 3]

    run_async(part)


def test_a_message_is_hidden_before_it_was_read(dana: Account) -> None:
    """A client that was not sent the message yet gets only, and once, that it is hidden."""
    room = new_room()

    def at_once() -> None:
        with transaction.atomic():
            message = log_messages(room, "gone")[0]
            actions.hide([message], dana)
            log_messages(room, "stays")

    async def part() -> None:
        async with in_room(room, "j") as j, in_room(room, "t", text=True) as t:
            await j.events(2)
            await in_thread(at_once)
            hidden, message = await j.events(2)
            assert (hidden["type"], hidden["seq"]) == ("hidden", 1)
            assert (message["type"], message["seq"]) == ("message", 2)
            assert await t.line() == "bob: stays"
            await j.send('{"type":"ping","id":"p"}')
            assert (await j.event())["type"] == "pong", "it was told once"

    run_async(part)


def test_a_message_is_hidden_from_who_is_behind(dana: Account) -> None:
    """A slow member does not keep a message that was hidden meanwhile, and sees no gap."""
    room = new_room()
    gate = asyncio.Event()
    lines: list[dict[str, Any]] = []

    async def part() -> None:
        incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        accepted = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "websocket.accept":
                accepted.set()
                return
            await gate.wait()
            if message["type"] == "websocket.send":
                lines.extend(json.loads(line) for line in message["text"].split("\n"))

        query = f"room={room.name}&name=slow".encode()
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": query,
            "headers": [(b"host", b"testserver")],
            "subprotocols": ["broadcast.v1.json"],
        }
        incoming.put_nowait({"type": "websocket.connect"})
        slow = asyncio.ensure_future(application(scope, incoming.get, send))
        await accepted.wait()
        async with in_room(room, "j") as j:
            await j.event()
            for number in range(40):
                await j.send(json.dumps({"type": "say", "text": f"{number} " + "x" * 4000}))
                await j.event()
            rows = await in_thread(lambda: list(models.Message.objects.filter(room=room)))
            await in_thread(actions.hide, [rows[1], rows[39]], dana)
            assert [(await j.event())["seq"] for _ in range(2)] == [2, 40]
            gate.set()
            heard: list[int] = []
            while 40 not in heard:
                await asyncio.sleep(0.01)
                heard = [each["seq"] for each in lines if each["type"] in ("message", "hidden")]
            first = list(dict.fromkeys(heard))
            assert first == list(range(1, 41))
            messages = [each["seq"] for each in lines if each["type"] == "message"]
            hidden = [each["seq"] for each in lines if each["type"] == "hidden"]
            assert 40 not in messages, "it was read from the log, where it is hidden"
            assert set(hidden) == {2, 40}
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await slow

    run_async(part)


def test_a_room_is_closed_live(dana: Account) -> None:
    """Closing a room disconnects everyone with 4503 and the reason, and rejects joins."""
    room = new_room()
    why = "exam, back at ten " * 11  # more than fits into a close frame

    async def part() -> None:
        async with in_room(room, "j") as j, in_room(room, "t", text=True) as t:
            await j.events(2)
            await in_thread(actions.close_room, room, dana, why)
            text = f"{room} is closed: {why.strip()}"
            assert await j.event() == {"type": "error", "code": "closed", "text": text}
            assert await j.close_code() == 4503
            assert await t.line() == f"* {text}"
            assert await t.close_code() == 4503
            assert await rejection(room, "late") == ("closed", 4503)
            assert await in_thread(presence.read_present, room.pk) == ()
        await in_thread(actions.reopen_room, room, dana)
        assert await rejection(room, "late") is None

    run_async(part)


def test_a_ban_live(dana: Account) -> None:
    """A banned member is told the end and the reason, and closed; others go on chatting."""
    room = new_room()

    async def part() -> None:
        async with (
            in_room(room, "w") as w,
            in_room(room, "Bob") as bob,
            in_room(room, "bob") as two,
        ):
            async with in_room(room, "bobby") as bobby, in_room(room, "t", text=True) as t:
                assert (await two.event())["name"] == "bob-2"
                await bob.events(4)
                await w.events(5)
                ban = await in_thread(imposed, dana, name="BOB", key="", room=room, reason="spam")
                text = f"you are banned until {ban.until:%Y-%m-%d %H:%M} UTC: spam"
                assert await bob.event() == {"type": "error", "code": "banned", "text": text}
                assert await bob.close_code() == 4503
                await two.events(2)
                assert (await two.event())["code"] == "banned"
                assert [each["name"] for each in await w.events(2)] == ["Bob", "bob-2"]
                await bobby.send('{"type":"say","text":"hi"}')
                assert (await w.event())["text"] == "hi"
                while (line := await t.line()) != "bobby: hi":
                    assert line in ("Bob left the chat", "bob-2 left the chat")

    run_async(part)


@pytest.mark.parametrize(
    ("banned", "refused", "welcome"),
    [
        (
            {"name": "bob"},
            [
                *("bob", "BoB", "ｂｏｂ", "bob-2", "bob-17", "bob\uff0d2", "bob-\u00b2", "bob-2-2"),
                *("bob\u20142", "bob--2", "BOB \u2212 1o", "b0b", "\u0299\u1d0f\u0299", "bob-"),
                "\u0392\u039f\u0392",
            ],
            ["bobby", "bob-x", "b", "bob 2", "bob2"],
        ),
        ({"name": "bob-2"}, ["bob-2", "bob-2-3", "BOB\u20102"], ["bob", "bob-3", "bob-22"]),
        ({"name": "x" * 32}, ["x" * 30 + "-2", "X" * 26 + "-2-2-2"], ["x" * 31, "x" * 12 + "-2"]),
        ({"name": "bob", "room": "here"}, ["bob"], []),
        ({"name": "bob", "room": "elsewhere"}, [], ["bob"]),
        ({"name": "bob", "long": timedelta(seconds=-1)}, [], ["bob"]),
        ({"name": "ﷺ" * 32}, ["ﷺ" * 32], ["ﷺ" * 31]),
    ],
)
def test_which_names_a_ban_applies_to(
    banned: dict[str, Any], refused: list[str], welcome: list[str], dana: Account
) -> None:
    """A ban applies to every spelling and number of the name, in its room and until its end."""
    room, elsewhere = new_room(), new_room()
    rooms = {"here": room, "elsewhere": elsewhere, None: None}
    ban = imposed(dana, **{**banned, "room": rooms[banned.get("room")]})

    async def part() -> None:
        for name in refused:
            assert await rejection(room, name) == ("banned", 4503), name
        for name in welcome:
            assert await rejection(room, name) is None, name
        await in_thread(actions.lift_ban, ban, dana)
        for name in refused:
            assert await rejection(room, name) is None, name

    run_async(part)


def test_a_banned_number_is_given_to_nobody(dana: Account) -> None:
    """A client that asks for bob is called bob-3 if bob is taken and bob-2 is banned."""
    room = new_room()
    imposed(dana, name="bob-2", room=room)

    async def part() -> None:
        async with in_room(room, "bob") as bob, in_room(room, "bob") as other:
            assert (await bob.event())["name"] == "bob"
            assert (await other.event())["name"] == "bob-3"

    run_async(part)


def test_a_rename_to_an_unavailable_name(dana: Account) -> None:
    """A guest cannot rename to a banned name or an account's, and an account to no other name."""
    room, account = new_room(), new_account()
    _, secret = Token.make(account, "t")
    ban = imposed(dana, name="bob", room=room, reason="spam")
    owned = "your name is that of your account"

    async def asks(one: RoomClient, name: str) -> list[str]:
        await one.send(json.dumps({"type": "name", "name": name, "id": "n"}))
        event = await one.event()
        assert event["type"] == "renamed" or event["id"] == "n"
        return [*event.values()][1:3]

    async def part() -> None:
        async with in_room(room, "a") as one, in_room(room, "x", token=secret) as other:
            await one.events(2)
            await other.event()
            for name in ("Bob", "bob-2"):
                text = f"{name} is banned until {ban.until:%Y-%m-%d %H:%M} UTC: spam"
                assert await asks(one, name) == ["banned", text]
            name = account.username.upper()
            assert await asks(one, name) == ["name_owned", f"{name} is the name of an account"]
            assert await asks(one, "bobby") == ["a", "bobby"]
            assert await other.event() == {"type": "renamed", "name": "a", "to": "bobby"}
            for name in ("x", account.username.upper()):
                assert await asks(other, name) == ["name_owned", owned]
            same = {"type": "renamed", "name": account.username, "to": account.username}
            await other.send(json.dumps({"type": "name", "name": account.username}))
            assert await other.event() == {**same, "verified": True}

    run_async(part)


def test_an_account_is_banned(dana: Account) -> None:
    """A ban of an account closes all its connections, and no guest with a similar name."""
    room, account = new_room(), new_account()
    _, secret = Token.make(account, "t")
    ban = models.Ban(account=account, until=now() + timedelta(hours=1))

    async def part() -> None:
        name = account.username
        async with in_room(room, "x", token=secret) as one, in_room(room, name) as alike:
            assert (await one.event())["name"] == name
            assert (await alike.event())["name"] == f"{name}-2"
            await one.event()
            await in_thread(actions.impose_ban, ban, dana)
            assert (await one.event())["code"] == "banned"
            assert await one.close_code() == 4503
            assert await rejection(room, "x", secret) == ("banned", 4503)
            assert (await alike.event())["type"] == "left"
            assert await rejection(room, name) is None
            await in_thread(actions.lift_ban, ban, dana)
            assert await rejection(room, "x", secret) is None

    run_async(part)


def test_a_name_is_free_at_once(dana: Account) -> None:
    """The name of a removed member is free at once, and everyone sees it leave and join."""
    room = new_room()

    def change() -> str:
        with transaction.atomic():  # so that the replica reads both at once
            actions.lift_ban(imposed(dana, name="bob", room=room), dana)
            newcomer = presence.JoinAttempt(JoinRequest(name="bob"), "new")
            (name,) = presence.join(room.pk, "elsewhere", [newcomer])
            return str(name)

    async def part() -> None:
        async with in_room(room, "w") as w, in_room(room, "bob") as bob:
            await w.events(2)
            assert await in_thread(change) == "bob"
            left, joined = await w.events(2)
            assert (left["type"], left["count"]) == ("left", 1)
            assert (joined["type"], joined["name"], joined["count"]) == ("joined", "bob", 2)
            await bob.event()
            assert (await bob.event())["code"] == "banned"
        await in_thread(presence.remove_process, "elsewhere")

    run_async(part)


class HangingLayer(InMemoryChannelLayer):
    """A channel layer whose sends never complete."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Hang."""
        await asyncio.Event().wait()


def test_an_account_takes_its_name_while_the_channel_layer_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hanging channel layer delays no join, not even one that removes a guest."""
    room = new_room()

    async def part() -> None:
        monkeypatch.setitem(layers.channel_layers.backends, "default", HangingLayer())
        async with in_room(room, "newbie") as other:
            await other.event()
            # As if both joined at once: the signal has not removed the guest.
            account = Account(username="newbie", key=stored_key("newbie"))
            await in_thread(Account.objects.bulk_create, [account])
            _, secret = await in_thread(Token.make, account, "t")
            begin = time.monotonic()
            async with in_room(room, "x", token=secret) as owner:
                assert (await owner.event())["name"] == "newbie"
            assert time.monotonic() - begin < 2

    run_async(part)


# -- across processes --

SCRIPT = """
import os, signal
from datetime import timedelta
from django.db import transaction
from django.utils.timezone import now
from django_site import models
from django_site.moderation import actions
from django_site.accounts.models import Account
mod, _ = Account.objects.get_or_create(username="third")
room = models.Room.objects.get(name={room!r})
def hide(*seqs):
    return actions.hide(models.Message.objects.filter(room=room, seq__in=seqs), mod)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def moderate_from_process(variables: dict[str, str], room: str, script: str) -> int:
    """Moderate in a process without clients and channel layer, and return its exit code."""
    command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c"]
    process = await asyncio.create_subprocess_exec(
        *command,
        SCRIPT.format(room=room) + script,
        env={**os.environ, "DATABASE_URL": variables["DATABASE_URL"]},
    )
    return await run_within(process.wait(), PATIENCE * 2)


def test_moderated_from_a_third_process(processes: Processes, cluster: list[str]) -> None:
    """Without notifications the poll finds each action; a killed process leaves none half done."""
    name = f"cluster-{next(_numbers)}"

    async def part() -> None:
        one, two = cluster
        services = processes.services
        who = join(one, "a", name), join(two, "b", name), join(two, "bob", name)
        async with members(*who) as here:
            a, b, bob = here
            ours, ears = ReconnectingClient(one, {}, ClientSession("ours", name)), RecordingSink()
            running = asyncio.ensure_future(ours.run(ears))
            await until(lambda: ours.has_been_live, "our client")
            texts = [f"line {number}" for number in range(1, 7)]
            await bob.publish(*texts)
            for each in (a, b, bob):
                await until(lambda: len(each.messages) == 6, "all")  # noqa: B023
            await until(lambda: len(ears.messages) == 6, "all")

            script = "\nwith transaction.atomic():\n    hide(1)\n    die()"
            assert await moderate_from_process(services, name, script) == -signal.SIGKILL
            script = "\nwith transaction.atomic():\n    transaction.on_commit(die)\n    hide(2, 3)"
            assert await moderate_from_process(services, name, script) == -signal.SIGKILL
            for each in (a, b, bob):
                await until(lambda: len(each.events_of("hidden")) == 2, "what was hidden")  # noqa: B023
                assert [event["seq"] for event in each.events_of("hidden")] == [2, 3]
            await bob.publish("after")
            await until(lambda: len(ears.messages) == 7, "what comes after")
            assert [each for each in ears.events if isinstance(each, MessageHidden)] != []
            assert len(ears.notes) == 0, ears.notes
            async with members(join(two, "late", name, "&history=99")) as (late,):
                await until(lambda: late.received_at("after"), "history")
                assert [seq for seq, _ in late.messages] == [1, 4, 5, 6, 7]
                assert [event["seq"] for event in late.events_of("hidden")] == [2, 3]

            script = (
                "\nkept = models.Record.objects.filter(subject__startswith=f'{room} ')"
                "\nassert [each.subject[-6:] for each in kept] == ['line 3', 'line 2']"
                "\nban = models.Ban(name='BOB', room=room, until=now() + timedelta(hours=1))"
                "\nactions.impose_ban(ban, mod)"
                "\nactions.close_room(room, mod, 'done')"
            )
            assert await moderate_from_process(services, name, script) == 0
            for each, code in ((a, "closed"), (b, "closed"), (bob, "banned")):
                await until(lambda: each.code, "a close")  # noqa: B023
                assert (each.code, each.events_of("error")[-1]["code"]) == (4503, code)
            with pytest.raises(ClientError, match="is closed: done"):
                await run_within(running, PATIENCE)

    asyncio.run(part())


def test_the_admin_under_daphne(tmp_path: Path) -> None:
    """Without DEBUG, the site serves the admin's style sheet, and redirects /admin to /admin/."""
    variables: dict[str, Any] = {
        "DEBUG": "no",
        "BROADCAST_TLS": "no",
        "SECRET_KEY": "x" * 50,
        "ALLOWED_HOSTS": "127.0.0.1",
        "BROADCAST_DATA": str(tmp_path),
    }
    with running(*DAPHNE, **variables) as site:
        url = listening(site).replace("ws:", "http:")

        def get(path: str) -> tuple[str, str, str]:
            with urllib.request.urlopen(url + path, timeout=PATIENCE) as found:
                text = found.read().decode()
                return found.url.removeprefix(url), found.headers.get_content_type(), text

        path, type, _ = get("admin")
        assert (path, type) == ("accounts/login/?next=/admin/", "text/html")
        _, type, text = get("static/admin/css/base.css")
        assert type == "text/css" and "#header" in text
        assert site.signal(signal.SIGTERM) == 0
