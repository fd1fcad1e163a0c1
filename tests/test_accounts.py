"""Accounts: their pages, their tokens, and who is whose in the rooms."""

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from channels.testing import WebsocketCommunicator
from conftest import DAPHNE, ROOT
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import NoReverseMatch, reverse
from hosted import play, visitor
from programs import PATIENCE, Finished, listening, running, shell, until

from broadcast_server.web import page as chat_page
from django_site import models
from django_site.accounts import brake
from django_site.accounts.models import MOST_TOKENS, Account, Attempt, Token
from django_site.address import trusted_of
from django_site.nodes import nodes

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Passwords are hashed in no time, and what others mistyped is forgotten."""
    Attempt.objects.all().delete()
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture
def room() -> str:
    """A room of the test's own."""
    return f"room-{secrets.token_hex(4)}"


def account(name: str = "") -> Account:
    """Make an account, of a name that nobody has yet if none is given."""
    return Account.objects.create_user(name or f"A{secrets.token_hex(4)}", password=PASSWORD)


def browser(of: Account | None = None) -> Client:
    """Return a browser, in which someone has signed in."""
    client = Client(enforce_csrf_checks=False)
    if of is not None:
        client.force_login(of)
    return client


def text(response: Any) -> str:
    """Return the page."""
    page = response.content.decode()
    assert isinstance(page, str)
    return page


def sign_in(client: Client, name: str, password: str = PASSWORD, **more: Any) -> Any:
    """Send the login form."""
    return client.post("/accounts/login/", {"username": name, "password": password}, **more)


# -- pages --


def pages(client: Client) -> list[Any]:
    """Get every page that there is to get."""
    return [client.get(f"/accounts/{each}/") for each in ("login", "password", "tokens")]


