"""Authentication: finds the account of a connection, by its token or by its session cookie.

When an account changes, or its token or session ends, its connections are closed, and are
authenticated again when they reconnect.
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
from django.db.models.signals import m2m_changed, post_save, pre_delete
from django.http import parse_cookie

from broadcast_server.admission.admission import NO_TOKEN, WRONG_TOKEN
from broadcast_server.admission.token import find_operator_key, find_token
from broadcast_server.protocol.session_key import SESSION_HEADER
from django_site.accounts.models import TOKEN_PREFIX, Account, Token
from django_site.replication.admission import ProcessAdmission
from django_site.replication.open_logins import Login
from django_site.store import presence, rejections
from django_site.store.operators import is_operator
from django_site.store.rejections import Rejected

_sessions = import_module(settings.SESSION_ENGINE)

_blocking_get_user: Callable[[dict[str, Any]], Any] = cast(Any, get_user).func
"""Channels' function before it is made a coroutine, so that it can run within a transaction."""


def scope_token(scope: Mapping[str, Any]) -> str | None:
    """Return the token of a connection, None if it has none.

    A program sends it in a header, and a page in a subprotocol.
    """
    return find_token(_headers(scope), scope.get("subprotocols", ()))


def session_headers(scope: Mapping[str, Any]) -> list[str]:
    """Return the values of all headers of a connection that carry the session of its client."""
    wanted = SESSION_HEADER.lower().encode()
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def is_malformed_token(token: str) -> bool:
    """Tell whether *token* is neither the guests' token nor formed like that of an account."""
    return not (_is_guest_token(token) or token.startswith(TOKEN_PREFIX))


def _is_guest_token(token: str) -> bool:
    expected: str | None = settings.BROADCAST_TOKEN
    given = token.encode(errors="replace")
    return expected is not None and compare_digest(expected.encode(), given)


async def account_of(scope: Mapping[str, Any]) -> Account | None:
    """Return the account of a connection, as `find_account` does, from a coroutine."""
    token = scope_token(scope)
    is_guest = _session_key(scope) is None if token is None else not token.startswith(TOKEN_PREFIX)
    if is_guest:  # who need not wait for the database
        return find_account(scope)
    account: Account | None = await database_sync_to_async(find_account)(scope)
    return account


def find_account(scope: Mapping[str, Any]) -> Account | None:
    """Return the account of a connection, None if it is a guest. It blocks.

    Raises `Rejected` if its token is not valid, or if it is a guest that may not join; or a
    database's error.
    """
    token = scope_token(scope)
    if token is not None:
        if _is_guest_token(token):
            return None
        account = None
        if not is_malformed_token(token):
            account = Token.account_of(token)
        if account is None:
            raise Rejected(rejections.TOKEN if settings.BROADCAST_TOKEN is None else WRONG_TOKEN)
        return account
    key = _session_key(scope)
    if key is not None:
        # Channels' function also checks that the password has not changed since.
        user = _blocking_get_user({"session": _sessions.SessionStore(key)})
        if user.is_authenticated:
            return cast(Account, user)
    if settings.BROADCAST_LOGIN == "required":
        raise Rejected(rejections.LOGIN)
    if settings.BROADCAST_TOKEN is not None:
        raise Rejected(NO_TOKEN)
    return None


def login_of(scope: Mapping[str, Any], account: Account) -> Login:
    """Return by what a connection is signed in to *account*."""
    token = scope_token(scope)
    if token is not None:
        return Login(account.pk, token=Token.digest_of(token))
    return Login(account.pk, session=_session_key(scope))


def _session_key(scope: Mapping[str, Any]) -> str | None:
    """Return the key in a connection's session cookie, None if it cannot be that of a session."""
    given = parse_cookie(_headers(scope).get("cookie", "")).get(settings.SESSION_COOKIE_NAME)
    key: str | None = _sessions.SessionStore(given).session_key
    return key


async def authenticate(
    scope: Mapping[str, Any],
    admission: ProcessAdmission,
    address: str | None,
    delay: Callable[[float], Awaitable[None]],
) -> Account | None:
    """Return what `account_of` does, after a delay if wrong tokens came from the same address.

    *delay* waits for a number of seconds.
    """
    token, clock = scope_token(scope), asyncio.get_running_loop().time
    wrong = token is not None and is_malformed_token(token)
    wait = 0.0 if token is None else admission.start_attempt(address, clock(), wrong=wrong)
    if wait:
        try:
            await delay(wait)
        finally:
            admission.end_wait(address)
    try:
        return await account_of(scope)
    except Rejected:
        if token is not None and not wrong:
            admission.record_failure(address, clock())
        raise


async def is_operator_of(scope: Mapping[str, Any], account: Account | None) -> bool:
    """Tell whether the client of a connection, which has *account*, is an operator.

    Raises `Rejected` if it shows an operator key and is none: it is not let in as anything less.
    """
    is_one = account is not None and await database_sync_to_async(is_operator)(account)
    if not is_one and find_operator_key(_headers(scope), scope.get("subprotocols", ())) is not None:
        raise Rejected(rejections.OPERATOR)
    return is_one


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return a connection's headers. If one is given twice, the last one counts."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def watch() -> None:
    """From now on, close an account's connections when it changes, is deleted or signs out."""
    post_save.connect(_saved, sender=Account)
    m2m_changed.connect(_permitted, sender=Account.groups.through)
    m2m_changed.connect(_permitted, sender=Account.user_permissions.through)
    pre_delete.connect(_deleted, sender=Account)
    pre_delete.connect(_revoked, sender=Token)
    user_logged_out.connect(_signed_out)


def _saved(instance: Account, update_fields: frozenset[str] | None, **_: object) -> None:
    # Every sign-in saves the time of the last one, which changes nothing for connections.
    if update_fields is None or set(update_fields) != {"last_login"}:
        presence.account_changed(instance)


def _permitted(instance: object, action: str, **_: object) -> None:
    # An operator is told so in its welcome. For each act it is looked up again.
    if isinstance(instance, Account) and action.startswith("post_"):
        presence.account_changed(instance)


def _deleted(instance: Account, **_: object) -> None:
    presence.account_changed(instance)


def _revoked(instance: Token, **_: object) -> None:
    presence.account_changed(instance.account)


def _signed_out(user: Account | None, **_: object) -> None:
    if user is not None:
        presence.account_changed(user)
