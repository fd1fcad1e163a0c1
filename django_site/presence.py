"""Presence: who is in a room, across all processes.

A member is a row, whose name and session the database keeps unique. Each change
of a room's members moves its roster's version on, by which every process sees
that it has to look again. A process that was not seen for a while has died, and
anyone may take its members out. Every function here blocks, and is called in a
thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from broadcast_server.entry import Entry
from broadcast_server.names import name_key, numbered

from . import models

DEAD: float = settings.BROADCAST_DEAD
"""Seconds without a sign of life after which the members of a process are taken out."""

BEAT = DEAD / 4
"""Seconds between two signs of life."""

KEY = 200
"""So many characters of a name's key fit into its column."""


@dataclass(frozen=True, slots=True)
class Present:
    """A member as everyone sees it: its row, name, and which connection it is."""

    id: int
    name: str
    token: str


def enter(room: int, entry: Entry, process: str, token: str) -> str:
    """Let someone in, and return its name. Who has its session is replaced by it."""
    with transaction.atomic():
        # It may have been taken for dead, and may not have noticed yet.
        models.Process.objects.get_or_create(pk=process, defaults={"seen": Now()})
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
    if here.filter(key=_key(name)).exists():
        taken = set(here.values_list("key", flat=True))
        number = 2
        while _key(numbered(name, number)) in taken:
            number += 1
        name = numbered(name, number)
    models.Member.objects.create(
        room=room,
        process_id=process,
        key=_key(name),
        name=name,
        session=entry.session,
        token=token,
    )
    return name


def _key(name: str) -> str:
    key = name_key(name)  # up to 18 times as long as the name
    return key if len(key) <= KEY else hashlib.sha256(key.encode()).hexdigest()


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
    """Note that *process* lives, and take out the members of those that do not.

    All by the database's clock, since those of machines differ.
    """
    here = models.Process.objects.filter(pk=process)
    if not here.filter(seen__gte=Now() - timedelta(seconds=DEAD / 2)).update(seen=Now()):
        # Who was away itself, with the database perhaps, cannot tell who died meanwhile.
        models.Process.objects.update_or_create(pk=process, defaults={"seen": Now()})
        return
    with transaction.atomic():
        silent = models.Process.objects.filter(seen__lt=Now() - timedelta(seconds=DEAD))
        # What another process takes out just now is left to it.
        dead = [each.pk for each in silent.select_for_update(skip_locked=True)]
        if dead:
            _take_out(dead)


def end(process: str) -> None:
    """Take *process* and all of its members out: it stops."""
    with transaction.atomic():
        _take_out([process])


def _take_out(processes: Sequence[str]) -> None:
    rooms = models.Room.objects.filter(members__process__in=processes).distinct()
    keys = list(rooms.values_list("pk", flat=True))
    # Locked in one order, so that two who do this never wait for each other.
    locked = models.Room.objects.filter(pk__in=keys).order_by("pk").select_for_update()
    models.Room.objects.filter(pk__in=[each.pk for each in locked]).update(roster=F("roster") + 1)
    models.Process.objects.filter(pk__in=processes).delete()
