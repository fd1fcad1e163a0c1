"""Operators: moderators' accounts kick, mute, lock, announce and set the topic in a room."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

from django_client import http_request, run_async  # it sets Django up

# isort: split

import pytest
from django.contrib.auth.models import Group
from django.utils.timezone import now
from moderation_harness import (
    RoomClient,
    act,
    dana,
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

from broadcast_server.library.errors import RejectedError
from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.rooms.room_control import RoomControl
from django_site import abroadcast, models
from django_site.accounts.models import Account, Token
from django_site.moderation import group
from django_site.replication.replicated_control import ReplicatedControl
from django_site.store import operating, reports
from django_site.store.operating import LoggedAct

__all__ = ["dana", "pages"]  # fixtures

SESSION = "0123456789abcdef"


async def ask(one: RoomClient, type: str, **fields: Any) -> None:
    """Send a request."""
    await one.send(json.dumps({"type": type, **fields}))


@asynccontextmanager
async def host_and_guest(
    room: models.Room, host: Account
) -> AsyncIterator[tuple[RoomClient, RoomClient]]:
    """Connect a moderator and then a guest called bob, who have been told of each other."""
    _, secret = await in_thread(Token.make, host, "t")
    async with in_room(room, "x", token=secret) as one:
        welcome = await one.event()
        assert welcome["operator"] is True
        async with in_room(room, "bob", f"&session={SESSION}") as bob:
            assert (await one.event())["type"] == "joined"
            assert "operator" not in await bob.event()
            yield one, bob


def test_an_act_is_told_in_order_and_recorded(dana: Account) -> None:
    """Everyone gets the event at its place among the messages, and it stays in the welcome."""
    room = new_room()

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            requests = [
                {"type": "say", "text": "before"},
                {"type": "topic", "text": " release\n at five ", "id": "t"},
                {"type": "say", "text": "between"},
                {"type": "lock"},
                {"type": "announce", "on": True},
                {"type": "ping", "id": "p"},
            ]
            await one.send("\n".join(map(json.dumps, requests)))
            by = dana.username
            expected = [
                ("message", "before"),
                ("topic", "release at five"),
                ("message", "between"),
                ("locked", True),
                ("announce", True),
            ]
            for each in (one, bob):
                got = await each.events(5)
                assert [(e["type"], e.get("text", e.get("on"))) for e in got] == expected
                assert {e["by"] for e in got if "by" in e} == {by}
                assert got[1]["id"] == "t"
            assert await one.event() == {"type": "pong", "id": "p"}
            await ask(one, "lock", on=True, id="again")
            assert (await one.event())["id"] == "again", "what changes nothing is for one only"
            await ask(bob, "ping")
            assert (await bob.event())["type"] == "pong"
        _, secret = await in_thread(Token.make, dana, "u")
        async with in_room(room, "x", token=secret) as one:
            welcome = await one.event()
            found = {key: welcome[key] for key in ("topic", "locked", "announce", "operator")}
            assert found == {
                "topic": "release at five", "locked": True, "announce": True, "operator": True,
            }  # fmt: skip

    run_async(part)
    records = models.Record.objects.filter(subject__contains=f"room {room}").order_by("pk")
    assert [(each.action, each.by_name) for each in records] == [
        ("topic", dana.username), ("lock", dana.username), ("announce", dana.username),
    ]  # fmt: skip


def test_who_is_no_operator() -> None:
    """A guest and an account without the permission are rejected, and so is who has lost it."""
    room, plain, host = new_room(), new_account(), new_account("change_room")

    async def part() -> None:
        async with host_and_guest(room, host) as (one, bob):
            _, secret = await in_thread(Token.make, plain, "t")
            async with in_room(room, "x", token=secret) as other:
                assert "operator" not in await other.event()
                for each in (bob, other):
                    while True:
                        await ask(each, "lock", on=True, id="7")
                        event = await each.event()
                        if event["type"] == "error":
                            break
                    assert (event["code"], event["id"]) == ("not_operator", "7")
                    assert event["text"].endswith(": sign in with a moderator's account")
            # The permission is looked at again when the act is carried out.
            permissions = Account.user_permissions.through.objects.filter(account=host)
            await in_thread(permissions.delete)
            await ask(one, "lock", on=True, id="8")
            while (event := await one.event())["type"] != "error":
                pass
            assert (event["code"], event["id"]) == ("not_operator", "8")
            # Whoever is given or loses permissions comes back, and is told what it may do now.
            await in_thread(host.groups.set, Group.objects.filter(name=group.GROUP))
            assert (await one.event())["code"] == "sign_in"
            assert await one.close_code() == 4001

    run_async(part)
    room.refresh_from_db()
    assert not room.locked


@pytest.mark.parametrize(
    ("path", "data", "field", "value", "event"),
    [
        ("lock", {}, "locked", True, {"type": "locked", "on": True}),
        ("announce", {}, "announce", True, {"type": "announce", "on": True}),
        ("topic", {"text": "a  topic"}, "topic", "a topic", {"type": "topic", "text": "a topic"}),
        ("slow", {"seconds": "30"}, "slow", 30, {"type": "slow", "seconds": 30}),
    ],
)
def test_acts_in_the_admin(
    dana: Account, path: str, data: dict[str, str], field: str, value: object, event: dict[str, Any]
) -> None:
    """What a moderator does in the admin is the same act, with its event and its record."""
    room, browser = new_room(), signed_in(dana)
    url = f"/admin/django_site/room/{path}/?pk={room.pk}"

    async def part() -> None:
        async with in_room(room, "bob") as bob:
            await bob.event()
            sent = await in_thread(browser.post, url, {"reason": "why", **data})
            assert sent.status_code == 302
            assert await bob.event() == {**event, "by": dana.username}

    run_async(part)
    room.refresh_from_db()
    assert getattr(room, field) == value
    assert (last_record()[0], last_record()[3]) == (dana.username, "why")


def test_members_are_acted_on_in_the_admin(dana: Account) -> None:
    """The list of a room's members mutes, unmutes, kicks and bans; moderators stay."""
    room, browser = new_room(), signed_in(dana)

    async def part() -> None:
        async with host_and_guest(room, dana) as (_, bob):
            listed = await in_thread(page, browser, f"room/{room.pk}/change/")
            assert f"member/?in={room}" in listed
            present = models.Member.objects.filter(room=room)
            keys = await in_thread(lambda: [each.pk for each in present])
            seen = await in_thread(page, browser, "member/", **{"in": room.name})
            assert "bob" in seen and dana.username in seen and "/ban/add/?" in seen
            for action, event in (("mute", "muted"), ("unmute", "muted"), ("kick", "kicked")):
                assert await in_thread(act, browser, f"member/{action}", *keys) == 302
                assert (await bob.event())["type"] == event
            assert (await bob.event())["code"] == "kicked"
            assert await bob.close_code() == 4503
            without = await in_thread(lambda: signed_in(new_account("view_room", is_staff=True)))
            assert await in_thread(act, without, "member/kick", *keys) == 403

    run_async(part)


