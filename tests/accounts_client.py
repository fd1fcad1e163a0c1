"""Accounts of the Django deployment, and clients that are signed in."""

from __future__ import annotations

import json
import secrets
from typing import Any

import django
import django_client  # noqa: F401  # it sets Django up
from channels.testing import WebsocketCommunicator
from django.core.signals import setting_changed
from django.test import Client
from django.test.client import ClientHandler

from django_site.accounts.models import Account

PASSWORD = "correct horse battery"


def account(name: str = "") -> Account:
    """Create an account, with a random name unless one is given."""
    return Account.objects.create_user(name or f"A{secrets.token_hex(4)}", password=PASSWORD)


def mail_backend(path: str) -> dict[str, Any]:
    """Return the settings that make Django send mail through the class at *path*."""
    if django.VERSION >= (6, 1):
        return {"MAILERS": {"default": {"BACKEND": path}}}
    return {"EMAIL_BACKEND": path}


_handler = ClientHandler(enforce_csrf_checks=False)


def _forget_middleware(setting: str, **_: Any) -> None:
    """Have the middleware made anew after a setting that it may have read when it was made."""
    global _handler  # noqa: PLW0603  # the next browsers get another one
    if not setting.startswith(("BROADCAST_", "PASSWORD_")):
        _handler = ClientHandler(enforce_csrf_checks=False)


setting_changed.connect(_forget_middleware)


def browser_of(of: Account | None = None) -> Client:
    """Return a browser (Django's test client), signed in to the account *of* if one is given.

    All share the middleware: when it is made, WhiteNoise looks at each static file of the admin,
    and that takes longer than the request.
    """
    client = Client(enforce_csrf_checks=False)
    client.handler = _handler
    if of is not None:
        client.force_login(of)
    return client


Headers = tuple[tuple[bytes, bytes], ...]


def session_headers(client: Client) -> Headers:
    """Return the headers of a WebSocket that this browser opens: its session cookie."""
    return ((b"cookie", f"a=b; sessionid={client.cookies['sessionid'].value}".encode()),)


async def close_reason(client: WebsocketCommunicator) -> tuple[str, int]:
    """Return the error and close code with which a JSON client's connection is closed."""
    error = ""
    while (output := await client.receive_output(timeout=10))["type"] != "websocket.close":
        error = json.loads(output["text"].splitlines()[-1]).get("code", "")
    return error, output["code"]


async def welcome(client: WebsocketCommunicator) -> dict[str, Any]:
    """Return the welcome event of a JSON client."""
    event = json.loads((await client.receive_from(timeout=10)).splitlines()[0])
    assert event["type"] == "welcome"
    assert isinstance(event, dict)
    return event
