"""Rows that another program has written: whatever they hold, the room goes on."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.utils.timezone import now
from django_client import connected, http_request, run_async  # it sets Django up

from broadcast_server.protocol.bounds import MAX_FRAME_BYTES, MAX_TEXT_BYTES
from django_site import models
from django_site.store import message_log, outage

_numbers = itertools.count(1)


def insert(room: models.Room, text: str, name: str = "sql") -> None:
    """Log a message in the way in which an operator could, with SQL."""
    head = models.Room.objects.get(pk=room.pk).head + 1
    models.Message.objects.create(
        room=room, seq=head, name=name, text=text, at=now(), source="s", client_id=f"{head}"
    )
    models.Room.objects.filter(pk=room.pk).update(head=head)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * MAX_TEXT_BYTES, "x" * MAX_TEXT_BYTES),
        (
            "\x01" * (MAX_TEXT_BYTES + 1),
            "(message of 131073 bytes is not shown, the limit is 131072)",
        ),
        ("é" * 2**17, "(message of 262144 bytes is not shown, the limit is 131072)"),
        (
            "x" * 2**20,
            "(message of 1048576 characters is not shown, the limit is 131072 bytes)",
        ),
        ("", ""),
    ],
    ids=["longest", "longer", "wide", "mebibyte", "empty"],
)
def test_a_message_that_is_too_long_does_not_stop_its_room(text: str, shown: str) -> None:
    """Who is there and who resumes gets a note in its place, and what follows."""
    room = message_log.open_room(f"foreign-{next(_numbers)}")

    async def part() -> None:
        async with connected(f"/?room={room.name}&name=ear", as_json=True) as ear:
            assert json.loads(await ear.receive_from(10))["type"] == "welcome"
            await database_sync_to_async(insert)(room, text, "n" * 40)
            await ear.send_to(text_data='{"type":"say","text":"after"}')
            assert await messages(ear) == [("n" * 32, shown), ("ear", "after")]
            async with connected(f"/?room={room.name}&name=late&history=9", as_json=True) as late:
                assert await messages(late) == [("n" * 32, shown), ("ear", "after")]

    run_async(part)


async def messages(client: WebsocketCommunicator) -> list[tuple[str, str]]:
    """Return the names and texts of the messages that *client* gets, up to the text "after"."""
    found: list[tuple[str, str]] = []
    while not found or found[-1][1] != "after":
        frame = await client.receive_from(10)
        assert isinstance(frame, str) and len(frame.encode()) <= MAX_FRAME_BYTES
        events = [json.loads(line) for line in frame.split("\n")]
        found += [(each["name"], each["text"]) for each in events if each["type"] == "message"]
    return found


NO_LOG = "the messages of this room cannot be read, ask who runs the server"

DAMAGES = {
    "a head that is no number": "UPDATE django_site_room SET head = 'abc' WHERE id = ?",
    "a head that is a fraction": "UPDATE django_site_room SET head = 2.5 WHERE id = ?",
    "a head below zero": "UPDATE django_site_room SET head = -5 WHERE id = ?",
    "a head out of range": "UPDATE django_site_room SET head = 9e17 + 9e17 WHERE id = ?",
    "a roster of bytes": "UPDATE django_site_room SET roster = x'01' WHERE id = ?",
    "edits that are no number": "UPDATE django_site_room SET edits = '' WHERE id = ?",
    "an epoch that is no UTF-8": (
        "UPDATE django_site_room SET epoch = CAST(x'ff' AS TEXT) WHERE id = ?"
    ),
}
MESSAGE_DAMAGES = {
    "a time that is none": "UPDATE django_site_message SET at = 'abc' WHERE room_id = ?",
    "a text of bytes": "UPDATE django_site_message SET text = x'61' WHERE room_id = ?",
    "a name that is no UTF-8": (
        "UPDATE django_site_message SET name = CAST(x'ff' AS TEXT) WHERE room_id = ?"
    ),
}


def execute(sql: str, room: models.Room) -> None:
    """Change *room* with SQL, as another program could."""
    with sqlite3.connect(str(settings.DATABASES["default"]["NAME"]), timeout=20) as other:
        other.execute(sql, (room.pk,))
    other.close()


@pytest.fixture(autouse=True)
def damage_deleted() -> Iterator[None]:
    """Delete the damaged rooms, which lists of all rooms and messages cannot read."""
    yield
    rooms = "(SELECT id FROM django_site_room WHERE name LIKE 'damaged-%')"
    with sqlite3.connect(str(settings.DATABASES["default"]["NAME"]), timeout=20) as other:
        names = [str(name) for (name,) in other.execute("SELECT name FROM sqlite_master")]
        for table in [name for name in names if name.startswith("django_site_")]:
            columns = {row[1] for row in other.execute(f"PRAGMA table_info({table})")}
            if "room_id" in columns:
                other.execute(f"DELETE FROM {table} WHERE room_id IN {rooms}")
        other.execute(f"DELETE FROM django_site_room WHERE id IN {rooms}")
    other.close()


@pytest.fixture
def log_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[], list[str]]:
    """The lines of the log, in which no damage was reported for a minute."""
    monkeypatch.setattr(outage, "_damage_logged_at", -outage.DAMAGE_INTERVAL_S)
    return lambda: [line for line in caplog.text.splitlines() if line]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_room_is_closed(damage: str, log_lines: Callable[[], list[str]]) -> None:
    """Everyone gets an error at once, the log one line, and other rooms go on."""
    room = message_log.open_room(f"damaged-{next(_numbers)}")
    url = f"/?room={room.name}"

    async def part() -> None:
        assert (await http_request("POST", url, body=b"one"))[0] == 200
        async with connected(f"{url}&name=ear", as_json=True) as ear:
            assert json.loads(await ear.receive_from(10))["type"] == "welcome"
            await database_sync_to_async(execute)(DAMAGES[damage], room)
            # A room that seems to be another one is closed as such, before it is opened again.
            assert (await http_request("POST", url, body=b"two"))[0] == 503
            for method, path in (("GET", "/stream"), ("POST", "/")):
                response = await http_request(method, f"{path}?room={room.name}", body=b"two")
                assert (response[0], NO_LOG in str(response)) == (503, True)
            error = json.loads((await ear.receive_from(10)).splitlines()[-1])
            seems_another = "epoch" in damage or "below" in damage
            assert error["code"] == ("stopping" if seems_another else "no_log")
            assert (await ear.receive_output(10))["code"] == 4001
        assert (await http_request("POST", "/?room=whole", body=b"one"))[0] == 200

    run_async(part)
    (line,) = log_lines()
    assert "the database is damaged, a room is closed: " in line


def test_a_head_before_the_last_message(log_lines: Callable[[], list[str]]) -> None:
    """No number is given twice: who publishes is rejected at once, again and again."""
    room = message_log.open_room(f"damaged-{next(_numbers)}")
    url = f"/?room={room.name}"

    async def part() -> None:
        assert (await http_request("POST", url, body=b"one"))[0] == 200
        await database_sync_to_async(execute)(
            "UPDATE django_site_room SET head = 0 WHERE id = ?", room
        )
        # The replica that is open finds another log first.
        assert (await http_request("POST", url, body=b"two"))[0] == 503
        for _ in range(2):
            response = await http_request("POST", url, body=b"two")
            assert (response[0], NO_LOG in str(response)) == (503, True)

    run_async(part)
    (line,) = log_lines()
    assert f"a number of room {room.name} after its head is in use" in line


@pytest.mark.parametrize("damage", MESSAGE_DAMAGES)
def test_a_damaged_message_is_not_read(damage: str, log_lines: Callable[[], list[str]]) -> None:
    """Who asks for it is closed with an error, and who does not goes on in the room."""
    room = message_log.open_room(f"damaged-{next(_numbers)}")
    url = f"/?room={room.name}"

    async def part() -> None:
        assert (await http_request("POST", url, body=b"one"))[0] == 200
        await database_sync_to_async(execute)(MESSAGE_DAMAGES[damage], room)
        async with connected(f"{url}&name=ear", as_json=True) as ear:
            assert json.loads(await ear.receive_from(10))["type"] == "welcome"
            async with connected(f"{url}&name=late&history=5", as_json=True) as late:
                assert (await late.receive_output(10))["type"] == "websocket.send"
                assert (await late.receive_output(10))["code"] == 4001
            await ear.send_to(text_data='{"type":"say","text":"after"}')
            assert await messages(ear) == [("ear", "after")]

    run_async(part)
    (line,) = log_lines()
    assert "the database is damaged, a room is closed: " in line
