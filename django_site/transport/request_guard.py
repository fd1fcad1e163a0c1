"""The request guard: which requests the site does not answer, by the host and the page they name.

It is in front of everything: rooms, account pages, the admin and static files. Django would check
the host of some of them, and no browser's notes on where a request comes from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from broadcast_server.http.allowed_hosts import AllowedHosts
from broadcast_server.http.cors import cors_headers
from broadcast_server.http.own_page import check_page, check_site, check_socket
from broadcast_server.http.responses import Response, plain_response
from django_site.configuration.own_hosts import OwnHosts

from .asgi_response import send_response
from .http import is_monitoring
from .prefix import below
from .request_body import routes_to_room

SITE_PAGES = {"accounts", "admin", "static"}
"""The names below which the site has other pages. What is posted there, such as a password, is
never a message, whatever comes before or after it in the path."""

MONITORING_HOSTS = AllowedHosts(exposed=True, is_own=OwnHosts().__contains__)
"""The names under which a program in the same network asks for the health and the metrics. None of
them can be in the public DNS, so no page of another site has made it resolve to this server."""


class RequestGuard:
    """Passes on to the ASGI application *app* what it may answer, and rejects the rest."""

    def __init__(self, app: Callable[[Any, Any, Any], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one request or WebSocket. The types are ASGI's."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        rejection = check_request(scope, headers)
        if rejection is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # which becomes HTTP status 403
        else:
            # It may have a body, which is not read.
            cors = cors_headers(headers, settings.BROADCAST_ALLOW_ORIGIN)
            await send_response(rejection, send, ("Connection", "close"), *cors)


def check_request(scope: Mapping[str, Any], headers: Mapping[str, str]) -> Response | None:
    """Return the response that rejects a request, None for one that may go on.

    *headers* are those of the ASGI *scope* as text. A WebSocket is a request as well.
    """
    path = below(scope["path"], scope.get("root_path", ""))
    invalid = _check_host(scope, path)
    if invalid is not None:
        return invalid
    origins: frozenset[str] = settings.BROADCAST_ALLOW_ORIGIN
    if scope["type"] == "websocket":
        return check_socket(scope["path"], headers, origins)
    method = scope["method"]
    if not routes_to_room(path) or (
        method != "POST" and not SITE_PAGES.isdisjoint(path.split("/")[1:2])
    ):
        return _check_site_page(method, headers)
    if method == "POST" and not SITE_PAGES.isdisjoint(path.lower().split("/")):
        text = f"nothing is at {path[:200]}, a message is posted to / or to a prefix of a proxy"
        return plain_response(404, text)
    return check_page(method, path, headers, origins)


def _check_site_page(method: str, headers: Mapping[str, str]) -> Response | None:
    """Reject a request of another site for an account page, the admin or a static file.

    A browser may open them from a link anywhere, such as one in a mail, but only by themselves: a
    frame, an image, a script or a form of another site gets none of them. The origins that may use
    the rooms are other sites as well.
    """
    rejection = check_site(headers, frozenset())
    opens = method in ("GET", "HEAD") and "origin" not in headers
    document = _is(headers, "sec-fetch-mode", "navigate") and _is(
        headers, "sec-fetch-dest", "document"
    )
    return None if opens and document else rejection


def _is(headers: Mapping[str, str], name: str, value: str) -> bool:
    return headers.get(name, "").strip().lower() == value


def _check_host(scope: Mapping[str, Any], path: str) -> Response | None:
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
    if validate_host(name, settings.ALLOWED_HOSTS):
        return None
    monitors = scope["type"] == "http" and is_monitoring(scope["method"], path)
    if monitors and MONITORING_HOSTS.allows(name.strip("[]")):
        return None
    text = f"{name[:200]} is not a name of this site (ALLOWED_HOSTS lists them)"
    return plain_response(400, text)
