"""Export: the messages of a room as text and as JSON lines, by a command and in the admin."""

from __future__ import annotations

import json
from io import StringIO

from django_client import http_request, run_async  # it sets Django up

# isort: split

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now
from moderation_harness import (
    ADMIN,
    dana,
    last_record,
    log_messages,
    new_account,
    new_room,
    page,
    pages,
    signed_in,
)

from django_site import models
from django_site.accounts.models import Account
from django_site.moderation import actions
from django_site.store import export

__all__ = ["dana", "pages"]  # fixtures


def command(*arguments: str) -> str:
    """Run `export_messages`, and return what it prints."""
    output = StringIO()
    call_command("export_messages", *arguments, stdout=output)
    return output.getvalue()


def test_a_room_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of a message has its time and name, and each JSON line is the event of the wire."""
    monkeypatch.setattr(export, "PAGE_MESSAGES", 2)
    room = new_room()
    log_messages(room, "one", "two\nbob: forged\x1b[31m", "hidden", "four \0")
    actions.hide(models.Message.objects.filter(room=room, seq=3), new_account())
    lines = command(room.name).splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "bob: one",
        "bob: two",
        "bob: bob: forged\ufffd[31m",
        "bob: four \ufffd",
    ]
    assert all(line.split(" ", 1)[0].endswith("Z") for line in lines)
    events = [json.loads(line) for line in command(room.name, "--format", "jsonl").splitlines()]
    assert [(each["type"], each["seq"], each["text"]) for each in events] == [
        ("message", 1, "one"),
        ("message", 2, "two\nbob: forged\x1b[31m"),
        ("message", 4, "four \0"),
    ]


def test_a_time_is_exported() -> None:
    """Only the messages of the given time are exported."""
    room = new_room()
    log_messages(room, *"12345")
    for seq in range(1, 6):
        at = now().replace(2026, 3, seq, 12)
        models.Message.objects.filter(room=room, seq=seq).update(at=at)

    def texts(*arguments: str) -> str:
        return "".join(line[-1] for line in command(room.name, *arguments).splitlines())

    assert texts("--since", "2026-03-02", "--before", "2026-03-04") == "23"
    assert texts("--since", "2026-03-04T13:00") == "5"
    assert texts("--since", "2027-01-01") == texts("--before", "2026-03-01T00:00Z") == ""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nowhere",), "there is no room called nowhere"),
        (("lobby", "--since", "yesterday"), "yesterday is not a time"),
        (("lobby", "--before", "2026-02-31"), "2026-02-31 is not a time"),
        (("lobby", "--format", "xml"), "invalid choice"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], error: str) -> None:
    """What cannot be is rejected with one line."""
    with pytest.raises(CommandError, match=error):
        command(*arguments)


def test_a_room_is_exported_in_the_admin(dana: Account) -> None:
    """The buttons of a room send a file and record it; without the permission there are none."""
    room = new_room()
    log_messages(room, *(f"{number} {'x' * 99}" for number in range(1200)))
    browser = signed_in(dana)
    url = f"{ADMIN}/room/{room.pk}/export"
    assert f'href="{url}/text/"' in page(browser, f"room/{room.pk}/change/")
    cookie = (b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode())
    found: list[tuple[int, str]] = []

    async def part() -> None:
        paths = (f"{url}/{format}/" for format in ("text", "jsonl", "xml"))
        found.extend([await http_request("GET", path, cookie) for path in paths])

    run_async(part)
    assert [status for status, _ in found] == [200, 200, 404]
    assert len(found[0][1].splitlines()) == 1200
    assert [json.loads(line)["seq"] for line in found[1][1].splitlines()] == [*range(1, 1201)]
    assert last_record()[:3] == (dana.username, "export", f"room {room} as jsonl")
    without = signed_in(new_account("view_room", is_staff=True))
    assert url not in page(without, f"room/{room.pk}/change/")
    assert without.get(f"{url}/text/").status_code == 403
