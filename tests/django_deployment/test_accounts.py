"""Accounts: their pages, their tokens, and the names that they have in rooms."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from accounts_client import (
    PASSWORD,
    Headers,
    account,
    browser_of,
    close_reason,
    session_headers,
    welcome,
)
from conftest import DAPHNE, ROOT
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.base import SessionBase
from django.db import DataError, connection, transaction
from django.http import HttpRequest
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse
from django_client import connected, run_async
from programs import PATIENCE, Finished, listening, running, shell, until

from broadcast_server.http.chat_page import chat_page
from django_site import models
from django_site.accounts import login_throttle
from django_site.accounts.models import MAX_TOKENS, Account, Attempt, Token
from django_site.asgi import application
from django_site.client_address import parse_trusted_proxy
from django_site.transport import authentication


@pytest.fixture(autouse=True)
def no_failed_logins() -> None:
    """Clear the failed logins of other tests."""
    Attempt.objects.all().delete()


@pytest.fixture
def room() -> str:
    """A new room."""
    return f"room-{secrets.token_hex(4)}"


def text(response: Any) -> str:
    """Return the text of a response."""
    page = response.content.decode()
    assert isinstance(page, str)
    return page


def sign_in(client: Client, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Send the login form."""
    return client.post("/accounts/login/", {"username": name, "password": password}, **more)


# -- pages --


def pages(client: Client) -> list[Any]:
    """Get every page that answers a GET."""
    return [client.get(f"/accounts/{each}/") for each in ("login", "password", "tokens")]


def test_every_page_has_a_title_labels_and_links() -> None:
    """Each page has a title, a heading, a language, labels tied to inputs, and links to others."""
    for response in pages(browser_of(account())):
        page = text(response)
        assert response.status_code == 200
        assert '<html lang="en">' in page
        assert 'name="viewport" content="width=device-width' in page
        assert re.search(r"<title>[A-Z][a-z ]+ – Broadcast Server</title>", page)
        assert len(re.findall(r"<h1>[A-Z][a-z ]+</h1>", page)) == 1
        inputs = re.findall(r'<input type="(?:text|password)"[^>]*id="(\w+)"', page)
        assert inputs
        assert re.findall(r'<label for="(\w+)">', page) == inputs
        for link in ("/", "/accounts/tokens/", "/accounts/password/"):
            assert f'<a href="{link}">' in page
        assert '<form method="post" action="/accounts/logout/">' in page


def test_no_page_runs_or_fetches_anything() -> None:
    """The content policy of each page allows only its own style sheet and forms to this site."""
    for response in pages(browser_of(account())):
        (style,) = re.findall(r"<style>(.*?)</style>", text(response), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert response["Content-Security-Policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self';"
            " frame-ancestors 'none'; base-uri 'none'"
        )
        assert "no-store" in response["Cache-Control"]
        assert not re.search(r"<script|<link rel=.style|\son\w+=|\sstyle=", text(response))


def test_the_style_is_that_of_the_chat_page() -> None:
    """The pages use the style sheet of the chat page."""
    html = (ROOT / "broadcast_server" / "page" / "index.html").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert f"<style>{style}" in text(browser_of().get("/accounts/login/"))


def test_fields_tell_what_they_are_for() -> None:
    """A password manager can tell the fields of the name, the old and the new password apart."""
    login, password, _ = map(text, pages(browser_of(account("Keeper"))))
    assert re.findall(r'autocomplete="([\w-]+)"', login) == ["username", "current-password"]
    assert re.findall(r'autocomplete="([\w-]+)"', password) == [
        *("username", "current-password", "new-password", "new-password")
    ]
    assert '<input hidden autocomplete="username" value="Keeper">' in password


# -- signing in and out --


@pytest.mark.parametrize("spelled", ["Zoë", "ZOË", "zoe\u0308", "Ｚoë"])
def test_signing_in_by_any_spelling(spelled: str) -> None:
    """Any spelling of the name signs in, and the browser is redirected to the page it asked for."""
    if not Account.objects.filter(username="Zoë").exists():
        account("Zoë")
    client = browser_of()
    response = client.post(
        "/accounts/login/", {"username": spelled, "password": PASSWORD, "next": "/?room=ops"}
    )
    assert (response.status_code, response.headers["Location"]) == (302, "/?room=ops")
    assert "Sign out Zoë" in text(client.get("/accounts/tokens/"))


def test_a_wrong_password_is_announced() -> None:
    """A wrong password and a wrong name get the same alert."""
    known = account()
    for name in (known.username, "nobody of that name"):
        response = sign_in(browser_of(), name, "wrong")
        assert response.status_code == 200
        (alert,) = re.findall(r'<div role="alert">(.*?)</div>', text(response), re.DOTALL)
        assert "The name or the password is wrong." in alert
        assert "<title>Error: Sign in" in text(response)


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "javascript:x"])
def test_signing_in_leads_nowhere_else(next: str) -> None:
    """The login does not redirect to another site."""
    known = account()
    assert next not in text(browser_of().get("/accounts/login/", {"next": next}))
    form = {"username": known.username, "password": PASSWORD, "next": next}
    assert browser_of().post("/accounts/login/", form).headers["Location"] == "/"


