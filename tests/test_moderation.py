"""Moderation: what moderators do, as those in the rooms see it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from hosted import play, visitor  # it sets Django up

# isort: split

import pytest
from channels import layers
from channels.db import database_sync_to_async
from channels.layers import InMemoryChannelLayer
from channels.testing import WebsocketCommunicator
from conftest import ROOT, Processes
from django.db import transaction
from django.utils.timezone import now
from test_site_faults import Ears, come, members, until

from broadcast_server.client import Client, Failed
from broadcast_server.conversation import Conversation
from broadcast_server.entry import Entry
from broadcast_server.protocol import Hidden
from django_site import log, models, moderation, presence
from django_site.accounts.models import Account, Token
from django_site.asgi import application

PATIENCE = 10.0
"""Seconds after which something that should have happened is given up."""

_numbers = itertools.count(1)


def new_room() -> models.Room:
    """Make a room that nobody has been in."""
    return log.open_room(f"moderated-{next(_numbers)}")


def new_account() -> Account:
    """Make an account."""
    return Account.objects.create(username=f"account {next(_numbers)}")


def said(
    room: models.Room, *texts: str, name: str = "bob", account: Account | None = None
) -> list[models.Message]:
    """Log texts, as if said by someone, and return them."""
    key = None if account is None else account.pk
    drafts = [log.Draft(name, text, "s", f"{next(_numbers)}", key) for text in texts]
    numbers = [each.seq for each in log.append(room.pk, drafts)]
    return list(models.Message.objects.filter(room=room, seq__in=numbers).order_by("seq"))


def imposed(by: Account, long: timedelta = timedelta(hours=1), **of: Any) -> models.Ban:
    """Ban someone."""
    ban = models.Ban(until=now() + long, **of)
    moderation.ban(ban, by)
    return ban


@pytest.fixture
def dana() -> Account:
    """A moderator."""
    return new_account()


# -- live, in this process --


class Guest:
    """A visitor whose lines are taken one by one."""

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

    async def say(self, frame: str) -> None:
        """Send a frame."""
        await self._one.send_to(frame)

    async def ends(self) -> int:
        """Return the code of the close that comes now."""
        with pytest.raises(EOFError) as end:
            await self.line()
        return int(end.value.args[0])


@asynccontextmanager
async def guest(
    room: models.Room, name: str, more: str = "", *, text: bool = False, token: str | None = None
) -> AsyncIterator[Guest]:
    """Let someone in, or be refused."""
    headers = () if token is None else ((b"authorization", b"Bearer " + token.encode()),)
    target = f"/?{urlencode({'room': room.name, 'name': name})}{more}"
    async with visitor(target, as_json=not text, headers=headers) as one:
        yield Guest(one)


def does(what: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Do what blocks in a thread, as a view of the admin does."""
    return database_sync_to_async(what)(*arguments, **more)


async def refusal(room: models.Room, name: str, token: str | None = None) -> tuple[str, int] | None:
    """Try to come in, and return the error and the code, None if that went well."""
    async with guest(room, name, token=token) as one:
        first = await one.event()
        return None if first["type"] == "welcome" else (first["code"], await one.ends())


def test_a_hidden_message_live(dana: Account) -> None:
    """JSON clients are told at once, and find it in history in its place; text clients neither."""
    room = new_room()

    async def part() -> None:
        async with guest(room, "j") as j, guest(room, "t", text=True) as t:
            assert [each["type"] for each in await j.events(2)] == ["welcome", "joined"]
            for number in (1, 2, 3):
                await j.say(f'{{"type":"say","text":"line {number}","id":"id{number}"}}')
                assert (await j.event())["seq"] == number
                assert await t.line() == f"j: line {number}"
            rows = await does(lambda: list(models.Message.objects.filter(room=room, seq__gte=2)))
            await does(moderation.hide, rows[:1], dana)
            hidden = {"type": "hidden", "seq": 2, "id": "id2"}
            assert await asyncio.wait_for(j.event(), 0.5) == hidden
            await t.say("/who")
            assert await t.line() == "* 2 here: j, t"
            async with guest(room, "late", "&history=9") as late:
                welcome, *events = await late.events(4)
                assert [each.get("text") for each in events] == ["line 1", None, "line 3"]
                assert events[1] == hidden
            async with guest(room, "old", "&history=9", text=True) as old:
                assert [await old.line(), await old.line()] == ["j: line 1", "j: line 3"]
            # As one who counts: whatever is hidden, the numbers go on.
            cursor = f"&since={welcome['epoch']}.1"
            async with guest(room, "back", cursor) as back:
                _, *events = await back.events(3)
                assert [each["seq"] for each in events] == [2, 3]

    play(part)