def test_a_kick(dana: Account) -> None:
    """The member is told in order, closed, and kept out by session and name for a while."""
    room = new_room()

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            await ask(one, "say", text="bye")
            await ask(one, "kick", name="BOB", id="k")
            kicked = {"type": "kicked", "name": "bob", "by": dana.username, "id": "k"}
            assert [(await one.event())["type"], await one.event()] == ["message", kicked]
            assert (await one.event())["type"] == "left"
            assert [(await bob.event())["type"], await bob.event()] == ["message", kicked]
            assert (await bob.event())["code"] == "kicked"
            assert await bob.close_code() == 4503
            for name, more in (("other", f"&session={SESSION}"), ("B0B", "")):
                assert await rejection(room, name, more=more) == ("kicked", 4503)
                status, text = await http_request(
                    "POST", f"/?room={room}&name={name}{more}", body=b"hi"
                )
                assert (status, "kicked" in text) == (403, True)
            for name in ("bob", "BOB"):
                async with in_room(room, "carol") as carol:
                    await carol.event()
                    await ask(carol, "name", name=name, id="m")
                    event = await carol.event()
                    assert (event["code"], event["id"]) == ("kicked", "m")
            assert await rejection(room, "carol") is None
            assert await rejection(elsewhere, "bob", more=f"&session={SESSION}") is None
            await ask(one, "kick", name="nobody", id="n")
            while (event := await one.event())["type"] != "error":
                pass
            assert (event["code"], event["id"]) == ("not_here", "n")
            await ask(one, "kick", name=dana.username)
            assert (await one.event())["code"] == "is_operator"
            await ask(one, "kick", name="a:b")
            assert (await one.event())["code"] == "bad_name"
            await ask(one, "topic", text="new", id="\0")
            assert (await one.event())["id"] == "\0", "which PostgreSQL stores nowhere as it is"
            await ask(one, "topic", text="newer", id="\0" * 64)
            assert (await one.event())["code"] == "bad_id"

    elsewhere = new_room()
    run_async(part)


