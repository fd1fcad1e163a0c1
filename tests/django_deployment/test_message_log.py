"""The message log: on SQLite, messages are inserted without Django's own `bulk_create`."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django_client import run_async  # it sets Django up

from django_site import models
from django_site.store import message_log

TEXTS = ["", "plain", "é 🎉 \x10n", "%s %(x)s ? ' \" \\", "x" * 131072]


@pytest.mark.parametrize("micros", [0, 1, 999_999])
def test_sqlite_stores_what_bulk_create_would(micros: int) -> None:
    """The rows have the same values, as the database keeps them."""

    def stored(room: models.Room) -> list[tuple[object, ...]]:
        columns = [each for each in message_log.COLUMNS if each != "room_id"]
        types = {f"type_{each}": f"typeof({each})" for each in columns}
        rows = models.Message.objects.filter(room=room).order_by("seq").extra(select=types)
        raw = rows.extra(select={"raw_at": "CAST(at AS TEXT)"})
        return [*raw.values_list(*columns, *types, "raw_at", "edit")]

    def insert() -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
        account = get_user_model().objects.create(username=f"log-{micros}")
        at = datetime(2026, 2, 3, 4, 5, 6, micros, tzinfo=timezone.utc)
        ours, django = (message_log.open_room(f"log-{kind}-{micros}") for kind in ("a", "b"))

        def rows(room: models.Room) -> list[tuple[object, ...]]:
            return [
                (room.pk, i, "né", text, at, "s", f"{i}", account.pk if i % 2 else None)
                for i, text in enumerate(TEXTS, 1)
            ]

        message_log._insert_sqlite(rows(ours))
        names = message_log.COLUMNS
        models.Message.objects.bulk_create(
            [models.Message(**dict(zip(names, row, strict=True))) for row in rows(django)]
        )
        return stored(ours), stored(django)

    async def part() -> None:
        ours, django = await database_sync_to_async(insert)()
        assert len(ours) == len(TEXTS)
        assert ours == django

    run_async(part)
