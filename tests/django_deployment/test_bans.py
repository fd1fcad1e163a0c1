"""Bans: the form and the list of the admin, and whom a ban removes and keeps out."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from django_client import run_async  # it sets Django up

# isort: split

import pytest
from django.db import transaction
from django.test.utils import override_settings
from django.utils.timezone import now
from moderation_harness import (
    ADMIN,
    RoomClient,
    act,
    dana,
    imposed,
    in_room,
    in_thread,
    last_record,
    log_messages,
    new_account,
    new_room,
    numbers,
    page,
    pages,
    rejection,
    signed_in,
)

from broadcast_server.protocol.join import JoinRequest
from django_site import models
from django_site.accounts.models import Account, Token
from django_site.moderation import actions
from django_site.store import liveness, presence

__all__ = ["dana", "pages"]  # fixtures


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
    name, end = f"far-{next(numbers)}", datetime(9999, 12, 31, 23, 59, tzinfo=timezone.utc)
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
        await in_thread(liveness.remove_process, "elsewhere")

    run_async(part)
