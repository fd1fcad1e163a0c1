"""The HTTP answers: what there is at the server's address besides the socket.

Pure, but for the page, which it reads once. The server hands out its own clients: the
page to who looks with a browser, and who has the single file running has it for
everyone who can reach the port. Who parsed the request, and how the answer gets to its
asker, is not known here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from typing import Protocol
from urllib.parse import urlsplit

from .metrics import CONTENT_TYPE
from .protocol import CloseCode

HEAD_BYTES = 8 * 2**10
"""The longest head of a request; a line of it may be no longer for websockets either."""

PLAIN = "text/plain; charset=utf-8"

CHUNK = 64 * 2**10

NOT_KEPT = "Cache-Control", "no-cache"

PROGRAM = "broadcast-server.pyz"

LATER, SOON = 5, 1
"""Seconds after which who was refused for want of a place, or of a server, may ask again."""

STATUSES = {
    CloseCode.STOPPING: 503,
    CloseCode.FULL: 503,
    CloseCode.REFUSED: 400,
    CloseCode.SIGN_IN: 401,
    CloseCode.REMOVED: 403,
}
"""What is said over HTTP for what closes a socket."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: *length* bytes of *body*, which is read as the client takes it."""

    status: int
    type: str
    length: int
    body: Iterator[bytes]
    headers: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Page:
    """The chat page: one HTML document, the text of its one style, and what it may do."""

    html: bytes
    style: str
    policy: str


class Site(Protocol):
    """What the answers need of the server."""

    @property
    def program(self) -> bytes | None:
        """The single file that is running, if it is one."""

    @property
    def accepting(self) -> bool:
        """Whether who comes may come in: the server does not stop."""

    def figures(self) -> str:
        """Write what was counted, for Prometheus."""


def is_socket_path(path: str) -> bool:
    """Tell whether the socket is at *path*: at / and, behind a proxy, under any prefix."""
    return path.endswith("/")


def origin_allowed(headers: Mapping[str, str], allowed: frozenset[str]) -> bool:
    """Tell whether a request's Origin may talk to us.

    Programs send none, and may. A page may if it came from this very host, or if
    its origin is listed. *headers* have lower-case names.
    """
    origin = headers.get("origin")
    if origin is None or origin.lower() in allowed:
        return True
    # A port that neither names is that of the page's scheme: a proxy that ends TLS
    # passes the Host on, and not how it was reached.
    default = 443 if origin.lower().startswith("https:") else 80
    return _host(origin, default) == _host("//" + headers.get("host", ""), default) != ""


def shared(headers: Mapping[str, str], allowed: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers by which a page elsewhere, whose origin is *allowed*, may read an answer.

    Without cookies: it has to bring a token, where one is wanted.
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


def options(headers: Mapping[str, str], allowed: frozenset[str]) -> Answer:
    """Answer what a browser asks before it lets a page elsewhere post with a token."""
    if not origin_allowed(headers, allowed):
        return forbidden()
    may = (
        ("Allow", "GET, HEAD, OPTIONS, POST"),
        ("Access-Control-Allow-Methods", "GET, POST"),
        ("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID"),
        ("Access-Control-Max-Age", "600"),
    )
    return text_answer(200, PLAIN, "", *may)


def forbidden() -> Answer:
    """Refuse a page that came from elsewhere."""
    return plain(403, "this origin is not allowed")


def refused(code: CloseCode, text: str, after: float = 0.0) -> Answer:
    """Say over HTTP why someone is not let in; *after* so many seconds if it came too often."""
    if after:
        return plain(429, text, ("Retry-After", str(ceil(after))))
    match STATUSES.get(code, 403):
        case 401:
            return plain(401, text, ("WWW-Authenticate", "Bearer"))
        case 503:
            wait = LATER if code is CloseCode.FULL else SOON
            return plain(503, text, ("Retry-After", str(wait)))
        case status:
            return plain(status, text)


def _host(url: str, default: int) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or default
    except ValueError:
        return ""
    return f"{parts.hostname}:{port}" if parts.hostname else ""


@cache
def page() -> Page:
    """Return the chat page, read when it is first asked for."""
    from importlib.resources import files  # 8 ms that a start should not cost

    html = (files(__package__) / "page" / "index.html").read_bytes()
    style, script = (
        re.search(rf"<{tag}>(.*?)</{tag}>", html.decode(), re.DOTALL)[1]  # type: ignore[index]  # it has both
        for tag in ("style", "script")
    )
    return Page(html, style, policy(style, script))


def policy(style: str, script: str = "") -> str:
    """Return a Content-Security-Policy for a page that is this *style* and *script*, and no more.

    They are named by their hashes, so that nothing that anyone gets into the page is run,
    and nothing is fetched from anywhere. To 'self' belongs our own socket.
    """
    rules = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}" if script else "",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return "; ".join(filter(None, rules))


def _hash(text: str) -> str:
    from hashlib import sha256

    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def answer(site: Site, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    """Answer one request; its body, if it has one, does not matter here.

    *headers* have lower-case names.
    """
    path = target.partition("?")[0]
    if method not in ("GET", "HEAD"):
        allowed = ("GET", "HEAD", "POST") if is_socket_path(path) else ("GET", "HEAD")
        words = f"{', '.join(allowed[:-1])} and {allowed[-1]}"
        text = f"method {method[:20]} is not allowed, allowed are {words}"
        return plain(405, text, ("Allow", ", ".join(allowed)))
    match path.rpartition("/")[2]:
        case "" if "text/html" in headers.get("accept", "").lower():
            return _page(page())
        case "":
            return plain(
                200,
                "This is a broadcast server. Its socket is at this very address:\n"
                f"fetch ./{PROGRAM} from here, then\n"
                f"  python3 {PROGRAM} connect THIS-ADDRESS --name YOU\n"
                "or use any WebSocket client; it speaks plain text. A browser gets a page.\n"
                "curl -d 'hello' 'THIS-ADDRESS/?name=YOU' says hello, and\n"
                "curl -N THIS-ADDRESS/stream listens.",
                ("Vary", "Accept"),
            )
        case "healthz":
            return plain(200, "ok") if site.accepting else plain(503, "stopping")
        case "metrics":
            return text_answer(200, CONTENT_TYPE, site.figures())
        case "broadcast-server.pyz":
            return _program(site.program)
        case _:
            return plain(404, f"nothing is at {path[:200]}")


def _page(page: Page) -> Answer:
    headers = (
        ("Content-Security-Policy", page.policy),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),  # or a new server would be spoken to by an old page
        ("Vary", "Accept"),
    )
    return Answer(200, "text/html; charset=utf-8", len(page.html), iter([page.html]), headers)


def _program(data: bytes | None) -> Answer:
    if data is None:
        text = "this server runs from an installation; build the file: python3 build_zipapp.py"
        return plain(404, text)
    disposition = "Content-Disposition", f'attachment; filename="{PROGRAM}"'
    chunks = (data[place : place + CHUNK] for place in range(0, len(data), CHUNK))
    return Answer(200, "application/zip", len(data), chunks, (disposition,))


def plain(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    """Answer with a line of plain text."""
    return text_answer(status, PLAIN, text + "\n", *headers)


def text_answer(status: int, type: str, text: str, *headers: tuple[str, str]) -> Answer:
    """Answer with *text*, which is true just now."""
    body = text.encode()
    return Answer(status, type, len(body), iter([body]), (*headers, NOT_KEPT))
