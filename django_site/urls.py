"""What there is over HTTP: accounts, the admin, and the same answers as in the single file."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.utils.cache import patch_vary_headers
from django.views.generic import RedirectView

from broadcast_server.web import answer

from .accounts.views import Logout
from .nodes import of_process


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
    response = HttpResponse(b"".join(found.body), status=found.status, content_type=found.type)
    for name, value in found.headers:
        response[name] = value
    return response


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
