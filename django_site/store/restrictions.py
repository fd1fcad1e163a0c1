"""Restrictions: who was kicked from a room, and who is muted there.

`broadcast_server.rooms.restrictions` does the same for the standalone server and gives the reasons.
Here they are rows of the database, so that they hold in all processes and after a restart. The room
has to be locked. All functions block.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.timezone import now

from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.rooms.restrictions import KICK_S, MAX_NAMES, MUTE_S, Kind, held_name
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key

from .kept_names import address_digest

CLOCK_TOLERANCE = timedelta(minutes=2)
"""By how much the clocks of this process and of the database may differ."""


def name_keys(name: str) -> set[str]:
    """Return the key of *name*, none if it is nobody's own."""
    return {stored_key(name)} if name and held_name(name) else set()


def client_keys(
    session: str | None, address: str | None, account: Account | None = None
) -> set[str]:
    """Return the keys of a client by its session, its address and its account."""
    return _keys(
        session, address_digest(client_key(address)), None if account is None else account.pk
    )


def member_keys(member: models.Member, *, with_address: bool) -> set[str]:
    """Return the keys of a member; of an account only that."""
    if member.account_id is not None:
        return _keys(None, "", member.account_id)
    address = member.address if with_address else ""
    return name_keys(member.name) | _keys(member.session, address, None)


def kept_keys(kept: models.KeptName) -> set[str]:
    """Return the keys of a member whose name is kept."""
    return name_keys(kept.name) | _keys(kept.session, "", None)


def restrict(room: models.Room, kind: Kind, keys: set[str]) -> bool:
    """Restrict a client from now on. Returns whether it was not restricted before."""
    was_free = not lift(room, kind, keys)
    models.Restriction.objects.filter(room=room, until__lte=Now()).delete()
    seconds = KICK_S if kind == "kick" else MUTE_S
    act_id = secrets.token_hex(8)
    models.Restriction.objects.bulk_create(
        models.Restriction(
            room=room, kind=kind, key=key, act_id=act_id, until=Now() + timedelta(seconds=seconds)
        )
        for key in keys
    )
    end = now() + timedelta(seconds=seconds)
    room.restricted = end if room.restricted is None else max(room.restricted, end)
    models.Room.objects.filter(pk=room.pk).update(restricted=room.restricted)
    return was_free


def add_name(room: models.Room, old_keys: set[str], name: str) -> None:
    """Let the mute of a member that is known by *old_keys* hold for its new *name* as well."""
    row = _active(room, "mute", old_keys).first()
    if row is None:
        return
    for key in name_keys(name):
        models.Restriction.objects.update_or_create(
            room=room, kind="mute", key=key, defaults={"act_id": row.act_id, "until": row.until}
        )
    rows = models.Restriction.objects.filter(room=room, act_id=row.act_id).order_by("pk")
    names = rows.exclude(key__startswith=":").values_list("pk", flat=True)
    rows.filter(pk__in=list(names)[1 : 1 - MAX_NAMES]).delete()


def lift(room: models.Room, kind: Kind, keys: Iterable[str]) -> bool:
    """End what restricts the client that is known by *keys*. Returns whether there was anything."""
    acts = set(_active(room, kind, keys).values_list("act_id", flat=True))
    models.Restriction.objects.filter(room=room, kind=kind, act_id__in=acts).delete()
    return bool(acts)


def find(room: models.Room, kind: Kind, keys: Iterable[str]) -> models.Restriction | None:
    """Return what restricts a client that is known by any of *keys*, None if nothing does.

    It costs nothing while nobody is restricted in the room.
    """
    if room.restricted is None or room.restricted < now() - CLOCK_TOLERANCE:
        return None
    return _active(room, kind, keys).order_by("-until").first()


def seconds_left(restriction: models.Restriction, at: datetime | None = None) -> float:
    """Return for how many seconds a restriction goes on, at least one."""
    return max(1.0, (restriction.until - (at or now())).total_seconds())


def _active(room: models.Room, kind: Kind, keys: Iterable[str]) -> QuerySet[models.Restriction]:
    return models.Restriction.objects.filter(
        room=room, kind=kind, key__in=set(keys), until__gt=Now()
    )


def _keys(session: str | None, address: str, account: int | None) -> set[str]:
    if account is not None:
        return {f":account:{account}"}
    found = {f":session:{session}"} if session else set()
    return found | ({f":address:{address}"} if address else set())