def test_a_mute(dana: Account) -> None:
    """A muted member is not heard by any way in, also under another name, until it is unmuted."""
    room = new_room()
    more = f"&session={SESSION}"

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            await ask(one, "mute", name="bob", on=True)
            muted = {"type": "muted", "name": "bob", "on": True, "by": dana.username}
            assert await one.event() == await bob.event() == muted
            await ask(bob, "say", text="unheard", id="u")
            event = await bob.event()
            assert (event["code"], event["id"]) == ("muted", "u")
            status, text = await http_request("POST", f"/?room={room}&name=x{more}", body=b"hi")
            assert (status, "muted" in text) == (403, True)
            await ask(bob, "name", name="rob")
            assert (await bob.event())["to"] == (await one.event())["to"] == "rob"
            await ask(bob, "say", text="unheard")
            assert (await bob.event())["code"] == "muted"
            await ask(bob, "private", to=dana.username, text="psst", id="p")
            assert (await bob.event())["code"] == "muted"
        async with host_and_guest_again(room, dana, "robert", more) as (one, bob, welcome):
            assert welcome["muted"] is True
            await ask(bob, "say", text="unheard")
            assert (await bob.event())["code"] == "muted"
            await ask(one, "mute", name="robert", on=False)
            assert (await one.event())["on"] is (await bob.event())["on"] is False
            await ask(bob, "say", text="heard")
            assert (await bob.event())["text"] == (await one.event())["text"] == "heard"

    run_async(part)
    assert [*models.Message.objects.filter(room=room).values_list("text", flat=True)] == ["heard"]


@asynccontextmanager
async def host_and_guest_again(
    room: models.Room, host: Account, name: str, more: str
) -> AsyncIterator[tuple[RoomClient, RoomClient, dict[str, Any]]]:
    """Connect a moderator and a guest, with the guest's welcome."""
    _, secret = await in_thread(Token.make, host, "t")
    async with in_room(room, "x", token=secret) as one, in_room(room, name, more) as guest:
        while (await one.event())["type"] != "joined":
            pass
        yield one, guest, await guest.event()


def test_a_locked_room(dana: Account) -> None:
    """Nobody new joins, subscribes or posts; who was there comes back, and so do operators."""
    room = new_room()

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            await ask(one, "lock", on=True)
            assert (await one.event())["on"] is (await bob.event())["on"] is True
            assert await rejection(room, "carol") == ("locked", 4503)
            for method, target in (("POST", f"/?room={room}"), ("GET", f"/stream?room={room}")):
                status, text = await http_request(method, target, body=b"hi")
                assert (status, "locked" in text) == (403, True)
            with pytest.raises(RejectedError, match="locked"):
                await abroadcast(str(room), "hi", "shop")
            target = f"/?room={room}&session={SESSION}"
            assert (await http_request("POST", target, body=b"hi"))[0] == 200
            async with in_room(room, "x", f"&session={SESSION}") as again:
                assert (await again.event())["name"] == "bob"
            _, secret = await in_thread(Token.make, dana, "t")
            assert await rejection(room, "x", secret) is None

    run_async(part)


