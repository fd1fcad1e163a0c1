"""The insert of messages: each database stores what Django itself would store there."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import django_client  # noqa: F401  # it sets Django up
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.utils import ConnectionHandler
from services import postgresql

from django_site import models
from django_site.accounts.models import Account
from django_site.configuration.database_url import database_of
from django_site.store import message_log
from django_site.store.message_insert import NewMessage, insert

TEXTS = (
    *("", "plain", "é \U0001f389 e\u0301 \u202e \x10n", "%s %(x)s %% ? $1 ' \" \\ \\u0041 \\x41"),
    *("NULL", "null", "{a,NULL}", '"},{"seq":7', "\r\n\t\x01\x1f\x7f\x85\u2028\ufffe"),
    "x" * 131072,
)
NAMES = ("bob", "né", '"', "\\", "\U0001f389" * 32)
AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[ThreadPoolExecutor]:
    """A thread that is connected to a database with tables."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        if request.param == "sqlite":
            yield thread
        else:
            with postgresql(Path(folder, "postgresql")) as url:

                def connect() -> None:
                    handler = ConnectionHandler({"default": database_of(url)})
                    connections["default"] = handler["default"]  # of this thread only

                thread.submit(connect).result()
                yield thread
                thread.submit(lambda: connections["default"].close()).result()  # noqa: PLW0108


def stored(room: models.Room) -> list[tuple[object, ...]]:
    """Return the messages of *room* as its database has them, and its head."""
    columns = ("seq", "name", "text", "at", "source", "client_id", "account_id", "origin", "edit")
    type_of = "typeof" if connection.vendor == "sqlite" else "pg_typeof"
    types = {f"type_{each}": f"CAST({type_of}({each}) AS TEXT)" for each in columns}
    rows = models.Message.objects.filter(room=room).order_by("seq").extra(select=types)
    raw = rows.extra(select={"raw_at": "CAST(at AS TEXT)"})
    room.refresh_from_db()
    return [*raw.values_list(*columns, *types, "raw_at"), (room.head,)]


@pytest.mark.parametrize("length", [1, 60])
@pytest.mark.parametrize("micros", [0, 1, 999_999])
def test_it_stores_what_bulk_create_would(
    database: ThreadPoolExecutor, length: int, micros: int
) -> None:
    """The rows have the same values, as the database keeps them."""

    def compare() -> None:
        name = secrets.token_hex(4)
        account = Account.objects.create(username=name).pk
        chance = Random(micros)  # not a secret
        rows = [
            NewMessage(
                number,
                chance.choice(NAMES),
                TEXTS[-number % len(TEXTS)],
                chance.choice(TEXTS[:-1]),
                f"{chance.choice(TEXTS[:-1])}{number}",
                chance.choice((None, account)),
            )
            for number in range(1, length + 1)
        ]
        at = AT.replace(microsecond=micros)
        ours, django = message_log.open_room(f"{name}-a"), message_log.open_room(f"{name}-b")
        insert(ours.pk, at, rows)
        models.Message.objects.bulk_create(
            models.Message(room=django, at=at, **row._asdict()) for row in rows
        )
        models.Room.objects.filter(pk=django.pk).update(head=length)
        assert stored(ours) == stored(django)
        assert len(stored(ours)) == length + 1

    database.submit(compare).result()


def test_all_or_nothing_is_inserted(database: ThreadPoolExecutor) -> None:
    """The database rejects a second message with the same id, and all that comes with it."""

    def insert_twice() -> None:
        room = message_log.open_room(secrets.token_hex(4))
        first = NewMessage(1, "bob", "a", "session", "id", None)
        insert(room.pk, AT, [first])
        before = stored(room)
        again = [first._replace(seq=2, client_id="other"), first._replace(seq=3)]
        with pytest.raises(IntegrityError), transaction.atomic():
            insert(room.pk, AT, again)
        assert stored(room) == before

    database.submit(insert_twice).result()
