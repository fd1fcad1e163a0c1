"""Retention: deletes messages that are older than a room keeps them.

Only the oldest messages of a room are deleted, so the others keep their numbers without a gap. The
room notes the number of the first one that is left: a client with an older cursor is told how many
messages it has missed, as it is by the standalone server. What moderators hid is deleted from their
records as well. All functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.utils.timezone import now

from django_site import models

from . import notifier
from .records import WITH_TEXT

DELETED_AT_ONCE = 500
"""How many messages are deleted in one transaction, for which those who publish wait."""

MAX_KEEP_DAYS = 36_500
"""For how many days messages can be kept at most, unless they are kept for ever."""


class Expiry(NamedTuple):
    """A room whose messages that are older than *before* are to be deleted."""

    room: int
    name: str
    before: datetime


def expiries(rooms: Sequence[models.Room] | None = None, days: int | None = None) -> list[Expiry]:
    """Find the rooms with a message that is too old, among *rooms* or among all.

    It is too old after *days*, or after as many as its room or the site keep it.
    """
    if rooms is None:
        # Only what is needed: a value of a room that cannot be read must not keep all the others.
        found = models.Room.objects.order_by("name").only("name", "keep_days")
        if not settings.BROADCAST_KEEP_DAYS and days is None:
            found = found.filter(keep_days__gt=0)
        rooms = list(found)
    result = []
    for room in rooms:
        site = settings.BROADCAST_KEEP_DAYS if room.keep_days is None else room.keep_days
        keep = site if days is None else days
        if not keep and days is None:
            continue
        before = now() - timedelta(days=keep)
        messages = models.Message.objects.filter(room=room).order_by("seq")
        oldest = messages.values_list("at", flat=True).first()
        if oldest is not None and oldest < before:
            result.append(Expiry(room.pk, room.name, before))
    return result


def count(expiry: Expiry) -> int:
    """Count the messages that would be deleted."""
    messages = models.Message.objects.filter(room=expiry.room)
    kept = messages.filter(at__gte=expiry.before).order_by("seq").values_list("seq", flat=True)
    first = kept.first()
    return messages.count() if first is None else messages.filter(seq__lt=first).count()


def delete_some(expiry: Expiry) -> int:
    """Delete up to `DELETED_AT_ONCE` messages in one transaction, and return how many it were."""
    with transaction.atomic(), _overwritten():
        room = models.Room.objects.select_for_update().filter(pk=expiry.room).first()
        if room is None:
            return 0
        messages = models.Message.objects.filter(room=room)
        oldest = messages.order_by("seq").values_list("seq", "at")[:DELETED_AT_ONCE]
        expired = []
        for seq, at in oldest:
            if at >= expiry.before:
                break
            expired.append(seq)
        if not expired:
            return 0
        room.first = expired[-1] + 1
        messages.filter(seq__lt=room.first).delete()
        room.save(update_fields=["first"])
        transaction.on_commit(lambda: notifier.notify_rooms([room.pk]))
    return len(expired)


def redact_records(expiry: Expiry) -> int:
    """Delete the texts of deleted messages from the records of moderators, and return how many."""
    room = models.Room.objects.filter(pk=expiry.room).first()
    if room is None:
        return 0
    records = models.Record.objects.filter(
        action__in=WITH_TEXT, subject__startswith=f"{room.name} "
    )
    redacted = 0
    with _overwritten():
        for record in records.iterator():
            about, colon, text = record.subject.partition(": ")
            number = about.removeprefix(f"{room.name} ").partition(",")[0]
            is_deleted = number.isdecimal() and int(number) < room.first
            if not (colon and text and is_deleted):
                continue
            record.subject = f"{about}, deleted"
            record.save(update_fields=["subject"])
            redacted += 1
    return redacted


def _overwritten() -> _SecureDelete:
    return _SecureDelete()


class _SecureDelete:
    """Has SQLite overwrite what is deleted; PostgreSQL needs VACUUM for that."""

    def __enter__(self) -> None:
        self._set(on=True)

    def __exit__(self, *_: object) -> None:
        self._set(on=False)

    def _set(self, *, on: bool) -> None:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA secure_delete = {int(on)}")
