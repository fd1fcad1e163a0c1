"""Senders: which messages are by the author of a message, or by whom a ban applies to."""

from __future__ import annotations

import unicodedata

from django.db.models import Q

from broadcast_server.rooms.hiding import RECENT_MESSAGES
from django_site import models
from django_site.accounts.name_key import stored_key

from .message_log import NO_ID_PREFIX
from .origins import origins_in, parse_network

MAX_ORIGINS = 256
"""How many addresses a network has at most whose messages can be found."""


def by_name(name: str) -> Q:
    """Match messages by the name of their author.

    Upper and lower case are the same, but not every spelling is found: the log has no keys of
    names.
    """
    name = unicodedata.normalize("NFC", name)
    # SQLite ignores the case of ASCII letters only.
    spellings = {each(name) for each in (str.lower, str.upper, str.title, str.casefold)}
    return Q(name__iexact=name) | Q(name__in=spellings)


def last_message(room: models.Room, name: str) -> models.Message | None:
    """Return the last message of *name* in *room* that is not hidden, None if it is long ago."""
    key, after = stored_key(name), room.head - RECENT_MESSAGES
    recent = models.Message.objects.filter(room=room, seq__gt=after, edit=None)
    authors = recent.order_by("-seq").values_list("pk", "name")
    pk = next((pk for pk, author in authors if stored_key(author) == key), None)
    return None if pk is None else models.Message.objects.get(pk=pk)


def by_author_of(message: models.Message) -> Q:
    """Match the messages in the room of *message* that are by the same author.

    That is an account, or a guest with the same session or connection, or with the same name at
    the same address.
    """
    room = Q(room=message.room_id)
    if message.account_id is not None:
        return room & Q(account=message.account_id)
    same = _by_session(message.source.removeprefix(NO_ID_PREFIX))
    named = by_name(message.name)
    if message.origin is not None:
        named &= Q(origin=message.origin)
    return room & Q(account=None) & (same | named)


def by_banned(ban: models.Ban) -> Q:
    """Match the messages by whom *ban* applies to, in its room or in all.

    Raises ValueError for a network of more than `MAX_ORIGINS` addresses.
    """
    room = Q() if ban.room_id is None else Q(room=ban.room_id)
    if ban.account_id is not None:
        return room & Q(account=ban.account_id)
    guests = room & Q(account=None)
    if ban.session:
        return guests & _by_session(ban.session)
    if ban.origin:
        return guests & Q(origin=ban.origin)
    if ban.network:
        origins = origins_in(parse_network(ban.network))
        if len(origins) > MAX_ORIGINS:
            raise ValueError(f"the network has {len(origins)} addresses, at most {MAX_ORIGINS}")
        return guests & Q(origin__in=origins)
    return guests & by_name(ban.name)


def session_of(message: models.Message) -> str:
    """Return the digest of the session of the author of *message*, empty if there was none."""
    source = message.source.removeprefix(NO_ID_PREFIX)
    return "" if source.startswith("#") else source


def _by_session(source: str) -> Q:
    return Q(source__in=(source, NO_ID_PREFIX + source))
