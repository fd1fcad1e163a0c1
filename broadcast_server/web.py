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
from typing import Protocol
from urllib.parse import urlsplit

from .metrics import CONTENT_TYPE

HEAD_BYTES = 8 * 2**10
"""The longest head of a request; a line of it may be no longer for websockets either."""

CHUNK = 64 * 2**10

NOT_KEPT = "Cache-Control", "no-cache"

PROGRAM = "broadcast-server.pyz"


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
        text = f"method {method} is not allowed, allowed are GET and HEAD"
        return _plain(405, text, ("Allow", "GET, HEAD"))
    match path.rpartition("/")[2]:
        case "" if "text/html" in headers.get("accept", "").lower():
            return _page(page())
        case "":
            return _plain(
                200,
                "This is a broadcast server. Its socket is at this very address:\n"
                f"fetch ./{PROGRAM} from here, then\n"
                f"  python3 {PROGRAM} connect THIS-ADDRESS --name YOU\n"
                "or use any WebSocket client; it speaks plain text. A browser gets a page.",
                ("Vary", "Accept"),
            )
        case "healthz":
            return _plain(200, "ok") if site.accepting else _plain(503, "stopping")
        case "metrics":
            return _text(200, CONTENT_TYPE, site.figures())
        case "broadcast-server.pyz":
            return _program(site.program)
        case _:
            return _plain(404, f"nothing is at {path[:200]}")


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
        return _plain(404, text)
    disposition = "Content-Disposition", f'attachment; filename="{PROGRAM}"'
    chunks = (data[place : place + CHUNK] for place in range(0, len(data), CHUNK))
    return Answer(200, "application/zip", len(data), chunks, (disposition,))


def _plain(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    return _text(status, "text/plain; charset=utf-8", text + "\n", *headers)


def _text(status: int, type: str, text: str, *headers: tuple[str, str]) -> Answer:
    body = text.encode()
    return Answer(status, type, len(body), iter([body]), (*headers, NOT_KEPT))
