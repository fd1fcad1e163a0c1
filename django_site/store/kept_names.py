"""Kept names: the names of members whose connections broke, kept for their sessions for a while.

`broadcast_server.rooms.kept_names` does the same for the standalone server and gives the reasons.
Here they are rows of the database, so that they outlive a process. All functions block.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TypeVar

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from broadcast_server.rooms.kept_names import KEEP_S, MAX_KEPT_NAMES
from django_site import models

Row = TypeVar("Row")


def address_digest(address: str | None) -> str:
    """Return what the database has of an *address*, by which it counts names."""
    return salted_hmac("django_site.address", address).hexdigest()[:32] if address else ""


def keep_names(rooms: Collection[int], members: QuerySet[models.Member]) -> None:
    """Keep the names of those *members* that are about to leave *rooms* and will come back.

    Call it within a transaction in which the rooms are locked. An account needs none: nobody else
    gets its name.
    """
    guests = members.filter(room__in=rooms, account=None, end_code=None)
    guests = guests.exclude(session=None).exclude(name="").order_by("-pk")
    columns = "room", "key", "name", "session", "address"
    leaving = share_out(list(guests.values_list(*columns)), lambda row: row[-1])
    if not leaving:
        return
    models.KeptName.objects.filter(room__in=rooms, until__lte=Now()).delete()
    until = Now() + timedelta(seconds=KEEP_S)
    models.KeptName.objects.bulk_create(
        (
            models.KeptName(
                room_id=room, key=key, name=name, session=session, address=address, until=until
            )
            for room, key, name, session, address in leaving
        ),
        ignore_conflicts=True,
    )


def kept_in(room: models.Room) -> QuerySet[models.KeptName]:
    """Find the names that are kept in *room*."""
    return models.KeptName.objects.filter(room=room, until__gt=Now())


def trim() -> None:
    """Delete the names that are kept no longer, and those beyond `MAX_KEPT_NAMES`.

    These are the oldest of the addresses that have most of them.
    """
    with transaction.atomic():
        # A room that is locked may be about to delete some, and must not be waited for.
        rows = models.KeptName.objects.select_for_update(skip_locked=True)
        expired = rows.filter(until__lte=Now()).values_list("pk", flat=True)
        kept = list(
            rows.filter(until__gt=Now()).order_by("-until", "-pk").values_list("pk", "address")
        )
        stay = share_out(kept, lambda row: row[1])
        beyond = {pk for pk, _ in kept} - {pk for pk, _ in stay}
        models.KeptName.objects.filter(pk__in=[*expired, *beyond]).delete()


def share_out(rows: Sequence[Row], address_of: Callable[[Row], str]) -> list[Row]:
    """Return at most `MAX_KEPT_NAMES` of *rows*: of each address the first, up to an equal share.

    What an address does not need of its share is for the others.
    """
    by_address = dict[str, list[Row]]()
    for row in rows:
        by_address.setdefault(address_of(row), []).append(row)
    shares, left = list[Row](), MAX_KEPT_NAMES
    groups = sorted(by_address.values(), key=len)
    for place, group in enumerate(groups):
        share = group[: left // (len(groups) - place)]
        shares += share
        left -= len(share)
    return shares
