"""Kept names: the names of members whose connections broke, kept for their sessions for a while.

`broadcast_server.rooms.kept_names` does the same for the standalone server and gives the reasons.
Here they are rows of the database, so that they outlive a process. All functions block.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from broadcast_server.rooms.kept_names import KEEP_S, MAX_KEPT_NAMES
from django_site import models


def keep_names(rooms: Collection[int], members: QuerySet[models.Member]) -> None:
    """Keep the names of those *members* that are about to leave *rooms* and will come back.

    Call it within a transaction in which the rooms are locked. An account needs none: nobody else
    gets its name.
    """
    guests = members.filter(room__in=rooms, account=None, end_code=None)
    guests = guests.exclude(session=None).exclude(name="").order_by("-pk")
    columns = "room", "key", "name", "session"
    leaving = list(guests.values_list(*columns)[:MAX_KEPT_NAMES])
    if not leaving:
        return
    models.KeptName.objects.filter(room__in=rooms, until__lte=Now()).delete()
    until = Now() + timedelta(seconds=KEEP_S)
    models.KeptName.objects.bulk_create(
        (
            models.KeptName(room_id=room, key=key, name=name, session=session, until=until)
            for room, key, name, session in leaving
        ),
        ignore_conflicts=True,
    )


def kept_in(room: models.Room) -> QuerySet[models.KeptName]:
    """Find the names that are kept in *room*."""
    return models.KeptName.objects.filter(room=room, until__gt=Now())


def trim() -> None:
    """Delete the names that are kept no longer, and the oldest beyond `MAX_KEPT_NAMES`."""
    with transaction.atomic():
        # A room that is locked may be about to delete some, and must not be waited for.
        rows = models.KeptName.objects.select_for_update(skip_locked=True)
        expired = rows.filter(until__lte=Now()).values_list("pk", flat=True)
        beyond = rows.order_by("-until", "-pk").values_list("pk", flat=True)[MAX_KEPT_NAMES:]
        models.KeptName.objects.filter(pk__in=[*expired, *beyond]).delete()
