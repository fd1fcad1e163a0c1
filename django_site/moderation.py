"""Moderation: what a moderator can do, each in one transaction with its record.

Whoever is in a room sees it at once, in whatever process: hidden messages by the
room's edits, people who have to go by the roster. Every function here blocks, and is
called in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from django.db import transaction
from django.utils import timezone

from . import bell, ends, log, models, presence
from .accounts.models import Account
from .keys import stored_key


def hide(messages: Iterable[models.Message], by: Account, reason: str = "") -> int:
    """Take messages out of history and of view, and return how many could still be seen."""
    count = 0
    with transaction.atomic():
        for room, seqs in _by_room(messages):
            rows = models.Message.objects.filter(room=room, seq__in=seqs, edit=None)
            for row in rows.order_by("seq"):
                room.edits += 1
                row.edit = room.edits
                row.save(update_fields=["edit"])
                _record(by, "hide", _about(room, row), reason)
                count += 1
            room.save(update_fields=["edits"])
            _ring(room)
    return count


def unhide(messages: Iterable[models.Message], by: Account, reason: str = "") -> int:
    """Put messages back into history, for those who come from now on."""
    count = 0
    with transaction.atomic():
        for room, seqs in _by_room(messages):
            rows = models.Message.objects.filter(room=room, seq__in=seqs).exclude(edit=None)
            for row in rows.order_by("seq"):
                row.edit = None
                row.save(update_fields=["edit"])
                _record(by, "unhide", _about(room, row), reason)
                count += 1
    return count


def close(room: models.Room, by: Account, reason: str = "") -> None:
    """Let nobody into *room*, and send away who is there."""
    with transaction.atomic():
        row = _locked(room)
        row.closed, row.closed_why = timezone.now(), reason
        row.save(update_fields=["closed", "closed_why"])
        presence.remove(models.Member.objects.filter(room=row), ends.closed(row))
        _record(by, "close", f"room {row.name}", reason)


def reopen(room: models.Room, by: Account, reason: str = "") -> None:
    """Let people into *room* again."""
    with transaction.atomic():
        row = _locked(room)
        row.closed, row.closed_why = None, ""
        row.save(update_fields=["closed", "closed_why"])
        _record(by, "reopen", f"room {row.name}", reason)


def ban(ban: models.Ban, by: Account) -> None:
    """Impose *ban*, which is new, and send away whom it is about."""
    rooms = models.Room.objects.all()
    if ban.room is not None:
        rooms = rooms.filter(pk=ban.room.pk)
    with transaction.atomic():
        # Who is coming in just now was looked at before the ban, and is in its room only
        # when that room's lock is given back: without this it would be overlooked.
        list(rooms.order_by("pk").select_for_update().values_list("pk"))
        ban.key = stored_key(ban.name) if ban.name else ""
        ban.save()
        presence.remove(presence.banned(ban), ends.banned(ban))
        _record(by, "ban", str(ban), ban.reason)


def lift(ban: models.Ban, by: Account, reason: str = "") -> None:
    """End *ban* before its time."""
    with transaction.atomic():
        ban.lifted = timezone.now()
        ban.save(update_fields=["lifted"])
        _record(by, "lift", str(ban), reason)


def _by_room(messages: Iterable[models.Message]) -> Iterable[tuple[models.Room, list[int]]]:
    """Sort messages into their rooms, each locked; in one order, so that no two wait."""
    places = sorted((message.room_id, message.seq) for message in messages)
    for key, of_room in groupby(places, key=lambda place: place[0]):
        room = models.Room.objects.select_for_update().get(pk=key)
        yield room, [seq for _, seq in of_room]


def _locked(room: models.Room) -> models.Room:
    return models.Room.objects.select_for_update().get(pk=room.pk)


def _about(room: models.Room, message: models.Message) -> str:
    return f"{room.name} {message.seq}, {message.name}: {log.shown(message.text)}"


def _record(by: Account, action: str, subject: str, reason: str) -> None:
    models.Record.objects.create(
        by=by, by_name=by.username, action=action, subject=log.stored(subject), reason=reason
    )


def _ring(room: models.Room) -> None:
    transaction.on_commit(lambda: bell.ring_for([room.pk]))
