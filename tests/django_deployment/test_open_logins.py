"""Logins that end without a word: by their time, or by what another program writes."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable

import pytest
from accounts_client import account, browser_of, close_reason, session_headers, welcome
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils.timezone import now
from django_client import begin_http_request, connected, run_async

from django_site.accounts.models import Account, Token
from django_site.asgi import application

Change = Callable[[Account, Client], None]


@pytest.fixture
def room() -> str:
    """A new room."""
    return secrets.token_hex(8)


def expire(whose: Account, client: Client) -> None:
    """Let the time of the session end."""
    Session.objects.filter(session_key=client.session.session_key).update(expire_date=now())


def delete_session(whose: Account, client: Client) -> None:
    """Delete the session as another program would."""
    Session.objects.filter(session_key=client.session.session_key)._raw_delete("default")


def delete_token(whose: Account, client: Client) -> None:
    """Delete the account's token as another program would."""
    Token.objects.filter(account=whose)._raw_delete("default")


def switch_off_by_query(whose: Account, client: Client) -> None:
    """Disable the account as another program would."""
    Account.objects.filter(pk=whose.pk).update(is_active=False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("end", "by_token"),
    [
        (expire, False), (delete_session, False), (delete_token, True),
        (switch_off_by_query, False), (switch_off_by_query, True),
    ],
)  # fmt: skip
def test_a_login_that_ends_without_a_word(
    end: Change, by_token: bool, stream: bool, room: str
) -> None:
    """A connection whose login has ended is found by the check of all logins; others stay."""
    whose = account()
    client, other = browser_of(whose), browser_of(account())
    headers = session_headers(client)
    if by_token:
        secret = Token.make(whose, "laptop")[1]
        headers = ((b"authorization", f"Bearer {secret}".encode()),)

    async def part() -> None:
        check = application.replicas.logins.check
        async with connected(f"/?room={room}", as_json=True, headers=session_headers(other)) as two:
            await welcome(two)
            if stream:
                one = begin_http_request("GET", f"/stream?room={room}", *headers)
                await one.send_input({"type": "http.request", "body": b""})
                assert (await one.receive_output(timeout=10))["status"] == 200
                await check()
                await asyncio.to_thread(end, whose, client)
                await check()
                body = b""
                while (event := await one.receive_output(timeout=10)).get("more_body", False):
                    body += event["body"]
                assert json.loads(body.splitlines()[-1])["code"] == "sign_in"
                await one.wait(timeout=10)
            else:
                async with connected(f"/?room={room}", as_json=True, headers=headers) as one:
                    await welcome(one)
                    await check()
                    await asyncio.to_thread(end, whose, client)
                    await check()
                    assert await close_reason(one) == ("sign_in", 4001)
            await two.send_to('{"type":"ping"}')
            while '"pong"' not in await two.receive_from(timeout=10):
                pass
        assert not application.replicas.logins._logins

    run_async(part)