def test_signing_out() -> None:
    """Signing out needs a POST, ends the session, and redirects to the login."""
    client = browser_of(account())
    assert client.get("/accounts/logout/").status_code == 405
    assert client.get("/accounts/tokens/").status_code == 200
    response = client.post("/accounts/logout/")
    assert response.headers["Location"] == "/accounts/login/"
    response = client.get("/accounts/tokens/")
    assert response.headers["Location"] == "/accounts/login/?next=/accounts/tokens/"


def test_the_admin_uses_the_login_of_the_site() -> None:
    """The admin's login and logout redirect to those of the site, which have a throttle."""
    response = browser_of().get("/admin/login/?next=/admin/")
    assert response.headers["Location"] == "/accounts/login/?next=/admin/"
    assert browser_of().post("/admin/login/", {"username": "a", "password": "b"}).status_code == 302
    client = browser_of(account())
    assert "who may not see the page that you asked for" in text(
        client.get("/accounts/login/?next=/admin/")
    )
    assert client.post("/admin/logout/").headers["Location"] == "/accounts/login/"


def test_a_form_without_its_csrf_token_is_rejected() -> None:
    """A form without a valid CSRF token changes nothing, and gets an error page."""
    client = Client(enforce_csrf_checks=True)
    response = sign_in(client, "alice")
    assert response.status_code == 403
    assert "<h1>That form is too old</h1>" in text(response)


def reject_nul(execute: Callable[..., Any], sql: str, values: Any, *rest: Any) -> Any:
    """Reject values as PostgreSQL does, which has no text with NUL in it."""
    if any(isinstance(each, str) and "\0" in each for each in values or ()):
        raise DataError("NUL in a value")
    return execute(sql, values, *rest)


@pytest.mark.parametrize(
    "cookie",
    [
        r'"\000abcdefghij"',
        r'"abcdefghij\000"',
        r'"abcdefghij\012"',
        r'"\377abcdefghij"',
        "ABCDEFGHIJ",
        "abcdefgh' --",
        "abcdefg",
        "a" * 41,
        "a" * 4000,
        "",
    ],
)
def test_a_cookie_that_cannot_be_a_session_is_ignored(cookie: str) -> None:
    """It does not reach the database: such a client is a guest, on every way in."""
    headers = [(b"cookie", f"sessionid={cookie}".encode())]
    with connection.execute_wrapper(reject_nul), CaptureQueriesContext(connection) as queries:
        assert authentication.find_account({"headers": headers}) is None
        browser = browser_of()
        for path in ("/accounts/tokens/", "/admin/", "/"):
            found = browser.get(path, headers={"Cookie": f"sessionid={cookie}"})
            assert found.status_code == (200 if path == "/" else 302)
    assert not [each for each in queries if "django_session" in each["sql"]]

    async def part() -> None:
        async with connected("/?name=bob", as_json=True, headers=tuple(headers)) as client:
            await welcome(client)

    run_async(part)


