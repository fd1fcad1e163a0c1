"""The chat page: one HTML file, and the Content-Security-Policy that fits it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import ResourceLoader


@dataclass(frozen=True, slots=True)
class ChatPage:
    """The chat page: its HTML document, the content of its style element, and its policy.

    *policy* is the value of its Content-Security-Policy header.
    """

    html: bytes
    style: str
    policy: str


def with_address(page: ChatPage, url: str) -> bytes:
    """Return the document, with the address *url* that its invitations name.

    A page that was opened by a loopback address does not know one for other machines.
    """
    from html import escape

    meta = f'<meta name="share" content="{escape(url)}">\n'
    return page.html.replace(b"<title>", meta.encode() + b"<title>", 1)


@cache
def chat_page() -> ChatPage:
    """Return the chat page. It is read at the first call."""
    # As `importlib.resources` does, which takes 8 ms to import.
    loader = cast("ResourceLoader", __spec__.loader)
    html = loader.get_data(str(Path(__file__).parent.parent / "page" / "index.html"))
    style, script = (
        re.search(rf"<{tag}>(.*?)</{tag}>", html.decode(), re.DOTALL)[1]  # type: ignore[index]  # the page has both
        for tag in ("style", "script")
    )
    return ChatPage(html, style, content_security_policy(style, script))


def content_security_policy(style: str, script: str = "") -> str:
    """Return a Content-Security-Policy that allows the inline *style* and *script*, nothing else.

    Both are allowed by their hashes, so that injected code does not run. The page can load images
    from its own server and connect to it, which is what 'self' means for a WebSocket.
    """
    rules = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data:",
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
