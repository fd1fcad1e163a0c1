"""The client that a moderator is about to ban: what a link to the form of a ban says about it.

A ban of a session or an address needs what the database has of it. A link has that signed, because
the client may be gone from the list of members when the form is sent.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from django.core import signing
from django.urls import reverse

from django_site.accounts.models import Account
from django_site.models import Room

SALT = "django_site.banned_client"


class BannedClient(NamedTuple):
    """A guest: its name, the digest of its session and its origin, empty if there is none."""

    name: str
    session: str
    origin: str


def ban_url(client: BannedClient, account: Account | None, room: Room) -> str:
    """Return the URL of the form that bans *client*, or *account* if it has one, in *room*."""
    query = {"room": room.name}
    if account is not None:
        query["account"] = account.username
    else:
        query |= {"name": client.name, "client": signing.dumps(client, salt=SALT)}
    return f"{reverse('admin:django_site_ban_add')}?{urlencode(query)}"


def client_from(signed: str) -> BannedClient | None:
    """Return the client that a link has, None if it has none or was not made by `ban_url`."""
    try:
        return BannedClient(*signing.loads(signed, salt=SALT))
    except signing.BadSignature:
        return None
