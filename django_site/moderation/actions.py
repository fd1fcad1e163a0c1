"""The actions of moderators, each in one transaction with its record.

Each takes effect at once in all processes: replicas see hidden messages by the room's count of
edits, and removed members by the version of its roster. All functions block: call them in a
thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from broadcast_server.protocol.messages import Error
from broadcast_server.protocol.operators import OperatorRequest
from django_site import models
from django_site.accounts.models import Account
from django_site.store import (
    banning,
    message_log,
    notifier,
    operating,
    presence,
    rejections,
)
from django_site.store.records import record

HIDE_STEP = 500
"""How many messages are hidden in one transaction."""


def hide(messages: Iterable[models.Message], by: Account, reason: str = "") -> int:
    """Hide messages from history and from view. Returns how many were not hidden already."""
    count = 0
    with transaction.atomic():
        for room, seqs in _by_room(messages):
            rows = models.Message.objects.filter(room=room, seq__in=seqs, edit=None)
            for row in rows.order_by("seq"):
                room.edits += 1
                row.edit = room.edits
                row.save(update_fields=["edit"])
                record(by, "hide", _describe(room, row), reason)
                count += 1
            room.save(update_fields=["edits"])
            _notify(room)
    return count


def hide_all(matching: Q, by: Account, reason: str = "") -> int:
    """Hide all messages that *matching* finds, and return how many were not hidden already.

    It does so in steps of `HIDE_STEP` messages, each with its record, and does not keep a room
    locked in between: a flood may be of a hundred thousand.
    """
    count, after = 0, 0
    rows = models.Message.objects.filter(matching, edit=None).order_by("pk")
    while step := list(rows.filter(pk__gt=after)[:HIDE_STEP]):
        after = step[-1].pk
        with transaction.atomic():
            for room, seqs in _by_room(step):
                count += _hide_step(room, seqs, by, reason)
    return count


def _hide_step(room: models.Room, seqs: list[int], by: Account, reason: str) -> int:
    """Hide messages of *room*, which is locked, as one edit with one record."""
    rows = models.Message.objects.filter(room=room, seq__in=seqs, edit=None)
    found = list(rows.order_by("seq").values_list("seq", "name"))
    if not found:
        return 0
    room.edits += 1
    rows.update(edit=room.edits)
    room.save(update_fields=["edits"])
    names = ", ".join(dict.fromkeys(name for _, name in found))
    numbers = f"{found[0][0]} to {found[-1][0]}"
    record(by, "hide", f"{room.name} {numbers}, {len(found)} messages of {names}", reason)
    _notify(room)
    return len(found)


def unhide(messages: Iterable[models.Message], by: Account, reason: str = "") -> int:
    """Show messages in history again, to clients that join from now on. Returns how many."""
    count = 0
    with transaction.atomic():
        for room, seqs in _by_room(messages):
            rows = models.Message.objects.filter(room=room, seq__in=seqs).exclude(edit=None)
            for row in rows.order_by("seq"):
                row.edit = None
                row.save(update_fields=["edit"])
                record(by, "unhide", _describe(room, row), reason)
                count += 1
    return count


def close_room(room: models.Room, by: Account, reason: str = "") -> None:
    """Close *room*: disconnect everyone in it, and let nobody join."""
    with transaction.atomic():
        row = _locked(room)
        row.closed, row.closed_why = timezone.now(), reason
        row.save(update_fields=["closed", "closed_why"])
        presence.remove(models.Member.objects.filter(room=row), rejections.closed(row))
        record(by, "close", f"room {row.name}", reason)


def reopen_room(room: models.Room, by: Account, reason: str = "") -> None:
    """Open *room* again."""
    with transaction.atomic():
        row = _locked(room)
        row.closed, row.closed_why = None, ""
        row.save(update_fields=["closed", "closed_why"])
        record(by, "reopen", f"room {row.name}", reason)


def keep_messages(
    room: models.Room, by: Account, reason: str = "", days: int | None = None
) -> None:
    """Delete messages of *room* after *days*: 0 is never, None as long as the site has it."""
    with transaction.atomic():
        row = _locked(room)
        row.keep_days = days
        row.save(update_fields=["keep_days"])
        kept = "as long as the site has it" if days is None else f"{days} days" if days else "ever"
        record(by, "keep", f"messages of room {row.name} for {kept}", reason)


def operate(room: models.Room, by: Account, request: OperatorRequest, reason: str = "") -> None:
    """Do in *room* what an operator can do there. Raises ValueError if that is not possible."""
    with transaction.atomic():
        answer = operating.carry_out(_locked(room), request, by.username, by, reason)
        if isinstance(answer, Error):
            raise ValueError(answer.text)
        _notify(room)


def set_slow(room: models.Room, by: Account, reason: str = "", seconds: int = 0) -> None:
    """Let each member of *room* publish once in *seconds*; 0 is no limit."""
    operate(room, by, OperatorRequest("slow", seconds=seconds), reason)


def impose_ban(ban: models.Ban, by: Account) -> None:
    """Save the new *ban*, and disconnect the clients that it applies to."""
    rooms = models.Room.objects.all()
    if ban.room is not None:
        rooms = rooms.filter(pk=ban.room.pk)
    with transaction.atomic():
        # A client that joins right now was checked before the ban, and is on the roster only when
        # the lock of its room is released. Without this it would be missed.
        list(rooms.order_by("pk").select_for_update().values_list("pk"))
        removed = banning.impose(ban, by)
        transaction.on_commit(lambda: notifier.notify_rooms(removed))


def lift_ban(ban: models.Ban, by: Account, reason: str = "") -> None:
    """End *ban* early."""
    with transaction.atomic():
        ban.lifted = timezone.now()
        ban.save(update_fields=["lifted"])
        record(by, "lift", str(ban), reason)


def _by_room(messages: Iterable[models.Message]) -> Iterable[tuple[models.Room, list[int]]]:
    """Group messages by room, and lock each room, in a fixed order so that no two deadlock."""
    positions = sorted((message.room_id, message.seq) for message in messages)
    for key, group in groupby(positions, key=lambda position: position[0]):
        room = models.Room.objects.select_for_update().get(pk=key)
        yield room, [seq for _, seq in group]


def _locked(room: models.Room) -> models.Room:
    return models.Room.objects.select_for_update().get(pk=room.pk)


def _describe(room: models.Room, message: models.Message) -> str:
    return f"{room.name} {message.seq}, {message.name}: {message_log.unescape_nul(message.text)}"


def _notify(room: models.Room) -> None:
    transaction.on_commit(lambda: notifier.notify_rooms([room.pk]))
