"""The redirect loop: a proxy that speaks TLS to users, and does not say so to the site.

A site behind TLS redirects what came without it. It knows of the TLS in front of a proxy only by
``X-Forwarded-Proto`` of a proxy that it trusts. Without that, a browser is redirected to the
address that it is at, for ever, and it remembers a permanent redirect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from broadcast_server.http.responses import Response, plain_response
from django_site.client_address import scope_address

logger = logging.getLogger(__name__)

MAX_REPEATS = 5
"""After how many redirects of one client from one address in `LOOP_S` seconds they are a loop. A
browser follows 20."""

LOOP_S = 10.0
MAX_CLIENTS = 1000
"""Of how many clients redirects are counted."""

UNTRUSTED = (
    "a proxy says that this request came over https, and is not trusted, so it would be redirected"
    " to itself (set BROADCAST_TRUSTED_PROXY)"
)
UNKNOWN = (
    "a client is redirected to https again and again: a proxy has to send X-Forwarded-Proto: https,"
    " or set BROADCAST_TLS=no if users do not reach the site over TLS"
)


class RedirectLoop:
    """Finds redirects that lead back, and logs each of the two reasons once."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._repeats: dict[tuple[object, ...], tuple[float, int]] = {}

    def check(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], now: float
    ) -> Response | None:
        """Return the response to a request that would be redirected to itself, None for others.

        *headers* are those of the ASGI *scope* as text, and *now* is a time in seconds.
        """
        forwarded = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
        trusts = bool(settings.BROADCAST_TRUSTED_PROXY)
        if scope.get("scheme") == "https" or (trusts and forwarded == "https"):
            self._repeats.clear()
        elif settings.SECURE_SSL_REDIRECT and forwarded == "https":
            self._log(UNTRUSTED)
            return plain_response(500, UNTRUSTED)
        elif settings.SECURE_SSL_REDIRECT:
            self._count((scope_address(scope), headers.get("host"), scope["path"]), now)
        return None

    def _count(self, redirected: tuple[object, ...], now: float) -> None:
        first, count = self._repeats.get(redirected, (now, 0))
        if now - first > LOOP_S:
            first, count = now, 0
        if len(self._repeats) >= MAX_CLIENTS:
            self._repeats.clear()
        self._repeats[redirected] = first, count + 1
        if count + 1 >= MAX_REPEATS:
            self._log(UNKNOWN)

    def _log(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            logger.warning("%s", text)
