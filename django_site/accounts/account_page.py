"""The account page: a response in the style of the chat page, with a strict content policy.

It contains no script. What a page says is in its template.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from django.template.response import TemplateResponse

from broadcast_server.http.chat_page import chat_page

EXTRA_STYLE = """
main { max-width: 34rem; }
nav { display: flex; flex-wrap: wrap; align-items: baseline; gap: .5rem 1.25rem; margin: 2rem 0 0; }
nav form { margin: 0; }
.errorlist { margin: 0 0 1rem; list-style: none; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; padding: .5rem .75rem .5rem 0; border-bottom: 1px solid var(--line); }
td form { margin: 0; }
th, td { overflow-wrap: normal; }
td:first-child { overflow-wrap: anywhere; }
th, td button, .whole { white-space: nowrap; }
td time { font-size: .875rem; white-space: normal; }
td:last-child { text-align: end; padding-inline-end: 0; }
code { overflow-wrap: anywhere; }
.once, .notice {
	margin: 0 0 1rem; padding: .6rem .8rem; border-radius: .5rem;
	background: var(--panel); overflow-wrap: anywhere;
}
.once code { user-select: all; font-size: 1.05rem; }
.once .secret { word-break: break-all; }
.help { margin: -.7rem 0 1rem; }
.help ul { margin: 0; padding: 0 0 0 1.1rem; }
"""
"""The style of elements that the chat page does not have."""


@cache
def style() -> str:
    """Return the style sheet: that of the chat page, and `EXTRA_STYLE`."""
    return chat_page().style + EXTRA_STYLE


@cache
def policy() -> str:
    """Return the Content-Security-Policy, which allows the style sheet (by its hash) and forms."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    )


class AccountPage(TemplateResponse):
    """A page about accounts. It must not be cached: it may show a secret, to one user and once."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self["Content-Security-Policy"] = policy()
        self["Cache-Control"] = "no-store"
        self["Referrer-Policy"] = "same-origin"

    def resolve_context(self, context: dict[str, Any] | None) -> dict[str, Any] | None:
        """Add the style sheet to the context."""
        return {**(super().resolve_context(context) or {}), "style": style()}
