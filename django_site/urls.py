"""What there is over HTTP: accounts, the admin, and the same answers as in the single file."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path, reverse
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html
from django.views.generic import RedirectView

from broadcast_server.web import answer

from .accounts.views import Logout
from .nodes import of_process

ACCOUNTS = b"<!-- accounts -->"
"""Where the chat page has room for a paragraph about accounts."""

PARAGRAPH = '<p class="soft">{}</p>'


class Here:
    """What the answers need to know of this process, which runs from an installation."""

    program: bytes | None = None

    @property
    def accepting(self) -> bool:
        """Whether who comes may come in."""
        return of_process().accepting

    def figures(self) -> str:
        """Write what was counted, for Prometheus."""
        return of_process().figures()


def page(request: HttpRequest) -> HttpResponse:
    """Answer a request; where guests may not come in, a browser signs in first."""
    login = settings.BROADCAST_LOGIN == "required" and _looks(request)
    if login and not request.user.is_authenticated:
        response: HttpResponse = redirect_to_login(request.get_full_path())
        patch_vary_headers(response, ["Accept"])
        return response
    headers = {name.lower(): value for name, value in request.headers.items()}
    found = answer(Here(), request.method or "", request.get_full_path(), headers)
    body = b"".join(found.body)
    if found.type.startswith("text/html"):
        with suppress(DatabaseError):  # the page comes even so, and says what it meets
            body = body.replace(ACCOUNTS, _account(request).encode())
    response = HttpResponse(body, status=found.status, content_type=found.type)
    for name, value in found.headers:
        response[name] = value
    return response


def _account(request: HttpRequest) -> str:
    """Say who is signed in, or where one can: the chat page knows nothing of accounts."""
    if request.user.is_authenticated:
        words = 'Signed in as {}, which is your name in every room. <a href="{}">Account</a>'
        return format_html(PARAGRAPH, format_html(words, request.user, reverse("tokens")))
    login = f"{reverse('login')}?{urlencode({'next': request.get_full_path()})}"
    words = 'Or <a href="{}">sign in</a>, to be here under the name of your account.'
    return format_html(PARAGRAPH, format_html(words, login))


def _looks(request: HttpRequest) -> bool:
    """Tell whether it is a browser that wants the page: other programs could not sign in there."""
    html = "text/html" in request.headers.get("Accept", "").lower()
    return html and request.method == "GET" and request.path.endswith("/")


urlpatterns = [
    path("accounts/", include("django_site.accounts.urls")),
    # There is one way in and one way out, with one brake and one look.
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/logout/", transaction.atomic(Logout.as_view())),
    # What follows takes every path, so that nothing else would put this slash.
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    re_path("", page, name="page"),
]
