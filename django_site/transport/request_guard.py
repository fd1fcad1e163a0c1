"""The request guard: which requests the rooms do not answer, by the host and the page they name.

Django checks the host of what it answers itself. Requests for a room do not pass through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from broadcast_server.http.own_page import check_page, check_socket
from broadcast_server.http.responses import Response, plain_response

OWN_PAGES = {"accounts", "admin", "static"}
"""The names below which the site has other pages. What is posted there, such as a password, is
never a message, whatever comes before or after it in the path."""


def check_request(scope: Mapping[str, Any], headers: Mapping[str, str]) -> Response | None:
    """Return the response that rejects a request, None for one that may go on.

    *headers* are those of the ASGI *scope* as text. A WebSocket is a request as well.
    """
    invalid = _check_host(scope)
    if invalid is not None:
        return invalid
    origins: frozenset[str] = settings.BROADCAST_ALLOW_ORIGIN
    if scope["type"] == "websocket":
        return check_socket(scope["path"], headers, origins)
    method, path = scope["method"], scope["path"]
    if method == "POST" and not OWN_PAGES.isdisjoint(path.lower().split("/")):
        text = f"nothing is at {path[:200]}, a message is posted to / or to a prefix of a proxy"
        return plain_response(404, text)
    return check_page(method, path, headers, origins)


def _check_host(scope: Mapping[str, Any]) -> Response | None:
    """Apply ALLOWED_HOSTS as Django does.

    A request of HTTP/1.0 may have no host, and neither has a test with `WebsocketCommunicator`. A
    browser always sends one.
    """
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if not hosts:
        return None
    if len(hosts) > 1:
        return plain_response(400, "request has more than one Host header, send one")
    name, _ = split_domain_port(hosts[0])
    if not name:
        return plain_response(400, "host is not valid, send HOST or HOST:PORT")
    if not validate_host(name, settings.ALLOWED_HOSTS):
        text = f"{name[:200]} is not a name of this site (ALLOWED_HOSTS lists them)"
        return plain_response(400, text)
    return None