@pytest.mark.parametrize("stale", [False, True])
def test_announce_mode(dana: Account, stale: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only operators publish, also where a process does not know of the mode yet."""
    room = new_room()
    if stale:  # every process takes the message, and the transaction decides
        monkeypatch.setattr("broadcast_server.rooms.room_control.RoomControl.silence", silent)

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            await ask(one, "announce", on=True)
            assert (await one.event())["on"] is (await bob.event())["on"] is True
            await bob.send('{"type":"say","text":"may I","id":"m"}\n{"type":"ping"}')
            event = await bob.event()
            assert (event["code"], event["id"]) == ("announce_only", "m")
            assert (await bob.event())["type"] == "pong"
            assert (await http_request("POST", f"/?room={room}", body=b"hi"))[0] == 403
            with pytest.raises(RejectedError, match="announce"):
                await abroadcast(str(room), "hi", "shop")
            await ask(one, "say", text="no")
            assert (await one.event())["text"] == (await bob.event())["text"] == "no"

    run_async(part)
    assert models.Message.objects.filter(room=room).count() == 1


def silent(*_: Any) -> None:
    """Let everyone publish, as far as this process knows."""


def test_slow_mode(dana: Account) -> None:
    """A member publishes once in the time that a moderator has set, whatever the way in."""
    room = new_room()
    browser = signed_in(dana)
    assert "slow" in page(browser, f"room/{room.pk}/change/").lower()
    path = f"/admin/django_site/room/slow/?pk={room.pk}"
    assert browser.post(path, {"seconds": "-1"}).status_code == 200

    def set_slow(seconds: int) -> None:
        assert browser.post(path, {"seconds": str(seconds), "reason": "hot"}).status_code == 302

    async def part() -> None:
        async with host_and_guest(room, dana) as (one, bob):
            await in_thread(set_slow, 30)
            slow = {"type": "slow", "seconds": 30, "by": dana.username}
            assert await one.event() == await bob.event() == slow
            async with in_room(room, "late") as late:
                assert (await late.event())["slow"] == 30
            assert [each["type"] for each in await one.events(2)] == ["joined", "left"]
            assert [each["type"] for each in await bob.events(2)] == ["joined", "left"]
            await ask(bob, "say", text="first")
            assert (await bob.event())["text"] == (await one.event())["text"] == "first"
            await ask(bob, "say", text="second", id="s")
            event = await bob.event()
            assert (event["code"], event["id"]) == ("slow_mode", "s")
            target = f"/?room={room}&session={SESSION}"
            status, text = await http_request("POST", target, body=b"hi")
            assert (status, "slow mode" in text) == (403, True)
            for text in ("host 1", "host 2"):
                await ask(one, "say", text=text)
                assert (await one.event())["text"] == (await bob.event())["text"] == text
            target = f"/?room={room}&name=ci"
            for status in (200, 403):
                assert (await http_request("POST", target, body=b"ci"))[0] == status
            assert (await one.event())["text"] == (await bob.event())["text"] == "ci"
            later = models.Pace.objects.filter(room=room)
            for pace in await in_thread(list, later):
                pace.at = pace.at.replace(year=2000)
                await in_thread(pace.save)
            await ask(bob, "say", text="third")
            assert (await bob.event())["text"] == (await one.event())["text"] == "third"
            await in_thread(set_slow, 0)
            assert (await one.event())["seconds"] == (await bob.event())["seconds"] == 0
            for text in ("fast", "faster"):
                await ask(bob, "say", text=text)
                assert (await bob.event())["text"] == (await one.event())["text"] == text

    run_async(part)
    assert last_record() == (dana.username, "slow", f"room {room}, one message in 0 s", "hot")


def test_slow_mode_counts_by_address() -> None:
    """A new session at an address gains nothing, and each of several members there has its turn."""
    room = new_room()
    models.Room.objects.filter(pk=room.pk).update(slow=30)

    ids = map(str, count())

    async def answer(one: RoomClient) -> str:
        id = next(ids)
        await ask(one, "say", text="hi", id=id)
        while True:
            event = await one.event()
            if event.get("id") == id:
                return str(event.get("code", ""))

    async def once(session: str, address: str) -> str:
        name, more = session[:8], f"&session={session}"
        async with in_room(room, name, more, address=address) as one:
            return await answer(one)

    async def part() -> None:
        home, school = "192.0.2.1", "198.51.100.7"
        assert await once("a" * 16, home) == ""
        assert await once("b" * 16, home) == "slow_mode"
        target = f"/?room={room}&name=ci"
        status, text = await http_request("POST", target, body=b"hi", address=home)
        assert (status, "slow mode" in text) == (403, True)
        status, _ = await http_request("POST", target, body=b"hi", address="203.0.113.9")
        assert status == 200
        async with (
            in_room(room, "c", f"&session={'c' * 16}", address=school) as one,
            in_room(room, "d", f"&session={'d' * 16}", address=school) as other,
        ):
            assert await answer(one) == await answer(other) == ""
            assert await answer(one) == "slow_mode"
        assert await once("e" * 16, school) == "slow_mode"
        # Who has been here for longer is not held up by them.
        async with in_room(room, "f", f"&session={'f' * 16}", address=school) as one:
            assert await answer(one) == "slow_mode"
            here = models.Member.objects.filter(room=room)
            await in_thread(here.update, joined=now() - timedelta(seconds=30))
            assert await answer(one) == ""
            async with in_room(room, "f", f"&session={'f' * 16}", address=school):
                joined = await in_thread(here.get)
                assert joined.joined <= now() - timedelta(seconds=30), "a takeover is no join"

    run_async(part)
    times = models.Pace.objects.filter(room=room).exclude(address="")
    assert times.count() == 5, "one row for each author has its address"


def test_hiding_is_by_author_and_permission(dana: Account) -> None:
    """A name stands for its author: an account, or a guest at an address, and no namesake."""
    room, host = new_room(), new_account("change_room")

    async def part() -> None:
        more = f"&session={SESSION}"
        async with in_room(room, "bob", more, address="192.0.2.1") as bob:
            await bob.event()
            await ask(bob, "say", text="1: spam")
            await bob.event()
            await ask(bob, "name", name="rob")
            await bob.event()
            await ask(bob, "say", text="2: spam")
            await bob.event()
        async with in_room(room, "rob", address="198.51.100.7") as other:
            await other.event()
            await ask(other, "say", text="3: another rob")
            await other.event()
            status, _ = await http_request(
                "POST", f"/?room={room}&name=x&session={SESSION}", body=b"4: spam"
            )
            assert status == 200
            await other.event()
            _, secret = await in_thread(Token.make, host, "t")
            async with in_room(room, "x", token=secret) as one:
                await one.event()
                await ask(one, "hide", name="bob", id="h")
                event = await one.event()
                assert (event["code"], event["id"]) == ("not_operator", "h")
                assert "needs the permission to change messages" in event["text"]
            _, secret = await in_thread(Token.make, dana, "t")
            async with in_room(room, "x", token=secret) as one:
                await one.event()
                await ask(one, "hide", name="bob", id="h")
                hid = {"type": "hid", "name": "bob", "messages": 3, "by": dana.username, "id": "h"}
                assert await one.event() == hid
                assert [each["seq"] for each in await one.events(3)] == [1, 2, 4]
                await ask(one, "hide", name="bob")
                assert (await one.event())["code"] == "not_here"

    run_async(part)
    assert last_record()[:3] == (dana.username, "hide", f"3 messages of bob in room {room}")
    shown = models.Message.objects.filter(room=room, edit=None)
    assert [each.text for each in shown] == ["3: another rob"]


def bans_in(room: models.Room) -> list[tuple[str, str]]:
    """Return what is banned in *room* by a session, an address or a name, and why."""
    rows = models.Ban.objects.filter(room=room).order_by("pk")
    return [(each.target, each.reason) for each in rows]


async def join_and_leave(room: models.Room, name: str, more: str, address: str) -> None:
    """Join, publish a message, and leave."""
    async with in_room(room, name, more, address=address) as one:
        while (await one.event())["type"] != "welcome":
            pass
        await ask(one, "say", text="spam", id="spam")
        while (await one.event()).get("id") != "spam":
            pass


def test_a_ban_from_the_room_hits_nobody_else(dana: Account) -> None:
    """It is by session, and by address and name unless another guest here has them."""
    room, home, school = new_room(), "192.0.2.1", "198.51.100.7"
    _, secret = Token.make(dana, "t")

    async def part() -> None:
        async with (
            in_room(room, "x", token=secret) as one,
            in_room(room, "bob", f"&session={'b' * 16}", address=home) as bob,
            in_room(room, "pupil-2", address=school) as pupil,
        ):
            await ask(one, "ban", name="bob", text=" so \x1b[2J\0rude")
            while (event := await one.event())["type"] != "banned":
                pass
            assert event == {"type": "banned", "name": "bob", "by": dana.username}
            while (event := await bob.event())["type"] != "error":
                pass
            assert (event["code"], event["text"][-7:]) == ("banned", "so rude")
            assert await bob.close_code() == 4503
            assert await rejection(room, "y", address=home) == ("banned", 4503)
            assert await rejection(room, "y", address="203.0.113.1") is None
            # By a message, whose author has left, and has shared its address and name.
            await join_and_leave(room, "pupil", f"&session={'p' * 16}", school)
            await ask(one, "ban", seq=1)
            while (await one.event())["type"] != "banned":
                pass
            assert await rejection(room, "y", more=f"&session={'p' * 16}") == ("banned", 4503)
            await ask(pupil, "ping", id="still here")
            while (await pupil.event()).get("id") != "still here":
                pass
            async with in_room(room, "anonymous", address=school) as other:
                await other.event()
                await ask(one, "ban", name="anonymous", id="a")
                while (event := await one.event()).get("id") != "a":
                    pass
                assert event["code"] == "not_distinct"

    run_async(part)
    assert bans_in(room) == [
        ("the session of bob", "so rude"),
        ("the address of bob", "so rude"),
        ("bob", "so rude"),
        ("the session of pupil", ""),
    ]
    assert last_record()[:2] == (dana.username, "ban")


def test_a_ban_of_an_account_and_of_who_is_gone(dana: Account) -> None:
    """An account is banned as such. Whoever has left is known by its last message or kept name."""
    room, plain, host = new_room(), new_account(), new_account("change_room")
    _, secret = Token.make(dana, "t")

    async def answer(one: RoomClient, **fields: Any) -> dict[str, Any]:
        await ask(one, "ban", id="b", **fields)
        while (event := await one.event()).get("id") != "b":
            pass
        return event

    async def part() -> None:
        await join_and_leave(room, "eve", "", "192.0.2.9")
        _, other = await in_thread(Token.make, plain, "t")
        async with in_room(room, "x", token=secret) as one:
            async with in_room(room, "x", token=other) as member:
                await member.event()
                assert (await answer(one, name=plain.username))["type"] == "banned"
                while (await member.event())["type"] != "error":
                    pass
            assert await rejection(room, "x", token=other) == ("banned", 4503)
            assert (await answer(one, name="EVE"))["name"] == "eve"
            assert await rejection(room, "eve") == ("banned", 4503)
            assert (await answer(one, name="nobody"))["code"] == "not_here"
            assert (await answer(one, name="a:b"))["code"] == "bad_name"
            assert (await answer(one, name="eve", text="x" * 201))["code"] == "too_long"
            assert (await answer(one, name=dana.username))["code"] == "is_operator"
        _, unable = await in_thread(Token.make, host, "t")
        async with in_room(room, "x", token=unable) as one:
            event = await answer(one, name="eve")
            assert (event["code"], "permission to add bans" in event["text"]) == (
                "not_operator", True,
            )  # fmt: skip

    run_async(part)
    assert [target for target, _ in bans_in(room)] == [
        f"account {plain.username}", "the address of eve", "eve",
    ]  # fmt: skip


def test_an_operator_key_is_not_one_of_this_site() -> None:
    """A client that shows an operator key, and has no moderator's account, is not let in."""
    room = new_room()

    async def part() -> None:
        key = (b"broadcast-operator", b"guess")
        status, _ = await http_request("POST", f"/?room={room}", key, body=b"hi")
        assert status == 401

    run_async(part)


def test_acts_that_a_process_has_missed() -> None:
    """A process that is too far behind to read all acts begins anew."""
    room = new_room()
    with pytest.raises(models.Room.DoesNotExist):
        operating.read_acts(room.pk, 0, 1)


def test_acts_of_a_newer_process() -> None:
    """An act that this version does not know is left out, and what follows it is delivered."""
    control = ReplicatedControl(RoomControl("lobby"), models.Room())
    lock = OperatorEvent("lock", "alice")
    acts = [LoggedAct(1, 0, OperatorEvent("paint", "alice")), LoggedAct(2, 0, lock)]
    control.add(acts)
    assert list(control.take(0)) == [lock]
    assert control.number == 2


def test_a_report(dana: Account) -> None:
    """A member reports the last message of another; moderators see it, hide it or dismiss it."""
    room, browser = new_room(), signed_in(dana)
    log_messages(room, "first", "bad words", name="bob")

    async def part() -> None:
        async with in_room(room, "eve", f"&session={SESSION}") as eve:
            await eve.event()
            await ask(eve, "report", name="BOB", text="  rude\0 ", id="r")
            told = {"type": "reported", "name": "bob", "seq": 2, "text": "rude\0", "by": "eve"}
            assert await eve.event() == {**told, "id": "r"}
            await ask(eve, "report", name="bob", text="again")
            assert (await eve.event())["text"] == "again", "which replaces the first"
            for fields, code in (
                ({"name": "nobody", "text": ""}, "not_here"),
                ({"name": "bob", "text": "x" * 201}, "too_long"),
                ({"name": "bob"}, "bad_text"),
            ):
                await ask(eve, "report", **fields)
                assert (await eve.event())["code"] == code

    run_async(part)
    (found,) = models.Report.objects.filter(message__room=room)
    assert (found.message.text, found.by, found.reason) == ("bad words", "eve", "again")
    seen = page(browser, "report/", state="open")
    assert "bad words" in seen and "again" in seen
    assert act(browser, "report/hide", found.pk, reason="rude") == 302
    found.refresh_from_db()
    assert found.handled is not None and found.message.edit is not None
    assert "bad words" not in page(browser, "report/", state="open")
    other = models.Report.objects.create(
        message=log_messages(room, "fine")[0], reporter=":x", by="eve"
    )
    assert act(browser, "report/dismiss", other.pk) == 302
    other.refresh_from_db()
    assert other.handled is not None and other.message.edit is None
    assert last_record()[:3] == (dana.username, "dismiss", f"{room} 3, reported by eve")
    without = signed_in(new_account("view_room", is_staff=True))
    assert page(without, "report/", 403)


def test_too_many_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member cannot fill the list of reports."""
    monkeypatch.setattr(reports, "MAX_REPORTS", 1)
    room = new_room()
    log_messages(room, "one", name="bob")
    log_messages(room, "two", name="carol")

    async def part() -> None:
        async with in_room(room, "eve", "&session=fedcba98765432ab") as eve:
            await eve.event()
            for name, type in (("bob", "reported"), ("bob", "reported"), ("carol", "error")):
                await ask(eve, "report", name=name, text="")
                assert (await eve.event())["type"] == type

    run_async(part)
