"""Presence: who is in a room, across all processes.

A member is a row, whose name and session the database keeps unique. Each change
of a room's members moves its roster's version on, by which every process sees
that it has to look again. A process that was not seen for a while has died, and
anyone may take its members out. Every function here blocks, and is called in a
thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from django.db import transaction
from django.db.models import F

from broadcast_server.entry import Entry
from broadcast_server.names import name_key, numbered

from . import models

BEAT = 10.0
"""Seconds between two signs of life of a process."""

DEAD = 40.0
"""Seconds without one after which its members are taken out."""


@dataclass(frozen=True, slots=True)
class Present:
    """A member as everyone sees it: its row, name, and which connection it is."""

    id: int
    name: str
    token: str


def enter(room: int, entry: Entry, process: str, token: str) -> str:
    """Let someone in, and return its name. Who has its session is replaced by it."""
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        name = _replace(row, entry, process, token) or _add(row, entry, process, token)
        row.roster += 1
        row.save(update_fields=["roster"])
    return name


def _replace(room: models.Room, entry: Entry, process: str, token: str) -> str | None:
    if entry.session is None:
        return None
    ghost = models.Member.objects.filter(room=room, session=entry.session).first()
    if ghost is None:
        return None
    ghost.process_id, ghost.token = process, token
    ghost.save(update_fields=["process", "token"])
    return ghost.name


def _add(room: models.Room, entry: Entry, process: str, token: str) -> str:
    name = entry.name
    here = models.Member.objects.filter(room=room)
    if here.filter(key=name_key(name)).exists():
        taken = set(here.values_list("key", flat=True))
        number = 2
        while name_key(numbered(name, number)) in taken:
            number += 1
        name = numbered(name, number)
    models.Member.objects.create(
        room=room,
        process_id=process,
        key=name_key(name),
        name=name,
        session=entry.session,
        token=token,
    )
    return name


def leave(room: int, tokens: Sequence[str]) -> None:
    """Take connections out, but for those that were replaced."""
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        gone, _ = models.Member.objects.filter(room=row, token__in=tokens).delete()
        if gone:
            row.roster += 1
            row.save(update_fields=["roster"])


def present(room: int) -> tuple[Present, ...]:
    """List who is here, in the order in which they came."""
    rows = models.Member.objects.filter(room=room).order_by("pk")
    return tuple(Present(*row) for row in rows.values_list("pk", "name", "token"))


def beat(process: str) -> None:
    """Note that *process* lives, and take out the members of those that do not."""
    now = datetime.now(timezone.utc)
    models.Process.objects.update_or_create(pk=process, defaults={"seen": now})
    dead = models.Process.objects.filter(seen__lt=now - timedelta(seconds=DEAD))
    for each in dead:
        with transaction.atomic():
            rooms = models.Room.objects.filter(members__process=each).distinct()
            keys = list(rooms.values_list("pk", flat=True))
            models.Room.objects.filter(pk__in=keys).update(roster=F("roster") + 1)
            each.delete()


def end(process: str) -> None:
    """Take *process* and all of its members out: it stops."""
    with transaction.atomic():
        rooms = models.Room.objects.filter(members__process=process).distinct()
        keys = list(rooms.values_list("pk", flat=True))
        models.Room.objects.filter(pk__in=keys).update(roster=F("roster") + 1)
        models.Process.objects.filter(pk=process).delete()
