"""Messages that moderators hide: in the admin, and live for each kind of client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from django_client import run_async  # it sets Django up

# isort: split

from django.db import transaction
from moderation_harness import (
    ADMIN,
    act,
    dana,
    in_room,
    in_thread,
    last_record,
    log_messages,
    new_room,
    pages,
    signed_in,
)

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import Message, MessageHidden
from django_site import models
from django_site.accounts.models import Account
from django_site.asgi import application
from django_site.moderation import actions
from django_site.store import message_log

__all__ = ["dana", "pages"]  # fixtures


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
