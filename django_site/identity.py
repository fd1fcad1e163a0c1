"""The identity: whose account a connection is, by its token or by its session.

And what follows when that changes: an account's members come again, to be looked at
anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest
from importlib import import_module
from typing import Any, cast

from channels.auth import get_user
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_save, pre_delete
from django.http import parse_cookie

from broadcast_server.gate import given_token

from . import ends, presence
from .accounts.models import PREFIX, Account, Token
from .ends import Refused
from .threshold import Threshold

_sessions = import_module(settings.SESSION_ENGINE)


def token_of(scope: Mapping[str, Any]) -> str | None:
    """Return the token that a connection brings, by a header or, a page's, by a subprotocol."""
    return given_token(_headers(scope), scope.get("subprotocols", ()))


def is_no_token(token: str) -> bool:
    """Tell whether *token* is wrong at a first look: it is not that of guests, nor an account's."""
    return not (_is_shared(token) or token.startswith(PREFIX))


def _is_shared(token: str) -> bool:
    wanted: str | None = settings.BROADCAST_TOKEN
    given = token.encode(errors="replace")
    return wanted is not None and compare_digest(wanted.encode(), given)


async def account_of(scope: Mapping[str, Any]) -> Account | None:
    """Return whose account a connection is, None if it is a guest's.

    Raises `Refused` if its token is none, or it is a guest that may not come in; or a
    database's error.
    """
    token = token_of(scope)
    if token is not None:
        if _is_shared(token):
            return None
        account = None
        if not is_no_token(token):
            account = await database_sync_to_async(Token.account_of)(token)
        if account is None:
            raise Refused(ends.TOKEN if settings.BROADCAST_TOKEN is None else ends.WRONG_TOKEN)
        return account
    cookies = parse_cookie(_headers(scope).get("cookie", ""))
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    if key is not None:
        # Channels' own, which also sees whether the password has changed since.
        user = await get_user(cast(Any, {"session": _sessions.SessionStore(key)}))
        if user.is_authenticated:
            return cast(Account, user)
    if settings.BROADCAST_LOGIN == "required":
        raise Refused(ends.LOGIN)
    if settings.BROADCAST_TOKEN is not None:
        raise Refused(ends.NO_TOKEN)
    return None


async def known(
    scope: Mapping[str, Any],
    threshold: Threshold,
    address: str | None,
    hold_up: Callable[[float], Awaitable[None]],
) -> Account | None:
    """Do so, but *hold_up* first who brings a token from where others were wrong."""
    token, clock = token_of(scope), asyncio.get_running_loop().time
    wrong = token is not None and is_no_token(token)
    wait = 0.0 if token is None else threshold.guess(address, clock(), wrong=wrong)
    if wait:
        try:
            await hold_up(wait)
        finally:
            threshold.waited(address)
    try:
        return await account_of(scope)
    except Refused:
        if token is not None and not wrong:
            threshold.failed(address, clock())
        raise


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return a connection's headers; of one that is given twice, the last counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def watch() -> None:
    """Have members looked at anew from now on, when something about their accounts changes."""
    post_save.connect(_saved, sender=Account)
    pre_delete.connect(_deleted, sender=Account)
    pre_delete.connect(_revoked, sender=Token)
    user_logged_out.connect(_signed_out)


def _saved(instance: Account, update_fields: frozenset[str] | None, **_: object) -> None:
    # Every sign-in saves the time of the last.
    if update_fields is None or set(update_fields) != {"last_login"}:
        presence.account_changed(instance)


def _deleted(instance: Account, **_: object) -> None:
    presence.account_changed(instance)


def _revoked(instance: Token, **_: object) -> None:
    presence.account_changed(instance.account)


def _signed_out(user: Account | None, **_: object) -> None:
    if user is not None:
        presence.account_changed(user)
