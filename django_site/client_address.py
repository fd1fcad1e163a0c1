"""The client address: from the connection's peer, or from X-Forwarded-For of a trusted proxy.

The site reads the header itself, because the servers treat it differently. With
`--proxy-headers`, Daphne trusts everyone and takes the first address, which the client can forge.
uvicorn trusts this machine by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings

from broadcast_server.admission.trusted_proxies import (
    TrustedProxies,
    parse_ip,
    parse_trusted_proxies,
)
from django_site.configuration.environment import NO, YES


def parse_trusted_proxy(value: str) -> TrustedProxies | bool:
    """Parse `BROADCAST_TRUSTED_PROXY`: yes for every peer, no for none, or the trusted proxies.

    Raises ValueError.
    """
    if value.lower() in YES:
        return True
    if value.lower() in NO:
        return False
    try:
        return parse_trusted_proxies(value)
    except ValueError as error:
        raise ValueError(f"{error}, nor yes or no") from None


def client_address(peer: str | None, forwarded: Sequence[str]) -> str | None:
    """Return the address of a client, None if it is unknown as with a Unix socket.

    *peer* is the address that has connected, and *forwarded* are the values of X-Forwarded-For in
    their order. If every peer is trusted, the last address is the client's: only that one was
    added by the proxy itself.
    """
    trusted: TrustedProxies | bool = settings.BROADCAST_TRUSTED_PROXY
    if isinstance(trusted, TrustedProxies):
        return trusted.client_address(peer, forwarded)
    last = parse_ip(",".join(forwarded).rpartition(",")[2]) if trusted else None
    return peer if last is None else str(last)


def scope_address(scope: Mapping[str, Any]) -> str | None:
    """Return the address of a connection's client, like `client_address`."""
    forwarded = [
        value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
    ]
    client = scope.get("client")
    return client_address(client[0] if client else None, forwarded)
