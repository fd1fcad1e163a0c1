"""What a replica reads when it has logged messages itself: each message once, in order."""

from __future__ import annotations

import itertools
import secrets
from unittest.mock import patch

import pytest
from channels.db import database_sync_to_async
from django_client import run_async  # it sets Django up

from broadcast_server.protocol.messages import LogEntry
from django_site import models
from django_site.store import message_log, publish, sync
from django_site.store.message_log import PendingMessage, RoomState


def pending(number: int) -> PendingMessage:
    """Return a message to log."""
    return PendingMessage("bob", f"text {number}", "session", secrets.token_hex(8))


def synchronise(room: models.Room, head: int, messages: list[PendingMessage]) -> list[LogEntry]:
    """Log *messages*, and return what is new to a replica that has read up to number *head*."""
    result = sync.sync(
        room.pk,
        "process",
        RoomState(head, 0, 0),
        epoch=room.epoch,
        names={},
        messages=messages,
        renames=(),
        leaving=(),
        maybe_logged=False,
    )
    return [*result.messages]


@pytest.mark.parametrize("chunk", [2, 1000])
def test_it_reads_what_the_log_has(chunk: int) -> None:
    """Chunk by chunk a replica gets what the log has after the number that it knows.

    It gets nothing if the next message was deleted before it has read it.
    """

    def compare(known: int, own: int, deleted: int) -> None:
        room = message_log.open_room(secrets.token_hex(8))
        publish.append(room.pk, [pending(number) for number in range(4)], unsure=False)
        models.Message.objects.filter(room=room, seq__lte=deleted).delete()
        if known < deleted:
            with pytest.raises(models.Room.DoesNotExist):
                synchronise(room, known, [pending(number) for number in range(own)])
            return
        got = synchronise(room, known, [pending(number) for number in range(own)])
        while more := synchronise(room, got[-1].seq if got else known, []):
            got += more
        assert got == message_log.read(room.pk, known, 99), (known, own, deleted)
        assert [each.seq for each in got] == list(range(known + 1, 5 + own))

    def compare_all() -> None:
        with patch.object(sync, "MAX_READ_MESSAGES", chunk):
            for case in itertools.product((0, 1, 3, 4), (0, 1, 3), (0, 1, 2, 4)):
                compare(*case)

    async def part() -> None:
        await database_sync_to_async(compare_all)()

    run_async(part)