def test_every_page_is_whole() -> None:
    """Each page has a title, a heading, a language, labels tied to inputs, and links to others."""
    for response in pages(browser(account())):
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
    """The policy of each page allows its own style, by its hash, and forms to here alone."""
    for response in pages(browser(account())):
        (style,) = re.findall(r"<style>(.*?)</style>", text(response), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert response["Content-Security-Policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self';"
            " frame-ancestors 'none'; base-uri 'none'"
        )
        assert "no-store" in response["Cache-Control"]
        assert not re.search(r"<script|<link rel=.style|\son\w+=|\sstyle=", text(response))


def test_the_style_is_that_of_the_chat_page() -> None:
    """The pages look as the chat page does."""
    html = (ROOT / "broadcast_server" / "page" / "index.html").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert f"<style>{style}" in text(browser().get("/accounts/login/"))


def test_fields_tell_what_they_are_for() -> None:
    """A password keeper knows which field is the name, the old password and the new one."""
    login, password, _ = map(text, pages(browser(account("Keeper"))))
    assert re.findall(r'autocomplete="([\w-]+)"', login) == ["username", "current-password"]
    assert re.findall(r'autocomplete="([\w-]+)"', password) == [
        *("username", "current-password", "new-password", "new-password")
    ]
    assert '<input hidden autocomplete="username" value="Keeper">' in password


# -- signing in and out --


@pytest.mark.parametrize("spelled", ["Zoë", "ZOË", "zoe\u0308", "Ｚoë"])
def test_signing_in_by_any_spelling(spelled: str) -> None:
    """A name signs in however it is spelled, and leads to where one was going."""
    if not Account.objects.filter(username="Zoë").exists():
        account("Zoë")
    client = browser()
    response = client.post(
        "/accounts/login/", {"username": spelled, "password": PASSWORD, "next": "/?room=ops"}
    )
    assert (response.status_code, response.headers["Location"]) == (302, "/?room=ops")
    assert "Sign out Zoë" in text(client.get("/accounts/tokens/"))


def test_a_wrong_password_is_announced() -> None:
    """A wrong password and a wrong name are told in the same words, by an alert."""
    known = account()
    for name in (known.username, "nobody of that name"):
        response = sign_in(browser(), name, "wrong")
        assert response.status_code == 200
        (alert,) = re.findall(r'<div role="alert">(.*?)</div>', text(response), re.DOTALL)
        assert "This is not the password of an account with that name." in alert
        assert "<title>Error: Sign in" in text(response)


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example/", "javascript:x"])
def test_signing_in_leads_nowhere_else(next: str) -> None:
    """An address of another site is not gone on to."""
    known = account()
    assert next not in text(browser().get("/accounts/login/", {"next": next}))
    form = {"username": known.username, "password": PASSWORD, "next": next}
    assert browser().post("/accounts/login/", form).headers["Location"] == "/"


def test_signing_out() -> None:
    """Signing out takes a POST, ends the session, and leads to the login."""
    client = browser(account())
    assert client.get("/accounts/logout/").status_code == 405
    assert client.get("/accounts/tokens/").status_code == 200
    response = client.post("/accounts/logout/")
    assert response.headers["Location"] == "/accounts/login/"
    response = client.get("/accounts/tokens/")
    assert response.headers["Location"] == "/accounts/login/?next=/accounts/tokens/"


def test_the_admin_has_no_way_in_of_its_own() -> None:
    """The admin's login and logout are ours, with their brake."""
    response = browser().get("/admin/login/?next=/admin/")
    assert response.headers["Location"] == "/accounts/login/?next=/admin/"
    assert browser().post("/admin/login/", {"username": "a", "password": "b"}).status_code == 302
    client = browser(account())
    assert "who may not see what you asked for" in text(client.get("/accounts/login/?next=/admin/"))
    assert client.post("/admin/logout/").headers["Location"] == "/accounts/login/"


def test_a_form_from_elsewhere_is_refused() -> None:
    """A form without its secret does nothing, and that is told on a page of ours."""
    client = Client(enforce_csrf_checks=True)
    response = sign_in(client, "alice")
    assert response.status_code == 403
    assert "<h1>That form is too old</h1>" in text(response)


def test_cookies_are_kept_close() -> None:
    """The session's cookie is out of reach of scripts and of other sites."""
    client = browser()
    sign_in(client, account().username)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")


# -- passwords --


def test_changing_the_password() -> None:
    """A new password signs everyone else out, and not who changed it."""
    whose = account()
    here, elsewhere = browser(whose), browser(whose)
    new = "a better horse"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    wrong = here.post("/accounts/password/", {**form, "old_password": "wrong"})
    assert 'role="alert"' in text(wrong)
    response = here.post("/accounts/password/", form, follow=True)
    assert "Your password is changed" in text(response)
    assert here.get("/accounts/tokens/").status_code == 200
    assert elsewhere.get("/accounts/tokens/").status_code == 302
    assert sign_in(browser(), whose.username).status_code == 200
    assert sign_in(browser(), whose.username, new).status_code == 302


def test_without_mail_there_is_no_reset() -> None:
    """A site that cannot send mail has neither a link nor a page for forgotten passwords."""
    assert "Forgot" not in text(browser().get("/accounts/login/"))
    with pytest.raises(NoReverseMatch):
        reverse("password_reset")


# -- the brake --


def test_guessing_is_held_up_and_not_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five failures an address waits for that name, even with the right password."""
    whose = account()
    client = browser()
    for _ in range(brake.PAIR):
        assert sign_in(client, whose.username, "wrong").status_code == 200
    for password in ("wrong", PASSWORD):  # in whatever spelling
        held = sign_in(client, whose.username.upper(), password)
        assert held.status_code == 429
        assert 590 < int(held["Retry-After"]) <= 600
        alert = '<p class="errorlist" role="alert">Too many attempts: try again in 10 minutes.</p>'
        assert alert in text(held)
        assert PASSWORD not in text(held)
    assert sign_in(client, account().username).status_code == 302, "others may"
    assert sign_in(client, whose.username, REMOTE_ADDR="192.0.2.1").status_code == 302
    Attempt.objects.update(made=datetime.now(timezone.utc) - brake.WINDOW)
    assert sign_in(client, whose.username).status_code == 302


def test_who_is_right_was_only_mistyping() -> None:
    """A right password forgets the wrong ones before it."""
    whose = account()
    for _ in range(2 * brake.PAIR):
        assert sign_in(browser(), whose.username, "wrong").status_code == 200
        assert sign_in(browser(), whose.username).status_code == 302


def test_guessing_in_breadth_is_held_up() -> None:
    """One address at many names is held up, and so are many addresses at one name."""
    for number in range(brake.ADDRESS):
        brake.attempt("x", f"name {number}", "192.0.2.1")
    with pytest.raises(brake.Held):
        brake.attempt("x", "another", "192.0.2.1")
    Attempt.objects.all().delete()
    for number in range(brake.NAME):
        brake.attempt("x", "name", f"192.0.2.{number}")
    with pytest.raises(brake.Held):
        brake.attempt("x", "NAME", "198.51.100.1")
    assert Attempt.objects.count() == brake.NAME, "who is held up is not counted"


def test_many_guesses_at_once_are_counted() -> None:
    """Guesses that come together are no more than those that come one by one."""
    whose = account().username
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(guess, [whose] * 16))
    assert set(answers) == {200, 429}
    assert answers.count(200) <= brake.PAIR


def guess(name: str) -> int:
    """Send a wrong password, in a thread."""
    try:
        return int(sign_in(browser(), name, "wrong").status_code)
    finally:
        connection.close()


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
    """An address is the last that a trusted proxy names, and a network in IPv6."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = remote
    if forwarded is not None:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    whom = trusted if isinstance(trusted, bool) else trusted_of(trusted)
    with override_settings(BROADCAST_TRUSTED_PROXY=whom):
        assert brake.address_of(request) == address


# -- tokens --


def made(client: Client, label: str = "laptop") -> str:
    """Make a token on the page, and return its secret."""
    response = client.post("/accounts/tokens/", {"label": label})
    assert response.status_code == 200
    (secret,) = re.findall(r">(bst_[\w-]{43})<", text(response))
    return str(secret)


def test_a_token_is_shown_once() -> None:
    """A token is in the answer that made it, which nobody keeps, and nowhere else."""
    whose = account()
    client = browser(whose)
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
    client = browser(account())
    secret = made(client)
    assert "<td>never</td>" in text(client.get("/accounts/tokens/"))
    assert Token.account_of(secret) is not None
    assert "<td>never</td>" not in text(client.get("/accounts/tokens/"))


def test_a_token_needs_a_label() -> None:
    """A token that says nothing of itself is not made."""
    client = browser(account())
    for label in ("", "  ", "x" * 65):
        response = client.post("/accounts/tokens/", {"label": label})
        assert 'role="alert"' in text(response)
        assert "bst_" not in text(response)


def test_there_are_only_so_many_tokens() -> None:
    """One token more than an account may have is refused, until one is revoked."""
    whose = account()
    client = browser(whose)
    for number in range(MOST_TOKENS):
        Token.make(whose, str(number))
    refused = text(client.post("/accounts/tokens/", {"label": "more"}))
    assert "You have 20 tokens, which is the most: revoke one." in refused
    client.post(f"/accounts/tokens/{whose.tokens.latest('pk').pk}/revoke/")
    made(client)


def test_revoking_a_token() -> None:
    """A token that its owner revokes is none; nobody else can, and it takes a POST."""
    whose = account()
    client = browser(whose)
    secret = made(client)
    address = f"/accounts/tokens/{whose.tokens.get().pk}/revoke/"
    assert client.get(address).status_code == 405
    assert browser(account()).post(address).status_code == 404
    assert browser().post(address).status_code == 302
    assert Token.account_of(secret) == whose
    assert "laptop is revoked." in text(client.post(address, follow=True))
    assert Token.account_of(secret) is None


def test_who_may_not_sign_in_has_no_token() -> None:
    """A token of an account that was switched off is none."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    whose.is_active = False
    whose.save()
    assert Token.account_of(secret) is None


# -- the room's page --


def test_the_page_wants_a_login_where_it_is_required() -> None:
    """Where guests may not come in a browser is sent to the login, and programs are not."""
    html: Any = {"headers": {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}}
    curl: Any = {"headers": {"Accept": "*/*"}}
    assert browser().get("/?room=ops", **html).status_code == 200
    with override_settings(BROADCAST_LOGIN="required"):
        response = browser().get("/?room=ops", **html)
        login = "/accounts/login/?next=/%3Froom%3Dops"
        assert (response.status_code, response.headers["Location"]) == (302, login)
        assert "Accept" in response.headers["Vary"]
        assert browser(account()).get("/?room=ops", **html).status_code == 200
        assert browser().get("/?room=ops", **curl).status_code == 200
        assert browser().get("/broadcast-server.pyz", **html).status_code == 404  # not 302


def test_the_page_says_where_to_sign_in() -> None:
    """A guest finds the way to the login and back, an account who it is, and neither a script."""
    html: Any = {"headers": {"Accept": "text/html"}}
    page = text(browser().get("/?room=a%26b", **html))
    assert '<a href="/accounts/login/?next=%2F%3Froom%3Da%2526b">sign in</a>' in page
    whose = account()
    response = browser(whose).get("/?room=ops", **html)
    assert f"Signed in as {whose.username}" in text(response)
    assert '<a href="/accounts/tokens/">' in text(response)
    assert "Cookie" in response.headers["Vary"]
    assert response.headers["Content-Security-Policy"] == chat_page().policy


# -- the socket --

Change = Callable[[Account, Client], None]
Headers = tuple[tuple[bytes, bytes], ...]
REQUIRED = {"BROADCAST_LOGIN": "required"}


def session_of(client: Client) -> Headers:
    """Return what a browser's socket sends."""
    return ((b"cookie", f"a=b; sessionid={client.cookies['sessionid'].value}".encode()),)


def bearer(secret: str) -> Headers:
    """Return what the socket of a program with a token sends."""
    return ((b"authorization", f"Bearer {secret}".encode()),)


async def ends(one: WebsocketCommunicator) -> tuple[str, int]:
    """Return the error and the code by which a member's connection ends; it speaks JSON."""
    fault = ""
    while (output := await one.receive_output(timeout=10))["type"] != "websocket.close":
        fault = json.loads(output["text"].splitlines()[-1]).get("code", "")
    return fault, output["code"]


async def welcome(one: WebsocketCommunicator) -> dict[str, Any]:
    """Return the welcome; the member speaks JSON."""
    event = json.loads((await one.receive_from(timeout=10)).splitlines()[0])
    assert event["type"] == "welcome"
    assert isinstance(event, dict)
    return event


def offered(secret: str) -> tuple[str, ...]:
    """Return what the socket of a page with a token offers."""
    return (f"bearer.{base64.urlsafe_b64encode(secret.encode()).decode().rstrip('=')}",)


@pytest.mark.parametrize("required", [True, False])
def test_an_account_comes_in_under_its_name(required: bool, room: str) -> None:
    """By session or token, however that is sent, an account has its name and is verified."""
    whose = account()
    _, secret = Token.make(whose, "laptop")
    name = whose.username
    cookie = session_of(browser(whose))

    async def part() -> None:
        async with visitor(f"/?name=bob&room={room}", as_json=True, headers=cookie) as one:
            seen = await welcome(one)
            assert (seen["name"], seen["verified"]) == (name, [name])
            async with visitor(f"/?room={room}", as_json=True, headers=bearer(secret)) as two:
                seen = await welcome(two)
                assert (seen["name"], seen["verified"]) == (f"{name}-2", [name, f"{name}-2"])
                joined = json.loads(await one.receive_from(timeout=10))
                assert (joined["name"], joined["verified"]) == (f"{name}-2", True)
            async with visitor(f"/?room={room}", as_json=True, offered=offered(secret)) as page:
                seen = await welcome(page)
                assert (seen["name"], seen["verified"]) == (f"{name}-2", [name, f"{name}-2"])

    with override_settings(BROADCAST_LOGIN="required" if required else "optional"):
        play(part)


@pytest.mark.parametrize("spelling", [str, str.upper, lambda name: name.replace("A", "Ａ")])
def test_the_name_of_an_account_is_its_own(spelling: Callable[[str], str], room: str) -> None:
    """A guest does not get an account's name, in no spelling, also while the account is away."""
    name = spelling(account().username)

    async def part() -> None:
        query = urlencode({"name": name, "room": room})
        async with visitor(f"/?{query}", as_json=True) as guest:
            seen = await welcome(guest)
            assert (seen["name"], "verified" in seen) == (f"{name}-2", False)

    play(part)


def test_a_name_that_becomes_an_accounts(room: str) -> None:
    """A guest who has a name when an account is made of it has to come again, as another."""
    name = f"A{secrets.token_hex(4)}"

    async def part() -> None:
        async with visitor(f"/?name={name}&room={room}", as_json=True) as guest:
            assert (await welcome(guest))["name"] == name
            await asyncio.to_thread(account, name.upper())
            assert await ends(guest) == ("name_owned", 4001)
        async with visitor(f"/?name={name}&room={room}", as_json=True) as guest:
            assert (await welcome(guest))["name"] == f"{name}-2"

    play(part)


@pytest.mark.parametrize("login", ["required", "optional"])
@pytest.mark.parametrize("secret", ["bst_wrong", "", "\xff"])
def test_a_wrong_token_is_refused(login: str, secret: str, room: str) -> None:
    """A token that is none is told so, with 4501, also where guests may come in."""

    async def part() -> None:
        async with visitor(f"/?room={room}", as_json=True, headers=bearer(secret)) as one:
            assert await ends(one) == ("token", 4501)

    with override_settings(BROADCAST_LOGIN=login):
        play(part)


@pytest.mark.parametrize("headers", [(), ((b"cookie", b"sessionid=wrong"),)])
def test_guests_are_refused_where_a_login_is_required(headers: Headers, room: str) -> None:
    """Who has not signed in is told so, with 4501, where guests may not come in."""

    async def part() -> None:
        async with visitor(f"/?room={room}", as_json=True, headers=headers) as one:
            assert await ends(one) == ("login", 4501)

    with override_settings(**REQUIRED):
        play(part)


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
    assert browser(whose).post("/accounts/password/", form).status_code == 302


def switch_off(whose: Account, client: Client) -> None:
    """Switch the account off."""
    whose.is_active = False
    whose.save()


@pytest.mark.parametrize("by_token", [True, False])
@pytest.mark.parametrize("change", [revoke, sign_out, change_password, switch_off])
def test_a_change_of_an_account_is_felt_at_once(change: Change, by_token: bool, room: str) -> None:
    """Who is here by what has ended is closed with 4001, and on return with 4501."""
    whose = account()
    client = browser(whose)
    headers = session_of(client)
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
        async with visitor(f"/?room={room}", as_json=True, headers=headers) as one:
            await welcome(one)
            await asyncio.to_thread(change, whose, client)
            assert await ends(one) == ("sign_in", 4001)
        async with visitor(f"/?room={room}", as_json=True, headers=headers) as one:
            if lost[change] is None:  # it is still what it was
                assert (await welcome(one))["name"] == whose.username
            else:
                assert await ends(one) == (lost[change], 4501)

    with override_settings(**REQUIRED):
        play(part)


@pytest.mark.parametrize("login", ["required", "optional"])
def test_a_session_that_ends_while_one_comes_in(login: str, room: str) -> None:
    """Who has signed out between being looked at and being in the room is not in it."""
    whose = account()
    client = browser(whose)
    headers, session = session_of(client), client.session
    _, secret = Token.make(whose, "laptop")

    async def part() -> None:
        async with visitor(f"/?room={room}", headers=bearer(secret)):
            node = await nodes().get(room)
            locked, done = threading.Event(), threading.Event()
            leaving = asyncio.create_task(asyncio.to_thread(end, session, locked, done))
            await asyncio.to_thread(locked.wait, 10)
            coming = asyncio.create_task(come(room, headers))
            # It was looked at, and now it waits for the lock.
            await asyncio.to_thread(until, lambda: node._coming)
            done.set()
            await leaving
            lost = ("login", 4501) if login == "required" else ("sign_in", 4001)
            assert await coming == lost

    with override_settings(BROADCAST_LOGIN=login):
        play(part)


def end(session: SessionBase, locked: threading.Event, done: threading.Event) -> None:
    """End a session in a transaction that lasts until *done*."""
    with transaction.atomic():
        session.delete()
        locked.set()
        assert done.wait(10)
    connection.close()


async def come(room: str, headers: Headers) -> tuple[str, int]:
    """Come in, and return how that ends."""
    async with visitor(f"/?room={room}", as_json=True, headers=headers) as one:
        return await ends(one)


def test_signing_in_disturbs_nobody(room: str) -> None:
    """Whoever is here stays, when the account signs in elsewhere."""
    whose = account()
    headers = session_of(browser(whose))

    async def part() -> None:
        async with visitor(f"/?room={room}", as_json=True, headers=headers) as one:
            await welcome(one)
            assert (await asyncio.to_thread(sign_in, browser(), whose.username)).status_code == 302
            here = models.Member.objects.filter(account=whose, end_code=None)
            assert await asyncio.to_thread(here.exists)  # or its process would close it

    play(part)


# -- the whole of it, in a process of its own --


@dataclass
class Site:
    """A site that wants a login and can send mail, and a browser that has none yet."""

    url: str
    mails: Path

    def __post_init__(self) -> None:
        """Open the browser."""
        self.cookies = CookieJar()
        self.open = build_opener(HTTPCookieProcessor(self.cookies)).open

    def get(self, path: str) -> tuple[str, str]:
        """Return where a page is in the end, and the page."""
        request = Request(self.url.replace("ws", "http") + path, headers={"Accept": "text/html"})
        with self.open(request, timeout=PATIENCE) as response:
            return response.url, response.read().decode()

    def send(self, path: str, page: str = "", **form: str) -> tuple[str, str]:
        """Send a form, which is on the page at *path* or on another."""
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
            made.backup(copy)  # to have the tables at once
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
    """Say hi from the command line."""
    script = f'echo hi | "$@" connect {site.url} {" ".join(arguments)}'
    return shell(script, program, **variables)


def test_the_command_line_signs_in(program: list[str], site: Site, tmp_path: Path) -> None:
    """From the login by way of the page to a token in a file: the command line is in, as alice."""
    done = connect(program, site)
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith("this site is for its accounts: sign in at /accounts/login/")

    url, page = site.get("")
    assert url.endswith("/accounts/login/?next=/")
    site.send("accounts/login/", username="ａｌｉｃｅ", password=PASSWORD)
    _, page = site.send("accounts/tokens/", label="laptop")
    (secret,) = re.findall(r">(bst_[\w-]+)<", page)
    file = tmp_path / "token"
    file.write_text(f"{secret}\n", encoding="ascii")

    done = connect(program, site, "--name", "bob", "--token-file", str(file), BROADCAST_TOKEN="x")
    assert (done.code, done.output, done.errors) == (0, "Alice: hi\n", "")
    why = "token is not valid: make another one at /accounts/tokens/\n"
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
    """Where there is mail, a link in one leads to a new password, once, and to no address else."""
    browser = Site(site.url, site.mails)
    assert 'href="/accounts/reset/"' in browser.get("accounts/login/")[1]
    told = []
    for address in ("nobody@example.org", "alice@example.org"):
        assert not list(site.mails.iterdir())
        told.append(browser.send("accounts/reset/", email=address))
    assert [url.rpartition("/accounts/")[2] for url, _ in told] == ["login/", "login/"]
    assert "a mail with a link is on its way" in told[0][1]
    for _ in range(brake.PAIR - 1):
        browser.send("accounts/reset/", email="nobody@example.org")
    with pytest.raises(HTTPError, match="429"):  # nobody can have us send mail after mail
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
    assert "Your password is changed" in page
    url, _ = browser.send("accounts/login/", username="alice", password=new)
    assert urlsplit(url).path == "/"
    assert "This link is not valid" in Site(site.url, site.mails).get(link)[1]