def test_a_message_is_hidden_before_it_was_read(dana: Account) -> None:
    """Who has not been sent it yet gets, once, only that it is hidden, as the echo too."""
    room = new_room()

    def at_once() -> None:
        with transaction.atomic():
            message = said(room, "gone")[0]
            moderation.hide([message], dana)
            said(room, "stays")

    async def part() -> None:
        async with guest(room, "j") as j, guest(room, "t", text=True) as t:
            await j.events(2)
            await does(at_once)
            hidden, message = await j.events(2)
            assert (hidden["type"], hidden["seq"]) == ("hidden", 1)
            assert (message["type"], message["seq"]) == ("message", 2)
            assert await t.line() == "bob: stays"
            await j.say('{"type":"ping","id":"p"}')
            assert (await j.event())["type"] == "pong", "it was told once"

    play(part)


def test_a_message_is_hidden_from_who_is_behind(dana: Account) -> None:
    """A member that reads slowly does not keep what was hidden meanwhile, nor sees a gap."""
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
            "headers": [],
            "subprotocols": ["broadcast.v1.json"],
        }
        incoming.put_nowait({"type": "websocket.connect"})
        slow = asyncio.ensure_future(application(scope, incoming.get, send))
        await accepted.wait()
        async with guest(room, "j") as j:
            await j.event()
            for number in range(40):
                await j.say(json.dumps({"type": "say", "text": f"{number} " + "x" * 4000}))
                await j.event()
            rows = await does(lambda: list(models.Message.objects.filter(room=room)))
            await does(moderation.hide, [rows[1], rows[39]], dana)
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

    play(part)


def test_a_room_is_closed_live(dana: Account) -> None:
    """Everyone is told why and closed with 4503, as is who comes; then they may come again."""
    room = new_room()
    why = "exam, back at ten " * 11  # more than fits into a close frame

    async def part() -> None:
        async with guest(room, "j") as j, guest(room, "t", text=True) as t:
            await j.events(2)
            await does(moderation.close, room, dana, why)
            text = f"{room} is closed: {why.strip()}"
            assert await j.event() == {"type": "error", "code": "closed", "text": text}
            assert await j.ends() == 4503
            assert await t.line() == f"* {text}"
            assert await t.ends() == 4503
            assert await refusal(room, "late") == ("closed", 4503)
            assert await does(presence.present, room.pk) == ()
        await does(moderation.reopen, room, dana)
        assert await refusal(room, "late") is None

    play(part)


def test_a_ban_live(dana: Account) -> None:
    """Who is banned is told until when and why, and is gone; what others say goes on."""
    room = new_room()

    async def part() -> None:
        async with guest(room, "w") as w, guest(room, "Bob") as bob, guest(room, "bob") as two:
            async with guest(room, "bobby") as bobby, guest(room, "t", text=True) as t:
                assert (await two.event())["name"] == "bob-2"
                await bob.events(4)
                await w.events(5)
                ban = await does(imposed, dana, name="BOB", key="", room=room, reason="spam")
                text = f"you are banned until {ban.until:%Y-%m-%d %H:%M} UTC: spam"
                assert await bob.event() == {"type": "error", "code": "banned", "text": text}
                assert await bob.ends() == 4503
                await two.events(2)
                assert (await two.event())["code"] == "banned"
                assert [each["name"] for each in await w.events(2)] == ["Bob", "bob-2"]
                await bobby.say('{"type":"say","text":"hi"}')
                assert (await w.event())["text"] == "hi"
                while (line := await t.line()) != "bobby: hi":
                    assert line in ("Bob left the chat", "bob-2 left the chat")

    play(part)


