"""Moderation: permissions in the admin, closed rooms, records, and actions from another process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

from django_client import run_async  # it sets Django up

# isort: split

import pytest
from conftest import DAPHNE, ROOT, Processes
from django.contrib.auth.models import Group, Permission
from moderation_harness import (
    ADMIN,
    PATIENCE,
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
from programs import listening, running
from services import site_folder
from site_member import RecordingSink, join, members, until

from broadcast_server.client.client import ClientError, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import MessageHidden
from django_site import models
from django_site.accounts.models import Account
from django_site.moderation import actions, group
from django_site.store import liveness, presence

__all__ = ["dana", "pages"]  # fixtures


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
    liveness.remove_process("elsewhere")


def test_records_are_found(dana: Account) -> None:
    """Records are found by moderator, subject and reason."""
    room = new_room()
    actions.hide(log_messages(room, "watches"), dana, "advert")
    browser = signed_in(dana)
    for words in (f"{room} watches", "advert", f'"{dana.username}"'):
        found = browser.get(f"{ADMIN}/record/", {"q": words}).context["cl"].result_list
        assert [each.subject for each in found] == [f"{room} 1, bob: watches"]
    assert "watches" in page(browser, f"record/{found[0].pk}/change/")


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
    name = f"cluster-{next(numbers)}"

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
        "BROADCAST_DATA": site_folder(tmp_path),
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


TOKEN_SCRIPT = """
from django_site.accounts.models import Account, Token
from django.contrib.auth.models import Group
host = Account.objects.create(username={host!r})
host.groups.add(Group.objects.get(name="moderators"))
open({file!r}, "w").write(Token.make(host, "t")[1])
"""


def test_operators_in_two_processes(
    processes: Processes, cluster: list[str], tmp_path: Path
) -> None:
    """What a moderator does in one process holds in the other, at one place among the messages."""
    name, host, file = f"operated-{next(numbers)}", f"host {next(numbers)}", tmp_path / "token"

    async def part() -> None:
        one, two = cluster
        command = [sys.executable, str(ROOT / "manage.py"), "shell", "-v", "0", "-c"]
        process = await asyncio.create_subprocess_exec(
            *command,
            TOKEN_SCRIPT.format(host=host, file=str(file)),
            env={**os.environ, **processes.services},
        )
        assert await run_within(process.wait(), PATIENCE * 2) == 0
        session = "0123456789abcdef"
        who = (
            join(one, "x", name, token=file.read_text()),
            join(one, "near", name),
            join(two, "bob", name, f"&session={session}"),
            join(two, "far", name),
        )
        async with members(*who) as here:
            boss, near, bob, far = here
            assert boss.events[0]["operator"] is True
            for on in (True, False, True):  # in the middle of a flood from the other process
                await bob.publish(*(f"{on} {number} {len(bob.events)}" for number in range(150)))
                await boss.ask("announce", on=on, id="a")
                await boss.ask("topic", text=f"{on} {len(boss.events)}")
                topics = len(far.events_of("topic")) + 1
                for each in here:
                    await until(lambda: len(each.events_of("topic")) == topics, "the topic")  # noqa: B023
            await bob.publish("unheard")
            await until(lambda: any(e.get("id") == "unheard" for e in bob.events), "an answer")
            assert bob.events_of("error")[-1]["code"] == "announce_only"
            await boss.ask("announce", on=False)
            await until(lambda: len(bob.events_of("announce")) == 4, "the end of the mode")
            await bob.publish("last")
            for each in here:
                await until(lambda: each.received_at("last"), "the last message")  # noqa: B023

            def told(each: Any) -> list[tuple[Any, ...]]:
                kinds = {"message", "announce", "topic"}
                return [
                    (event["type"], event.get("seq"), event.get("on"), event.get("text"))
                    for event in each.events
                    if event["type"] in kinds
                ]

            assert told(boss) == told(near) == told(bob) == told(far)
            closed = False  # no message stands where only operators may write
            for type, _, on, text in told(far):
                closed = on if type == "announce" else closed
                assert not (type == "message" and closed), text
            await boss.ask("mute", name="far", on=True)
            await until(lambda: far.events_of("muted"), "the mute")
            await far.publish("muted")
            await until(lambda: far.events_of("error"), "an error")
            assert far.events_of("error")[-1]["code"] == "muted"
            await boss.ask("kick", name="bob")
            await until(lambda: bob.code, "the end")
            assert (bob.code, bob.events[-2]["type"], bob.events[-1]["code"]) == (
                4503,
                "kicked",
                "kicked",
            )
            for each in (boss, near, far):
                await until(lambda: each.events_of("left"), "who left")  # noqa: B023
                assert [e["type"] for e in each.events if e.get("name") == "bob"][-2:] == [
                    "kicked",
                    "left",
                ]
            again = await join(one, "other", name, f"&session={session}")
            await again.close()
            assert again.events_of("error")[0]["code"] == "kicked"

    asyncio.run(part())
