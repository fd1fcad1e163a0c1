"""The address: where a client is, as far as those say it whom the site believes.

It looks at the peer of the connection and at X-Forwarded-For by itself. What the servers make
of that header differs: with its `--proxy-headers` Daphne believes anyone, and the first name,
which is the one that a stranger writes; uvicorn believes this machine by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from broadcast_server.proxies import Trusted, parse_address, parse_trusted

YES = ("yes", "y", "true", "on", "ok", "1")
NO = ("no", "n", "false", "off", "0", "")


def trusted_of(value: str) -> Trusted | bool:
    """Read whom to believe: whoever connects, nobody, or proxies by their addresses."""
    if value.lower() in YES:
        return True
    if value.lower() in NO:
        return False
    try:
        return parse_trusted(value)
    except ValueError as error:
        text = f"BROADCAST_TRUSTED_PROXY: {error}, nor yes or no"
        raise ImproperlyConfigured(text) from None


def client_of(peer: str | None, forwarded: Sequence[str]) -> str | None:
    """Return a client's address, of a connection from *peer*, None for a socket file.

    *forwarded* are the values of X-Forwarded-For, in their order. Of a peer that is believed
    whoever it is, only the last name is its own.
    """
    trusted: Trusted | bool = settings.BROADCAST_TRUSTED_PROXY
    if isinstance(trusted, Trusted):
        return trusted.client(peer, forwarded)
    named = parse_address(",".join(forwarded).rpartition(",")[2]) if trusted else None
    return peer if named is None else str(named)


def whence(scope: Mapping[str, Any]) -> str | None:
    """Return the address of the client of a connection, None for a socket file."""
    forwarded = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
    ]
    client = scope.get("client")
    return client_of(client[0] if client else None, forwarded)