def test_no_field_passes_nul_on() -> None:
    """NUL in a form or an address is an error in it, or finds nothing."""
    whose = account()
    here = browser_of(whose)
    Account.objects.filter(pk=whose.pk).update(is_staff=True, is_superuser=True)
    types = ContentType.objects.in_bulk()
    with connection.execute_wrapper(reject_nul):
        for path, form in (
            ("login", {"username": "a\0", "password": "b\0"}),
            ("tokens", {"label": "a\0"}),
            ("password_change", {"old_password": "\0", "new_password1": "\0"}),
        ):
            assert here.post(reverse(path), form).status_code == 200
        for cookie in ("csrftoken", "messages"):
            here.cookies[cookie] = "a\0b"
            assert here.get("/accounts/tokens/").status_code == 200
        for key in types:
            assert here.get(f"/admin/r/{key}/%00/").status_code == 404


def test_the_session_cookie_is_protected() -> None:
    """The session cookie is HttpOnly and SameSite."""
    client = browser_of()
    sign_in(client, account().username)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


# -- passwords --


def test_changing_the_password() -> None:
    """A new password signs out all other browsers, and not the one that changed it."""
    whose = account()
    here, elsewhere = browser_of(whose), browser_of(whose)
    new = "a better horse"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    wrong = here.post("/accounts/password/", {**form, "old_password": "wrong"})
    assert 'role="alert"' in text(wrong)
    response = here.post("/accounts/password/", form, follow=True)
    assert "Your password has been changed" in text(response)
    assert here.get("/accounts/tokens/").status_code == 200
    assert elsewhere.get("/accounts/tokens/").status_code == 302
    assert sign_in(browser_of(), whose.username).status_code == 200
    assert sign_in(browser_of(), whose.username, new).status_code == 302


def test_without_mail_there_is_no_reset() -> None:
    """A site that cannot send mail has neither a link nor a page for forgotten passwords."""
    assert "Forgot" not in text(browser_of().get("/accounts/login/"))
    with pytest.raises(NoReverseMatch):
        reverse("password_reset")


# -- the address that counts --


