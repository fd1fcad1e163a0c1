"""Bans of a guest by its session or its address, and hiding everything that one author wrote."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django_client import http_request, run_async  # it sets Django up

# isort: split

import pytest
from django.test import Client as Browser
from moderation_harness import (
    ADMIN,
    act,
    dana,
    imposed,
    in_room,
    in_thread,
    last_record,
    log_messages,
    new_account,
    new_room,
    page,
    pages,
    rejection,
    signed_in,
)

from django_site import models
from django_site.accounts.models import Account, Token
from django_site.admin.banned_client import BannedClient, ban_url
from django_site.moderation import actions
from django_site.store import senders
from django_site.store.origins import is_in, origin_of, origins_in, parse_network
from django_site.store.site_key import site_key

__all__ = ["dana", "pages"]  # fixtures

SESSION, OTHER = "0123456789abcdef", "fedcba9876543210"


def digest(session: str) -> str:
    """Return what the database has of a session."""
    return site_key().digest(session)


@pytest.mark.parametrize(
    ("text", "stored", "inside", "outside"),
    [
        ("192.0.2.7", "192.0.2.7/32", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.9/24", "192.0.2.0/24", "::ffff:192.0.2.255", "192.0.3.0"),
        ("2001:db8::1", "2001:db8::/64", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ("2001:db8::/48", "2001:db8::/48", "2001:db8:0:ffff::1", "2001:db8:1::1"),
        (" 127.0.0.0/16", "127.0.0.0/16", "127.0.255.1", "127.1.0.1"),
    ],
)
def test_a_network_contains_its_addresses(
    text: str, stored: str, inside: str, outside: str
) -> None:
    """A network contains an address, and so do the digests of those that it contains."""
    network = parse_network(text)
    assert str(network) == stored
    assert (is_in(stored, inside), is_in(stored, outside)) == (True, False)
    origins = origins_in(network)
    assert (origin_of(inside) in origins, origin_of(outside) in origins) == (True, False)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "2001:db8::/32", "here", "192.0.2.0/33"])
def test_a_network_that_is_too_large_or_none(text: str) -> None:
    """A network whose addresses cannot be counted, and text that is none, are rejected."""
    with pytest.raises(ValueError, match=r"prefix is|is not an address"):
        parse_network(text)
    assert origin_of(None) == origin_of("a local socket") == ""


@pytest.mark.parametrize(
    ("of", "refused", "welcome"),
    [
        ({"session": digest(SESSION), "label": "bob"}, [(SESSION, None)], [(OTHER, "192.0.2.7")]),
        (
            {"origin": origin_of("192.0.2.7"), "label": "bob"},
            [(OTHER, "192.0.2.7"), ("", "192.0.2.7")],
            [(SESSION, "192.0.2.8"), (SESSION, None)],
        ),
        (
            {"network": "192.0.2.0/24"},
            [(OTHER, "192.0.2.7"), ("", "192.0.2.255")],
            [(SESSION, "192.0.3.7"), (SESSION, None)],
        ),
        ({"network": "127.0.0.2/32"}, [("", "127.0.0.2")], [("", "127.0.0.1")]),
    ],
)
def test_whom_a_ban_of_a_client_applies_to(
    of: dict[str, Any],
    refused: list[tuple[str, str | None]],
    welcome: list[tuple[str, str | None]],
    dana: Account,
) -> None:
    """It applies to a guest under every name, who joins, publishes or subscribes."""
    room = new_room()
    _, secret = Token.make(new_account(), "t")

    async def part() -> None:
        ban = await in_thread(imposed, dana, room=room, **of)
        for session, address in refused:
            more = f"&session={session}" if session else ""
            assert await rejection(room, "any", None, more, address) == ("banned", 4503)
            target = f"/?room={room}&name=other{more}"
            status, text = await http_request("POST", target, body=b"hi", address=address)
            assert (status, "you are banned until" in text) == (403, True)
            if "session" not in of:  # a subscriber has none
                target = f"/stream?room={room}"
                assert (await http_request("GET", target, address=address))[0] == 403
            assert await rejection(room, "any", secret, more, address) is None, "an account"
        for session, address in welcome:
            more = f"&session={session}" if session else ""
            assert await rejection(room, "any", None, more, address) is None
        await in_thread(actions.lift_ban, ban, dana)
        for session, address in refused:
            more = f"&session={session}" if session else ""
            assert await rejection(room, "any", None, more, address) is None

    run_async(part)


@pytest.mark.parametrize("by", ["session", "origin", "network"])
def test_a_banned_client_is_closed(by: str, dana: Account) -> None:
    """A ban of a session, an address or a network closes who is in the room, and nobody else."""
    room = new_room()
    of = {
        "session": {"session": digest(SESSION), "label": "bob"},
        "origin": {"origin": origin_of("192.0.2.7"), "label": "bob"},
        "network": {"network": "192.0.2.0/29"},
    }[by]

    async def part() -> None:
        more = f"&session={SESSION}"
        async with (
            in_room(room, "bob", more, address="192.0.2.7") as bob,
            in_room(room, "eve", f"&session={OTHER}", address="192.0.2.9") as eve,
        ):
            await bob.events(2)
            await eve.event()
            await in_thread(imposed, dana, room=room, **of)
            assert (await bob.event())["code"] == "banned"
            assert await bob.close_code() == 4503
            assert (await eve.event())["type"] == "left"

    run_async(part)


def test_a_message_has_the_origin_of_its_author(dana: Account) -> None:
    """A message of a member and one by POST lead to a ban of the address and the session."""
    room = new_room()

    async def part() -> None:
        async with in_room(room, "bob", f"&session={SESSION}", address="192.0.2.7") as bob:
            await bob.event()
            await bob.send('{"type":"say","text":"hi"}')
            await bob.event()
            target = f"/?room={room}&name=ci"
            assert (await http_request("POST", target, body=b"x", address="192.0.2.7"))[0] == 200

    run_async(part)
    rows = models.Message.objects.filter(room=room).order_by("seq")
    assert [each.origin for each in rows] == [origin_of("192.0.2.7")] * 2
    assert [senders.session_of(each) for each in rows] == [digest(SESSION), ""]
    browser = signed_in(dana)
    for message, fields in zip(rows, ({"by_session", "by_address"}, {"by_address"}), strict=True):
        links = page(browser, f"message/{message.pk}/change/").split('href="')
        (link,) = [each.split('"')[0] for each in links if "/ban/add/?" in each.split('"')[0]]
        form = browser.get(link.replace("&amp;", "&")).context["adminform"]
        shown = {each for line in form.fieldsets[0][1]["fields"] for each in [line]}
        assert shown & {"by_session", "by_address"} == fields


def post_ban(browser: Browser, url: str, **data: str) -> Any:
    """Send the form that the link *url* opens, as it is filled in and with *data*."""
    filled = dict(parse_qsl(urlsplit(url).query))
    return browser.post(f"{ADMIN}/ban/add/", {"how_long": "1 day", **filled, **data})


def test_ban_and_hide_in_one_step(dana: Account) -> None:
    """One form bans name, session and address of a guest, and hides what they wrote."""
    room = new_room()
    ours = log_messages(room, "spam 1", "spam 2", name="bob")
    others = log_messages(room, "fine", name="carol")
    url = ban_url(BannedClient("bob", digest(SESSION), origin_of("192.0.2.7")), None, room)
    data = {"by_session": "on", "by_address": "on", "hide": "on", "reason": "spam"}
    before = models.Ban.objects.count()
    assert post_ban(signed_in(dana), url, **data).status_code == 302
    bans = models.Ban.objects.all()[:3]
    assert models.Ban.objects.count() == before + 3
    assert {each.target for each in bans} == {
        "bob",
        "the session of bob",
        "the address of bob",
    }
    assert {(each.room, each.reason) for each in bans} == {(room, "spam")}
    assert all(timedelta(hours=23) < each.until - each.made < timedelta(days=2) for each in bans)
    hidden = models.Message.objects.filter(room=room).exclude(edit=None)
    assert {each.pk for each in hidden} == {each.pk for each in ours}
    assert others[0].edit is None
    subject = f"{room} 1 to 2, 2 messages of bob"
    assert last_record() == (dana.username, "hide", subject, "spam")


def test_a_forged_client_is_not_banned(dana: Account) -> None:
    """A session that no link of the site has is rejected, and so is one that is not known."""
    room = new_room()
    url = ban_url(BannedClient("bob", "", ""), None, room)
    for data in ({"client": "forged", "by_session": "on"}, {"by_address": "on"}):
        seen = post_ban(signed_in(dana), url, **data)
        assert "of this client is not known" in str(seen.context["adminform"].form.errors)
    without = new_account("add_ban", is_staff=True)
    assert post_ban(signed_in(without), url, hide="on").status_code == 302, "but hides nothing"
    assert not models.Record.objects.filter(action="hide", subject__contains=room.name).exists()


def test_everything_of_an_author_is_hidden(dana: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """One action hides all messages of an author, in steps, and is seen live by everyone."""
    monkeypatch.setattr(actions, "HIDE_STEP", 2)
    room, elsewhere = new_room(), new_room()
    account = new_account()
    spam = log_messages(room, *"12345", name="bob")
    log_messages(room, "BOB, another session", name="BOB")
    kept = log_messages(room, "mine", name="bob", account=account)
    kept += log_messages(room, "mine", name="eve")
    kept += log_messages(elsewhere, "there", name="bob")
    models.Message.objects.filter(pk=kept[1].pk).update(source="other")

    browser = signed_in(dana)

    async def part() -> None:
        async with in_room(room, "a") as one:
            await one.event()
            assert await in_thread(act, browser, "message/hide_all", spam[2].pk) == 302
            assert {(await one.event())["seq"] for _ in range(6)} == {1, 2, 3, 4, 5, 6}

    run_async(part)
    assert not models.Message.objects.filter(pk__in=[each.pk for each in kept]).exclude(edit=None)
    room.refresh_from_db()
    assert room.edits == 3, "an edit for each step"
    actions.hide_all(senders.by_author_of(kept[0]), dana)
    assert models.Message.objects.get(pk=kept[0].pk).edit is not None
