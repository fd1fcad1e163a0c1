"""Rows that another program has written: whatever they hold, the room goes on."""

from __future__ import annotations

import itertools
import json

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.utils.timezone import now
from django_client import connected, run_async  # it sets Django up

from broadcast_server.protocol.bounds import MAX_FRAME_BYTES, MAX_TEXT_BYTES
from django_site import models
from django_site.store import message_log

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
