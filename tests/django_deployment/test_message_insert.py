"""The insert of messages: each database stores what Django itself would store there."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from random import Random

import django_client  # noqa: F401  # it sets Django up
import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.utils import ConnectionHandler
from django.test.utils import CaptureQueriesContext
from services import postgresql

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Message
from broadcast_server.protocol.timestamp import rfc3339
from django_site import models
from django_site.accounts.models import Account
from django_site.configuration.database_url import database_of
from django_site.store import message_log, presence, publish
from django_site.store.message_insert import NewMessage, insert
from django_site.store.message_log import Logged, PendingMessage
from django_site.store.presence import JoinAttempt
from django_site.store.publish import AuthorGone

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


@pytest.mark.parametrize("micros", [0, 1, 999, 1000, 999_999])
def test_a_time_is_read_as_it_is_sent_at_first(database: ThreadPoolExecutor, micros: int) -> None:
    """The milliseconds of a message from the log are those of the message that was just logged."""

    def read() -> None:
        room, at = message_log.open_room(secrets.token_hex(4)), AT.replace(microsecond=micros)
        insert(room.pk, at, [NewMessage(1, "bob", "text", "s", "1", None)])
        assert message_log.read(room.pk, 0, 9) == [Message(1, "bob", "text", rfc3339(at), "1")]

    database.submit(read).result()


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


# -- appending to a room that is as it was known --


def by(name: str, id: str, text: str = "text", source: str = "s") -> PendingMessage:
    """Return a message of the member on the connection *name*, which had another name before."""
    return PendingMessage("before", text, source, id, connection_id=name, origin="0123456789abcdef")


BATCHES = {
    "ids": [by("ann", "1"), by("bob", "2", "\0\x10 %s"), by("ann", "3\0", source="other")],
    "no ids": [by("ann", "1", source="~s"), by("bob", "2", source="~s")],
    "gone": [by("ann", "1"), by("zoe", "2"), by("bob", "3")],
    "all gone": [by("zoe", "1")],
    "no member": [PendingMessage("ci", "text", "s", "1"), by("ann", "2")],
    "twice": [by("ann", "1"), by("bob", "2"), by("ann", "1", "again")],
    "logged": [by("ann", "2"), by("ann", "old"), by("bob", "3")],
}
"""Batches whose room has the members ann and bob, and ann's message with the id "old"."""


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_is_logged_as_with_the_room_locked(
    database: ThreadPoolExecutor, batch: str
) -> None:
    """Whoever knows the room logs the same, with the same outcome, as one who looks it up."""

    def compare() -> None:
        found = []
        for names in ({"ann": "ann", "bob": "bob"}, None):
            room = message_log.open_room(secrets.token_hex(4))
            joins = [JoinAttempt(JoinRequest(name=each), each) for each in ("ann", "bob")]
            presence.join(room.pk, "process", joins)
            publish.append(room.pk, [by("ann", "old")], unsure=False)
            appended, outcomes = publish.append(
                room.pk,
                BATCHES[batch],
                unsure=False,
                epoch=room.epoch,
                head=1,
                roster=1,
                names=names,
            )
            assert appended.messages == message_log.read(room.pk, 1, 9)
            assert appended.state == message_log.room_state(room.pk)
            plain = [replace(each, at="") for each in appended.messages]
            columns = ("source", "client_id", "account", "text", "origin")
            rows = models.Message.objects.filter(room=room).order_by("seq").values_list(*columns)
            found.append((plain, outcomes, appended.logged, appended.state, [*rows]))
        assert found[0] == found[1]

    database.submit(compare).result()


@pytest.mark.parametrize("batch", ["ids", "no ids", "gone"])
def test_a_batch_takes_one_statement_of_postgresql(
    database: ThreadPoolExecutor, batch: str
) -> None:
    """It is a transaction of its own: the room is locked for no round trip of the process."""

    def count() -> None:
        room = message_log.open_room(secrets.token_hex(4))
        with CaptureQueriesContext(connection) as queries:
            _, outcomes = publish.append(
                room.pk,
                BATCHES[batch],
                unsure=False,
                epoch=room.epoch,
                roster=0,
                names={"ann": "ann", "bob": "bob"},
            )
        assert outcomes[0] == Logged(1, repeated=False)
        assert (outcomes[1] == AuthorGone()) == (batch == "gone")
        assert (len(queries) == 1) == (connection.vendor == "postgresql")

    database.submit(count).result()


@pytest.mark.parametrize("changed", ["epoch", "head", "deleted"])
def test_nothing_is_logged_in_a_room_that_is_another_one(
    database: ThreadPoolExecutor, changed: str
) -> None:
    """A room that was deleted, set back, or has another epoch, takes no message."""

    def append() -> None:
        room = message_log.open_room(secrets.token_hex(4))
        if changed == "deleted":
            models.Room.objects.filter(pk=room.pk).delete()
        with pytest.raises(models.Room.DoesNotExist):
            publish.append(
                room.pk,
                [by("ann", "1")],
                unsure=False,
                epoch="another" if changed == "epoch" else room.epoch,
                head=1 if changed == "head" else 0,
                roster=0,
                names={"ann": "ann"},
            )
        assert not models.Message.objects.filter(room=room.pk).exists()

    database.submit(append).result()
