"""The own page: keeps the pages of other sites from everything but the page and the program.

A browser says in the Origin which page sends a request, but it sends none for what a page embeds or
links to. It says in ``Sec-Fetch-Site`` how the page relates to the server, and in
``Sec-Fetch-Mode`` whether it opens the response itself (W3C, Fetch Metadata Request Headers). Both
must fit. Programs send neither. This module is pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from .cors import is_origin_allowed
from .program import PROGRAM_NAME
from .responses import Response, forbidden_origin, plain_response
from .site import is_socket_path

OWN_SITES = ("same-origin", "none")
"""Values of Sec-Fetch-Site: the server's own page asks, or the user has typed the address."""

FOREIGN = "this address was opened or embedded by a page of another site, open it by itself"
FORM = "a form of a page does not publish, send the message as the body of a request"


def check_page(
    method: str, path: str, headers: Mapping[str, str], origins: frozenset[str]
) -> Response | None:
    """Return the response that rejects the request of a page, None for any other.

    *headers* have lower-case names, and *origins* are the other origins that are allowed.
    """
    if method in ("GET", "HEAD") and path.rpartition("/")[2] in ("", PROGRAM_NAME):
        return None
    return check_site(headers, origins) or _check_form(method, headers)


def check_socket(path: str, headers: Mapping[str, str], origins: frozenset[str]) -> Response | None:
    """Return the response that rejects the handshake of a WebSocket, None for any other."""
    if not is_socket_path(path):
        return plain_response(404, "the WebSocket is at / and nowhere else")
    return check_site(headers, origins)


def check_site(headers: Mapping[str, str], origins: frozenset[str]) -> Response | None:
    """Return the response that rejects the request of another site, None for any other."""
    if not is_origin_allowed(headers, origins):
        return forbidden_origin()
    site = headers.get("sec-fetch-site")
    if site is None or site.strip().lower() in OWN_SITES:
        return None
    # Pages of an allowed origin may use it by their scripts, and not show what it answers.
    by_script = headers.get("sec-fetch-mode", "").strip().lower() != "navigate"
    if by_script and headers.get("origin", "").lower() in origins:
        return None
    return plain_response(403, FOREIGN)


def _check_form(method: str, headers: Mapping[str, str]) -> Response | None:
    """Reject a form that a browser submits: it belongs to another page, perhaps with a password."""
    if method != "POST":
        return None
    navigates = headers.get("sec-fetch-mode", "").strip().lower() == "navigate"
    # Without TLS a browser sends no Sec-Fetch-Mode, but asks for a document.
    asks_for_page = "origin" in headers and "text/html" in headers.get("accept", "").lower()
    return plain_response(403, FORM) if navigates or asks_for_page else None
