"""Bans: which of them are active in a room, and to whom one applies. All functions block."""

from __future__ import annotations

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from django_site import models
from django_site.accounts.name_key import family_keys, stored_key

from .origins import origins_in, parse_network

NETWORK_KEY = ":network:"
"""Begins the key of the ban of a network. No name has a colon in its key."""


def session_key(session: str) -> str:
    """Return the key of the bans of the session with this digest."""
    return f":session:{session}"


def origin_key(origin: str) -> str:
    """Return the key of the bans of an address, by its origin."""
    return f":origin:{origin}"


def key_of(ban: models.Ban) -> str:
    """Return the key by which *ban* is found, empty for that of an account."""
    if ban.session:
        return session_key(ban.session)
    if ban.origin:
        return origin_key(ban.origin)
    if ban.network:
        return NETWORK_KEY + ban.network
    return stored_key(ban.name) if ban.name else ""


def bans_in(room: models.Room) -> QuerySet[models.Ban]:
    """Find the bans that are active in *room*: its own, and those of all rooms."""
    bans = models.Ban.objects.filter(Q(room=room) | Q(room=None))
    return bans.filter(until__gt=Now(), lifted=None)


def banned(ban: models.Ban) -> QuerySet[models.Member]:
    """Find the participants to whom *ban* applies."""
    matching = models.Member.objects.filter(account=ban.account)  # None: guests only
    if ban.room is not None:
        matching = matching.filter(room=ban.room)
    if ban.session:
        return matching.filter(session=ban.session)
    if ban.origin:
        return matching.filter(origin=ban.origin)
    if ban.network:
        inside = origins_in(parse_network(ban.network))
        present = matching.exclude(origin="").values_list("pk", "origin")
        return matching.filter(pk__in=[pk for pk, origin in present if origin in inside])
    if ban.account is not None:
        return matching
    matching = matching.exclude(name="")
    # The keys of which a ban applies to a name depend on the name, so the database cannot tell.
    named = [pk for pk, name in matching.values_list("pk", "name") if applies_to(ban, name)]
    return matching.filter(pk__in=named)


def applies_to(ban: models.Ban, name: str) -> bool:
    """Tell whether *ban*, of a name, applies to a guest that is called *name*."""
    keys, beginnings = family_keys(name)
    return ban.key in keys or any(map(ban.key.startswith, beginnings))