@pytest.mark.parametrize(
    ("remote", "forwarded", "trusted", "address"),
    [
        ("192.0.2.7", None, False, "192.0.2.7"),
        ("192.0.2.7", "203.0.113.1", False, "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1, 203.0.113.1", True, "203.0.113.1"),
        ("192.0.2.7", None, True, "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", None, False, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", None, False, "192.0.2.7"),
        ("", None, False, ""),
        ("", "x" * 99, True, ""),
        ("192.0.2.7", "x" * 99, True, "192.0.2.7"),
        ("127.0.0.1", None, False, "127.0.0.1"),
        ("192.0.2.7", "198.51.100.1, 203.0.113.1:80", True, "203.0.113.1"),
        ("192.0.2.7", "203.0.113.1, 192.0.2.8", "192.0.2.0/24", "203.0.113.1"),
        ("192.0.3.7", "203.0.113.1", "192.0.2.0/24", "192.0.3.7"),
        ("", "203.0.113.1", "unix", "203.0.113.1"),
        ("", "203.0.113.1", "192.0.2.0/24", ""),
    ],
)
def test_whose_attempt_it_is(
    remote: str, forwarded: str | None, trusted: bool | str, address: str
) -> None:
    """An attempt counts for the last address that a trusted proxy added, or its IPv6 network."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = remote
    if forwarded is not None:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    whom = trusted if isinstance(trusted, bool) else parse_trusted_proxy(trusted)
    with override_settings(BROADCAST_TRUSTED_PROXY=whom):
        assert login_throttle.address_of(request) == address


# -- tokens --


def make_token(client: Client, label: str = "laptop") -> str:
    """Create a token on the page, and return its secret."""
    response = client.post("/accounts/tokens/", {"label": label})
    assert response.status_code == 200
    (secret,) = re.findall(r">(bst_[\w-]{43})<", text(response))
    return str(secret)


def test_a_token_is_shown_once() -> None:
    """A token's secret is only in the response that created it, which is not cached."""
    whose = account()
    client = browser_of(whose)
    response = client.post("/accounts/tokens/", {"label": " build <b>farm</b> "})
    assert response["Cache-Control"] == "no-store"
    assert "build &lt;b&gt;farm&lt;/b&gt;" in text(response)
    (secret,) = re.findall(r"bst_[\w-]+", text(response))
    assert Token.account_of(secret) == whose
    later = text(client.get("/accounts/tokens/"))
    assert "build &lt;b&gt;farm&lt;/b&gt;" in later
    assert secret not in later
    assert secret not in json.dumps(dict(client.session))
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM accounts_token")
        assert secret not in str(cursor.fetchall())


def test_a_token_tells_when_it_was_used() -> None:
    """The page says when a token was last used."""
    client = browser_of(account())
    secret = make_token(client)
    assert "<td>never</td>" in text(client.get("/accounts/tokens/"))
    assert Token.account_of(secret) is not None
    assert "<td>never</td>" not in text(client.get("/accounts/tokens/"))


def test_a_token_needs_a_label() -> None:
    """A token without a label is not created."""
    client = browser_of(account())
    for label in ("", "  ", "x" * 65):
        response = client.post("/accounts/tokens/", {"label": label})
        assert 'role="alert"' in text(response)
        assert "bst_" not in text(response)


def test_there_are_only_so_many_tokens() -> None:
    """An account at its maximum of tokens gets no further one until one is revoked."""
    whose = account()
    client = browser_of(whose)
    for number in range(MAX_TOKENS):
        Token.make(whose, str(number))
    refused = text(client.post("/accounts/tokens/", {"label": "more"}))
    assert "You have 20 tokens, which is the maximum: revoke one." in refused
    client.post(f"/accounts/tokens/{whose.tokens.latest('pk').pk}/revoke/")
    make_token(client)


def test_revoking_a_token() -> None:
    """A revoked token is invalid. Only its owner can revoke it, with a POST."""
    whose = account()
    client = browser_of(whose)
    secret = make_token(client)
    address = f"/accounts/tokens/{whose.tokens.get().pk}/revoke/"
    assert client.get(address).status_code == 405
    assert browser_of(account()).post(address).status_code == 404
    assert browser_of().post(address).status_code == 302
    assert Token.account_of(secret) == whose
    assert "laptop has been revoked." in text(client.post(address, follow=True))
    assert Token.account_of(secret) is None


def test_who_may_not_sign_in_has_no_token() -> None:
    """A token of a disabled account is invalid."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    whose.is_active = False
    whose.save()
    assert Token.account_of(secret) is None


# -- the chat page --


def test_the_page_wants_a_login_where_it_is_required() -> None:
    """Where a login is required, browsers are redirected to it, and other programs are not."""
    html: Any = {"headers": {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}}
    curl: Any = {"headers": {"Accept": "*/*"}}
    assert browser_of().get("/?room=ops", **html).status_code == 200
    with override_settings(BROADCAST_LOGIN="required"):
        response = browser_of().get("/?room=ops", **html)
        login = "/accounts/login/?next=/%3Froom%3Dops"
        assert (response.status_code, response.headers["Location"]) == (302, login)
        assert "Accept" in response.headers["Vary"]
        assert browser_of(account()).get("/?room=ops", **html).status_code == 200
        assert browser_of().get("/?room=ops", **curl).status_code == 200
        assert browser_of().get("/broadcast-server.pyz", **html).status_code == 404  # not 302


def test_the_page_says_where_to_sign_in() -> None:
    """The chat page links a guest to the login and back, and shows an account its name."""
    html: Any = {"headers": {"Accept": "text/html"}}
    page = text(browser_of().get("/?room=a%26b", **html))
    assert '<a href="/accounts/login/?next=%2F%3Froom%3Da%2526b">sign in</a>' in page
    assert '<meta name="moderated">' in page  # so its menu has reports and bans
    whose = account()
    response = browser_of(whose).get("/?room=ops", **html)
    assert f"Signed in as {whose.username}" in text(response)
    assert '<a href="/accounts/tokens/">' in text(response)
    assert "Cookie" in response.headers["Vary"]
    assert response.headers["Content-Security-Policy"] == chat_page().policy


# -- the WebSocket --

Change = Callable[[Account, Client], None]
REQUIRED = {"BROADCAST_LOGIN": "required"}


def bearer(secret: str) -> Headers:
    """Return the header in which a program sends its token."""
    return ((b"authorization", f"Bearer {secret}".encode()),)


def offered(secret: str) -> tuple[str, ...]:
    """Return the subprotocol in which a page sends its token."""
    return (f"bearer.{base64.urlsafe_b64encode(secret.encode()).decode().rstrip('=')}",)


@pytest.mark.parametrize("required", [True, False])
def test_an_account_joins_under_its_name(required: bool, room: str) -> None:
    """With a session or a token, an account joins under its own name and is verified."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    name = whose.username
    cookie = session_headers(browser_of(whose))

    async def part() -> None:
        async with connected(f"/?name=bob&room={room}", as_json=True, headers=cookie) as one:
            seen = await welcome(one)
            assert (seen["name"], seen["verified"]) == (name, [name])
            async with connected(f"/?room={room}", as_json=True, headers=bearer(secret)) as two:
                seen = await welcome(two)
                assert (seen["name"], seen["verified"]) == (f"{name}-2", [name, f"{name}-2"])
                joined = json.loads(await one.receive_from(timeout=10))
                assert (joined["name"], joined["verified"]) == (f"{name}-2", True)
            async with connected(f"/?room={room}", as_json=True, offered=offered(secret)) as page:
                seen = await welcome(page)
                assert (seen["name"], seen["verified"]) == (f"{name}-2", [name, f"{name}-2"])

    with override_settings(BROADCAST_LOGIN="required" if required else "optional"):
        run_async(part)


@pytest.mark.parametrize("spelling", [str, str.upper, lambda name: name.replace("A", "Ａ")])
def test_the_name_of_an_account_is_its_own(spelling: Callable[[str], str], room: str) -> None:
    """A guest never gets the name of an account, in any spelling, even if nobody has it now."""
    name = spelling(account().username)

    async def part() -> None:
        query = urlencode({"name": name, "room": room})
        async with connected(f"/?{query}", as_json=True) as guest:
            seen = await welcome(guest)
            assert (seen["name"], "verified" in seen) == (f"{name}-2", False)

    run_async(part)


def test_a_name_that_becomes_an_accounts(room: str) -> None:
    """A guest whose name becomes an account's is closed, and reconnects with another name."""
    name = f"A{secrets.token_hex(4)}"

    async def part() -> None:
        async with connected(f"/?name={name}&room={room}", as_json=True) as guest:
            assert (await welcome(guest))["name"] == name
            await asyncio.to_thread(account, name.upper())
            assert await close_reason(guest) == ("name_owned", 4001)
        async with connected(f"/?name={name}&room={room}", as_json=True) as guest:
            assert (await welcome(guest))["name"] == f"{name}-2"

    run_async(part)


@pytest.mark.parametrize("login", ["required", "optional"])
@pytest.mark.parametrize("secret", ["bst_wrong", "", "\xff"])
def test_an_invalid_token_is_rejected(login: str, secret: str, room: str) -> None:
    """An invalid token is rejected with 4501, even where guests may join."""

    async def part() -> None:
        async with connected(f"/?room={room}", as_json=True, headers=bearer(secret)) as one:
            assert await close_reason(one) == ("token", 4501)

    with override_settings(BROADCAST_LOGIN=login):
        run_async(part)


@pytest.mark.parametrize("headers", [(), ((b"cookie", b"sessionid=wrong"),)])
def test_guests_are_rejected_where_a_login_is_required(headers: Headers, room: str) -> None:
    """Where a login is required, a connection without one is rejected with 4501."""

    async def part() -> None:
        async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
            assert await close_reason(one) == ("login", 4501)

    with override_settings(**REQUIRED):
        run_async(part)


def revoke(whose: Account, client: Client) -> None:
    """Revoke the account's one token."""
    client.post(f"/accounts/tokens/{whose.tokens.get().pk}/revoke/")


def sign_out(whose: Account, client: Client) -> None:
    """Sign out."""
    client.post("/accounts/logout/")


def change_password(whose: Account, client: Client) -> None:
    """Change the password, in another browser."""
    new = "a better horse"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert browser_of(whose).post("/accounts/password/", form).status_code == 302


def switch_off(whose: Account, client: Client) -> None:
    """Disable the account."""
    whose.is_active = False
    whose.save()


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("change", [revoke, sign_out, change_password, switch_off])
def test_a_change_of_an_account_closes_its_connections(
    change: Change, by_token: bool, room: str
) -> None:
    """A connection whose login has ended is closed with 4001, and rejected with 4501 on return."""
    whose = account()
    client = browser_of(whose)
    headers = session_headers(client)
    _, secret = Token.make(whose, "laptop")
    if by_token:
        headers = bearer(secret)
    lost: dict[Change, str | None] = {
        revoke: ("token" if by_token else None),
        sign_out: (None if by_token else "login"),
        change_password: (None if by_token else "login"),
        switch_off: ("token" if by_token else "login"),
    }

    async def part() -> None:
        async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
            await welcome(one)
            await asyncio.to_thread(change, whose, client)
            assert await close_reason(one) == ("sign_in", 4001)
        async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
            if lost[change] is None:  # its login is still valid
                assert (await welcome(one))["name"] == whose.username
            else:
                assert await close_reason(one) == (lost[change], 4501)

    with override_settings(**REQUIRED):
        run_async(part)


@pytest.mark.parametrize("login", ["required", "optional"])
def test_a_session_that_ends_during_the_join(login: str, room: str) -> None:
    """A client that signs out between its authentication and its join is closed."""
    whose = account()
    client = browser_of(whose)
    headers, session = session_headers(client), client.session
    _, secret = Token.make(whose, "laptop")

    async def part() -> None:
        async with connected(f"/?room={room}", headers=bearer(secret)):
            node = await application.replicas.get(room)
            locked, done = threading.Event(), threading.Event()
            leaving = asyncio.create_task(asyncio.to_thread(end_session, session, locked, done))
            await asyncio.to_thread(locked.wait, 10)
            coming = asyncio.create_task(join(room, headers))
            # It is authenticated, and now it waits for the lock.
            await asyncio.to_thread(until, lambda: node._joining_count)
            done.set()
            await leaving
            lost = ("login", 4501) if login == "required" else ("sign_in", 4001)
            assert await coming == lost

    with override_settings(BROADCAST_LOGIN=login):
        run_async(part)


def end_session(session: SessionBase, locked: threading.Event, done: threading.Event) -> None:
    """End a session in a transaction that lasts until *done*."""
    with transaction.atomic():
        session.delete()
        locked.set()
        assert done.wait(10)
    connection.close()


async def join(room: str, headers: Headers) -> tuple[str, int]:
    """Join, and return how the connection is closed."""
    async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
        return await close_reason(one)


def test_signing_in_disturbs_nobody(room: str) -> None:
    """Signing in elsewhere closes no connection of the account."""
    whose = account()
    headers = session_headers(browser_of(whose))

    async def part() -> None:
        async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
            await welcome(one)
            assert (
                await asyncio.to_thread(sign_in, browser_of(), whose.username)
            ).status_code == 302
            here = models.Member.objects.filter(account=whose, end_code=None)
            assert await asyncio.to_thread(here.exists)  # otherwise its process would close it

    run_async(part)


# -- a site in a process of its own --


@dataclass
class Site:
    """A site that requires a login and can send mail, and a browser without a session."""

    url: str
    mails: Path

    def __post_init__(self) -> None:
        """Open the browser."""
        self.cookies = CookieJar()
        self.open = build_opener(HTTPCookieProcessor(self.cookies)).open

    def get(self, path: str) -> tuple[str, str]:
        """Return the URL of a page after redirects, and the page."""
        request = Request(self.url.replace("ws", "http") + path, headers={"Accept": "text/html"})
        with self.open(request, timeout=PATIENCE) as response:
            return response.url, response.read().decode()

    def send(self, path: str, page: str = "", **form: str) -> tuple[str, str]:
        """Send a form to *path*. It is on that page or on *page*."""
        (secret,) = set(
            re.findall(r'csrfmiddlewaretoken" value="(\w+)"', self.get(page or path)[1])
        )
        data = urlencode({"csrfmiddlewaretoken": secret, **form}).encode()
        url = self.url.replace("ws", "http") + path
        with self.open(url, data, timeout=PATIENCE) as response:
            return response.url, response.read().decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with the account of alice."""
    data = tmp_path_factory.mktemp("data")
    mails = tmp_path_factory.mktemp("mails")
    with closing(sqlite3.connect(data / "broadcast.sqlite3")) as copy:
        with closing(sqlite3.connect(str(settings.DATABASES["default"]["NAME"]))) as made:
            made.backup(copy)  # with all tables
        copy.execute("DELETE FROM accounts_account")
        copy.execute("PRAGMA journal_mode=WAL")
        copy.commit()
    environment: dict[str, Any] = {
        "BROADCAST_DATA": str(data),
        "EMAIL_URL": f"filemail:///{mails}",
        **REQUIRED,
    }
    command = [sys.executable, str(ROOT / "manage.py"), "createsuperuser", "--noinput"]
    who = ["--username", "Alice", "--email", "alice@example.org"]
    with running(*command, *who, DJANGO_SUPERUSER_PASSWORD=PASSWORD, **environment) as creating:
        with running(*DAPHNE, **environment) as process:
            url = listening(process)
            assert creating.wait() == 0
            yield Site(url, mails)
            assert process.signal(signal.SIGTERM) == 0


def connect(program: list[str], site: Site, *arguments: str, **variables: str) -> Finished:
    """Publish hi from the command line."""
    script = f'echo hi | "$@" connect {site.url} {" ".join(arguments)}'
    return shell(script, program, **variables)


def test_the_command_line_signs_in(program: list[str], site: Site, tmp_path: Path) -> None:
    """With a token from the page, the command line joins as alice until it is revoked."""
    done = connect(program, site)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith("this site is for accounts only: sign in at /accounts/login/")

    url, page = site.get("")
    assert url.endswith("/accounts/login/?next=/")
    site.send("accounts/login/", username="ａｌｉｃｅ", password=PASSWORD)
    _, page = site.send("accounts/tokens/", label="laptop")
    (secret,) = re.findall(r">(bst_[\w-]+)<", page)
    file = tmp_path / "token"
    file.write_text(f"{secret}\n", encoding="ascii")

    done = connect(program, site, "--name", "bob", "--token-file", str(file), BROADCAST_TOKEN="x")
    assert (done.code, done.output, done.errors) == (0, "Alice: hi\n", "")
    why = "token is not valid: create a new one at /accounts/tokens/\n"
    given = {"BROADCAST_TOKEN": secret, "BROADCAST_TOKEN_FILE": str(ROOT / "LICENSE")}
    with running(*program, "connect", site.url, **given) as client:
        client.say("here\n")
        until(lambda: "Alice: here\n" in client.output)
        _, page = site.get("accounts/tokens/")
        (address,) = re.findall(r'action="/(accounts/tokens/\d+/revoke/)"', page)
        site.send(address, "accounts/tokens/")
        assert client.wait() == 1
        assert client.errors.endswith(why)


def test_a_forgotten_password(site: Site) -> None:
    """The link in a mail resets the password once, and no other address gets a mail."""
    browser = Site(site.url, site.mails)
    assert 'href="/accounts/reset/"' in browser.get("accounts/login/")[1]
    told = []
    for address in ("nobody@example.org", "alice@example.org"):
        assert not list(site.mails.iterdir())
        told.append(browser.send("accounts/reset/", email=address))
    assert [url.rpartition("/accounts/")[2] for url, _ in told] == ["login/", "login/"]
    assert "a mail with a link is on its way" in told[0][1]
    for _ in range(login_throttle.MAX_FAILURES_PER_PAIR - 1):
        browser.send("accounts/reset/", email="nobody@example.org")
    with pytest.raises(HTTPError, match="429"):  # mails are throttled as well
        browser.send("accounts/reset/", email="nobody@example.org")
    (file,) = site.mails.iterdir()
    mail = file.read_text("utf-8")
    assert "To: alice@example.org" in mail
    (link,) = re.findall(r"http://\S+?/(accounts/reset/\S+)", mail)

    url, page = browser.get(link)
    assert url.endswith("/set-password/")
    assert '<input hidden autocomplete="username" value="Alice">' in page
    new = "a better horse"
    path = url.partition("/accounts/")[2]
    url, page = browser.send(f"accounts/{path}", new_password1=new, new_password2=new)
    assert url.endswith("/accounts/login/")
    assert "Your password has been changed" in page
    url, _ = browser.send("accounts/login/", username="alice", password=new)
    assert urlsplit(url).path == "/"
    assert "This link is not valid" in Site(site.url, site.mails).get(link)[1]
