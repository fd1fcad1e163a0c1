"""The open logins: by which session or token the clients of this process are signed in.

Whatever ends a login in the site closes its connections at once (`transport.authentication`). But a
session also ends by its time, or when it is deleted by another program, and nobody is told. So the
logins of all connections are looked up again once a minute.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from itertools import islice
from typing import NamedTuple

from channels.db import database_sync_to_async
from django.conf import settings
from django.db.models import Model
from django.utils.timezone import now

from django_site import models
from django_site.accounts.models import Account, Token
from django_site.store import presence, rejections

CHECK_INTERVAL_S = 60.0
"""Seconds between two checks of all logins."""

MAX_KEYS = 500
"""How many rows a statement looks for."""

_sessions = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()


class Login(NamedTuple):
    """How a connection is signed in: by the key of a session, or by the digest of a token."""

    account: int
    session: str | None = None
    token: str | None = None


class OpenLogins:
    """The logins of connections, by the connection's id. An event loop owns them."""

    def __init__(self) -> None:
        self._logins: dict[str, Login] = {}

    def add(self, connection_id: str, login: Login) -> None:
        """Note the login of a connection that is in a room."""
        self._logins[connection_id] = login

    def remove(self, connection_id: str) -> None:
        """Forget a connection, also if it has no login."""
        self._logins.pop(connection_id, None)

    async def check(self) -> None:
        """Close the connections whose login has ended. They reconnect, and are authenticated."""
        if self._logins:
            await database_sync_to_async(_remove_ended)(dict(self._logins))


def _remove_ended(logins: Mapping[str, Login]) -> None:
    held = logins.values()
    accounts = _found(Account, "pk", {each.account for each in held}, is_active=True)
    keys = {each.session for each in held if each.session is not None}
    sessions = _found(_sessions, "session_key", keys, expire_date__gt=now())
    digests = {each.token for each in held if each.token is not None}
    tokens = _found(Token, "digest", digests)
    ended = [
        connection_id
        for connection_id, login in logins.items()
        if login.account not in accounts
        or (login.session is not None and login.session not in sessions)
        or (login.token is not None and login.token not in tokens)
    ]
    for part in _parts(ended):
        members = models.Member.objects.filter(token__in=part)
        presence.remove(members, rejections.SIGN_IN_CHANGED)


def _found(
    model: type[Model], field: str, values: Collection[object], **more: object
) -> set[object]:
    """Return those of *values* that a row of *model* has in *field*."""
    rows = model._default_manager.filter(**more)
    return {
        value
        for part in _parts(values)
        for value in rows.filter(**{f"{field}__in": part}).values_list(field, flat=True)
    }


def _parts(values: Iterable[object]) -> Iterable[list[object]]:
    rest = iter(values)
    return iter(lambda: list(islice(rest, MAX_KEYS)), [])
