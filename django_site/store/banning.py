"""Banning: keeps a guest or an account out of a room for a day, from the room itself.

The admin bans for any time, in all rooms, and by what a moderator chooses. Here it is everything by
which the one who is meant is known and nobody else who is here. All functions block.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from django.db.models import QuerySet
from django.utils.timezone import now

from broadcast_server.protocol.sanitize import strip_control
from broadcast_server.rooms.restrictions import held_name
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key

from . import presence, rejections
from .bans import applies_to, key_of
from .bans import banned as find_banned
from .records import record
from .senders import session_of

BAN_LASTS = timedelta(days=1)
"""How long a ban from a room lasts."""


class Target(NamedTuple):
    """Who is to be banned: an account, or a guest with what is known of it, else empty."""

    name: str
    account: Account | None
    session: str
    origin: str


def target_of(found: models.Member | models.KeptName | models.Message) -> Target:
    """Return who is or was the member *found*, or the author of the message."""
    if isinstance(found, models.KeptName):
        return Target(found.name, None, found.session, "")
    session = session_of(found) if isinstance(found, models.Message) else found.session
    return Target(found.name, found.account, session or "", found.origin or "")


def ban(room: models.Room, target: Target, by: Account, reason: str) -> bool:
    """Ban *target* in *room*, which is locked. Returns False if there is nothing to ban it by."""
    until = now() + BAN_LASTS
    bans = list(_bans(room, target))
    for each in bans:
        each.room, each.until, each.reason = room, until, reason
        impose(each, by)
    return bool(bans)


def impose(ban: models.Ban, by: Account) -> list[int]:
    """Save the new *ban*, and remove to whom it applies. Returns the rooms to notify.

    Rooms in which it holds have to be locked.
    """
    ban.key = key_of(ban)
    ban.save()
    rooms = presence.remove_in(find_banned(ban), rejections.banned(ban))
    record(by, "ban", str(ban), ban.reason)
    return rooms


def clean_reason(text: str) -> str:
    """Return the reason *text* as one line without anything that a terminal would obey."""
    return strip_control(" ".join(text.split()))


def _bans(room: models.Room, target: Target) -> Iterator[models.Ban]:
    """Yield the bans of *target*, which hit no other guest who is in *room*."""
    if target.account is not None:
        yield models.Ban(account=target.account)
        return
    others = list(_other_guests(room, target).values_list("name", "origin"))
    if target.session:
        yield models.Ban(session=target.session, label=target.name)
    if target.origin and all(origin != target.origin for _, origin in others):
        yield models.Ban(origin=target.origin, label=target.name)
    # A ban of bob is one of bob-2, too.
    named = models.Ban(name=target.name, key=stored_key(target.name))
    if held_name(target.name) and not any(applies_to(named, name) for name, _ in others):
        yield named


def _other_guests(room: models.Room, target: Target) -> QuerySet[models.Member]:
    guests = models.Member.objects.filter(room=room, account=None, end_code=None).exclude(name="")
    if target.session:
        guests = guests.exclude(session=target.session)
    return guests.exclude(key=stored_key(target.name), origin=target.origin)