@pytest.mark.parametrize(
    ("banned", "refused", "welcome"),
    [
        ({"name": "bob"}, ["bob", "BoB", "ｂｏｂ", "bob-2", "bob-17"], ["bobby", "bob-x", "b"]),
        ({"name": "bob", "room": "here"}, ["bob"], []),
        ({"name": "bob", "room": "elsewhere"}, [], ["bob"]),
        ({"name": "bob", "long": timedelta(seconds=-1)}, [], ["bob"]),
        ({"name": "ﷺ" * 32}, ["ﷺ" * 32], ["ﷺ" * 31]),
    ],
)
def test_whom_a_ban_is_about(
    banned: dict[str, Any], refused: list[str], welcome: list[str], dana: Account
) -> None:
    """A name is banned in any spelling, with its numbers, where and as long as it says."""
    room, elsewhere = new_room(), new_room()
    rooms = {"here": room, "elsewhere": elsewhere, None: None}
    ban = imposed(dana, **{**banned, "room": rooms[banned.get("room")]})

    async def part() -> None:
        for name in refused:
            assert await refusal(room, name) == ("banned", 4503), name
        for name in welcome:
            assert await refusal(room, name) is None, name
        await does(moderation.lift, ban, dana)
        for name in refused:
            assert await refusal(room, name) is None, name

    play(part)


def test_a_banned_number_is_given_to_nobody(dana: Account) -> None:
    """Whoever asks for bob where bob-2 is banned and bob is here is called bob-3."""
    room = new_room()
    imposed(dana, name="bob-2", room=room)

    async def part() -> None:
        async with guest(room, "bob") as bob, guest(room, "bob") as other:
            assert (await bob.event())["name"] == "bob"
            assert (await other.event())["name"] == "bob-3"

    play(part)


def test_an_account_is_banned(dana: Account) -> None:
    """An account is sent away from all its connections, and guests are not mistaken for it."""
    room, account = new_room(), new_account()
    _, secret = Token.make(account, "t")
    ban = models.Ban(account=account, until=now() + timedelta(hours=1))

    async def part() -> None:
        name = account.username
        async with guest(room, "x", token=secret) as one, guest(room, name) as alike:
            assert (await one.event())["name"] == name
            assert (await alike.event())["name"] == f"{name}-2"
            await one.event()
            await does(moderation.ban, ban, dana)
            assert (await one.event())["code"] == "banned"
            assert await one.ends() == 4503
            assert await refusal(room, "x", secret) == ("banned", 4503)
            assert (await alike.event())["type"] == "left"
            assert await refusal(room, name) is None
            await does(moderation.lift, ban, dana)
            assert await refusal(room, "x", secret) is None

    play(part)


def test_a_name_is_free_at_once(dana: Account) -> None:
    """Who comes as soon as a name's bearer was sent away gets the name, and all see it that way."""
    room = new_room()

    def change() -> str:
        with transaction.atomic():  # so that the others see it in one look
            moderation.lift(imposed(dana, name="bob", room=room), dana)
            return presence.enter(room.pk, Entry(name="bob"), "elsewhere", "new", None)

    async def part() -> None:
        async with guest(room, "w") as w, guest(room, "bob") as bob:
            await w.events(2)
            assert await does(change) == "bob"
            left, joined = await w.events(2)
            assert (left["type"], left["count"]) == ("left", 1)
            assert (joined["type"], joined["name"], joined["count"]) == ("joined", "bob", 2)
            await bob.event()
            assert (await bob.event())["code"] == "banned"
        await does(presence.end, "elsewhere")

    play(part)


class Hanging(InMemoryChannelLayer):
    """A layer through which no ring ever gets."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Hang."""
        await asyncio.Event().wait()


