"""Cross-origin requests: which web origins are allowed, and the headers that tell a browser so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from broadcast_server.protocol.operators import OPERATOR_HEADER
from broadcast_server.protocol.session_key import SESSION_HEADER
from broadcast_server.protocol.userinfo import has_userinfo, without_userinfo

from .responses import PLAIN_TEXT, Response, forbidden_origin, text_response

ALLOWED_HEADERS = f"Authorization, {SESSION_HEADER}, {OPERATOR_HEADER}, Content-Type, Last-Event-ID"
"""The request headers that a page of a listed origin may set."""

_HOST = re.compile("[a-z0-9._:-]+")


def is_origin_allowed(headers: Mapping[str, str], allowed: frozenset[str]) -> bool:
    """Return whether the origin of a request may use the server.

    A request without an Origin comes from a program, and is allowed. A page is allowed if it was
    loaded from this host, or if its origin is in *allowed*, which is in lower case. *headers* have
    lower-case names.
    """
    origin = headers.get("origin")
    if origin is None or origin.lower() in allowed:
        return True
    # Where a port is missing, the default of the page's scheme is meant in both headers: a proxy
    # that terminates TLS passes the Host header on, but not the scheme.
    default_port = 443 if origin.lower().startswith("https:") else 80
    own_host = _host_and_port("//" + headers.get("host", ""), default_port)
    return _host_and_port(origin, default_port) == own_host != ""


def parse_origins(value: str) -> frozenset[str]:
    """Read a comma-separated list of web origins, as browsers send them in the Origin header.

    Raises ValueError with the first item that is none: it would never match a browser's.
    """
    items = [item.strip().lower() for item in value.split(",") if item.strip()]
    if value.strip() and not items:
        raise _no_origin(value)
    if has_userinfo(value):  # no origin has one, and a password may have a comma
        raise _no_origin(without_userinfo(value))
    return frozenset(map(_parse_origin, items))


def _parse_origin(item: str) -> str:
    try:
        parts = urlsplit(item)
        port = parts.port
    except ValueError:
        raise _no_origin(item) from None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    origin = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}"
    if origin != item or not (parts.scheme and _HOST.fullmatch(parts.hostname or "")):
        raise _no_origin(item)
    # Browsers leave out the default port of the scheme (RFC 6454, section 6.2).
    default = {"http": ":80", "https": ":443"}.get(parts.scheme)
    return origin.removesuffix(default) if default else origin


def _no_origin(item: str) -> ValueError:
    return ValueError(
        f"{item} is not a web origin (write https://HOST or http://HOST:PORT, without a path)"
    )


def cors_headers(
    headers: Mapping[str, str], allowed: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    """Return the headers that let a page of an *allowed* origin read a response.

    They allow no cookies, so such a page has to send a token where one is required. *headers* are
    those of the request, with lower-case names.
    """
    vary = "Vary", "Origin"
    origin = headers.get("origin", "")
    if origin.lower() not in allowed:
        return (vary,)
    return (
        vary,
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "Retry-After"),
    )


def preflight_response(headers: Mapping[str, str], allowed: frozenset[str]) -> Response:
    """Respond to the preflight request of a browser, which precedes one with a header of ours."""
    if not is_origin_allowed(headers, allowed):
        return forbidden_origin()
    allow = (
        ("Allow", "GET, HEAD, OPTIONS, POST"),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", ALLOWED_HEADERS),
        ("Access-Control-Max-Age", "600"),
    )
    return text_response(200, PLAIN_TEXT, "", *allow)


def _host_and_port(url: str, default_port: int) -> str:
    """Return ``HOST:PORT`` of *url*, the empty string if it is invalid or has no host."""
    try:
        parts = urlsplit(url)
        port = parts.port or default_port
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname else ""
