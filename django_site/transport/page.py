"""The chat page and its neighbours, as a Django view: the same responses as the single file's."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html

from broadcast_server.http.site import respond
from django_site.replication.replica_registry import SCOPE_KEY, ReplicaRegistry

ACCOUNTS_MARKER = b"<!-- accounts -->"
"""Where the chat page has room for a paragraph about accounts."""

NAME_FIELD = (
    b'<label for="name">Your name</label>\n\t\t<input id="name" autocomplete="nickname" required'
)
"""Where the chat page asks for a name, which nobody needs who is signed in."""

ACCOUNT_FIELD = '<input id="name" hidden value="{}"'

MODERATED = b'<meta name="moderated">\n'
"""Tells the chat page that this server has moderators, who get reports and can ban."""

PARAGRAPH = '<p class="soft">{}</p>'


class ProcessStatus:
    """What the responses need to know of this process, which runs from an installation."""

    program: bytes | None = None
    share_url: str | None = None  # a site is not opened by the machine that it runs on

    def __init__(self, registry: ReplicaRegistry) -> None:
        self._registry = registry

    @property
    def accepting(self) -> bool:
        """Whether clients may join: the server is not stopping."""
        return self._registry.accepting

    def metrics_text(self) -> str:
        """Return the metrics of this process in Prometheus' text format."""
        return self._registry.metrics_text()


def page(request: HttpRequest) -> HttpResponse:
    """Respond to a request; a browser has to sign in first where guests may not join."""
    requires_login = settings.BROADCAST_LOGIN == "required" and _wants_page(request)
    if requires_login and not request.user.is_authenticated:
        response: HttpResponse = redirect_to_login(request.get_full_path())
        patch_vary_headers(response, ["Accept"])
        return response
    # A request that did not come through the ASGI application has no scope.
    registry = getattr(request, "scope", {}).get(SCOPE_KEY) or ReplicaRegistry()
    headers = {name.lower(): value for name, value in request.headers.items()}
    method, target = request.method or "", request.get_full_path()
    found = respond(ProcessStatus(registry), method, target, headers)
    body = b"".join(found.body)
    if found.type.startswith("text/html"):
        body = body.replace(b"<title>", MODERATED + b"<title>", 1)
        with suppress(DatabaseError):  # the page is served even so, and shows what it meets
            body = body.replace(ACCOUNTS_MARKER, _account_paragraph(request).encode())
            if request.user.is_authenticated:
                field = format_html(ACCOUNT_FIELD, request.user)
                body = body.replace(NAME_FIELD, field.encode())
    response = HttpResponse(body, status=found.status, content_type=found.type)
    for name, value in found.headers:
        response[name] = value
    return response


def _account_paragraph(request: HttpRequest) -> str:
    """Say who is signed in, or where to sign in: the chat page itself knows no accounts.

    Below a prefix that the site does not know (`transport.prefix`), these pages may be anywhere.
    """
    if request.path_info != "/":
        return ""
    if request.user.is_authenticated:
        words = 'Signed in as {}, which is your name in every room. <a href="{}">Account</a>'
        return format_html(PARAGRAPH, format_html(words, request.user, reverse("tokens")))
    login = f"{reverse('login')}?{urlencode({'next': request.get_full_path()})}"
    words = 'Or <a href="{}">sign in</a> to join under the name of your account.'
    return format_html(PARAGRAPH, format_html(words, login))


def _wants_page(request: HttpRequest) -> bool:
    """Tell whether a browser asks for the page: other programs could not sign in there."""
    html = "text/html" in request.headers.get("Accept", "").lower()
    return html and request.method == "GET" and request.path.endswith("/")