def test_an_account_takes_its_name_while_the_bell_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that hangs holds nobody up who comes, not even one who sends another away."""
    room = new_room()

    async def part() -> None:
        monkeypatch.setitem(layers.channel_layers.backends, "default", Hanging())
        async with guest(room, "newbie") as other:
            await other.event()
            # As when both come at once: nobody has sent it away before.
            account = Account(username="newbie", key="newbie")
            await does(Account.objects.bulk_create, [account])
            _, secret = await does(Token.make, account, "t")
            begin = time.monotonic()
            async with guest(room, "x", token=secret) as owner:
                assert (await owner.event())["name"] == "newbie"
            assert time.monotonic() - begin < 2

    play(part)


# -- across processes --

SCRIPT = """
import os, signal
from datetime import timedelta
from django.db import transaction
from django.utils.timezone import now
from django_site import models, moderation
from django_site.accounts.models import Account
mod, _ = Account.objects.get_or_create(username="third")
room = models.Room.objects.get(name={room!r})
def hide(*seqs):
    return moderation.hide(models.Message.objects.filter(room=room, seq__in=seqs), mod)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""


async def third(variables: dict[str, str], room: str, script: str) -> int:
    """Moderate in a process that serves nobody and has no bell, and return its exit code."""
    command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c"]
    process = await asyncio.create_subprocess_exec(
        *command,
        SCRIPT.format(room=room) + script,
        env={**os.environ, "DATABASE_URL": variables["DATABASE_URL"]},
    )
    return await asyncio.wait_for(process.wait(), PATIENCE * 2)


def test_moderated_from_a_third_process(processes: Processes) -> None:
    """Without a bell all is seen by the poll, and who is killed did all of an act or nothing."""
    name = f"cluster-{next(_numbers)}"

    async def part() -> None:
        one, two = processes.cluster_urls(())
        services = processes.services
        who = come(one, "a", name), come(two, "b", name), come(two, "bob", name)
        async with members(*who) as here:
            a, b, bob = here
            ours, ears = Client(one, {}, Conversation("ours", name)), Ears()
            running = asyncio.ensure_future(ours.run(ears))
            await until(lambda: ours.been_live, "our client")
            texts = [f"line {number}" for number in range(1, 7)]
            await bob.say(*texts)
            for each in (a, b, bob):
                await until(lambda: len(each.heard) == 6, "all")  # noqa: B023
            await until(lambda: len(ears.heard) == 6, "all")

            script = "\nwith transaction.atomic():\n    hide(1)\n    die()"
            assert await third(services, name, script) == -signal.SIGKILL
            script = "\nwith transaction.atomic():\n    transaction.on_commit(die)\n    hide(2, 3)"
            assert await third(services, name, script) == -signal.SIGKILL
            for each in (a, b, bob):
                await until(lambda: len(each.told("hidden")) == 2, "what was hidden")  # noqa: B023
                assert [event["seq"] for event in each.told("hidden")] == [2, 3]
            await bob.say("after")
            await until(lambda: len(ears.heard) == 7, "what comes after")
            assert [each for each in ears.events if isinstance(each, Hidden)] != []
            assert len(ears.notes) == 0, ears.notes
            async with members(come(two, "late", name, "&history=99")) as (late,):
                await until(lambda: late.when("after"), "history")
                assert [seq for seq, _ in late.heard] == [1, 4, 5, 6, 7]
                assert [event["seq"] for event in late.told("hidden")] == [2, 3]

            script = (
                "\nkept = models.Record.objects.filter(subject__startswith=f'{room} ')"
                "\nassert [each.subject[-6:] for each in kept] == ['line 3', 'line 2']"
                "\nban = models.Ban(name='BOB', room=room, until=now() + timedelta(hours=1))"
                "\nmoderation.ban(ban, mod)"
                "\nmoderation.close(room, mod, 'done')"
            )
            assert await third(services, name, script) == 0
            for each, code in ((a, "closed"), (b, "closed"), (bob, "banned")):
                await until(lambda: each.code, "a close")  # noqa: B023
                assert (each.code, each.told("error")[-1]["code"]) == (4503, code)
            with pytest.raises(Failed, match="is closed: done"):
                await asyncio.wait_for(running, PATIENCE)

    asyncio.run(part())
