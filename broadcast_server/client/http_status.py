"""HTTP statuses: what a response that is no success means for the next attempt. Pure.

There is one table for both ways to take part, the handshake of a WebSocket and a message over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

SWITCHED_PROTOCOLS = 101
"""The status of a server that takes any request for a WebSocket's."""

RETRY_STATUSES = {408, 409, 425, 429}
"""HTTP statuses below 500 after which to retry. Any other would be the same the next time."""

NEVER_TAKEN_STATUSES = {501, 505, 511}
"""HTTP statuses from 500 on of servers and gateways that do not take the request at all."""

EXPLAINED_STATUSES = {400, 401, 403, 411, 413, 421}
"""HTTP statuses with which a broadcast server rejects a request, and says why in plain text."""

MAX_REDIRECTS = 5
"""Redirects to another path of the same server that are followed, such as one that adds a slash."""

ADDRESS_SCHEMES = {"http", "https", "ws", "wss"}
"""The schemes of addresses that a broadcast server can have."""

MAX_RETRY_AFTER_S = 3600.0
"""Seconds after which to try again even if the server names a later time."""


class StatusFailure(NamedTuple):
    """Why a request failed."""

    reason: str
    """A few words in lower case, without the address."""
    temporary: bool = False
    """Whether a retry may succeed."""
    wait: float = 0.0
    """Seconds to wait at least before the retry."""


def describe_status(
    status: int, headers: Mapping[str, str], body: bytes, url: str = ""
) -> StatusFailure:
    """Describe a response to a request for *url* that is no success.

    The names of *headers* are in lower case.
    """
    line = ""
    if headers.get("content-type", "text/plain").startswith("text/plain"):
        line = next(iter(body.decode(errors="replace").strip().splitlines()), "").rstrip()
    may_be_taken = status >= 500 and status not in NEVER_TAKEN_STATUSES
    is_early = status < 200 and status != SWITCHED_PROTOCOLS
    if is_early or status in RETRY_STATUSES or may_be_taken:
        wait = _retry_after(headers.get("retry-after", ""))
        return StatusFailure(line or f"HTTP status {status}", temporary=True, wait=wait)
    if 300 <= status < 400 and headers.get("location"):
        address = ""
        with suppress(ValueError):
            address = urljoin(url, headers["location"])
        if address.partition(":")[0].lower() in ADDRESS_SCHEMES:
            return StatusFailure(f"the server redirects to {address}, use that address")
    if line and status in EXPLAINED_STATUSES:
        return StatusFailure(line)
    return StatusFailure(f"no broadcast server is there: HTTP status {status}")


def describe_foreign_success(status: int) -> str:
    """Describe a success that no broadcast server sends."""
    return f"HTTP status {status}, but not the response of a broadcast server"


def same_server_redirect(status: int, location: str | None, url: str) -> str | None:
    """Return where a response redirects to, without a query, if that is on the server of *url*."""
    if not 300 <= status < 400 or not location:
        return None
    try:
        old, new = urlsplit(url), urlsplit(urljoin(url, location))
        scheme = {"http": "ws", "https": "wss"}.get(new.scheme, new.scheme)
        is_same = (scheme, new.hostname, new.port) == (old.scheme, old.hostname, old.port)
    except ValueError:
        return None
    return urlunsplit(old._replace(path=new.path)) if is_same and new.path != old.path else None


def _retry_after(value: str) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(MAX_RETRY_AFTER_S, float(value[:9]))
    with suppress(ValueError, TypeError, OverflowError):
        seconds = parsedate_to_datetime(value).timestamp() - time()
        return min(MAX_RETRY_AFTER_S, max(0.0, seconds))
    return 0.0
