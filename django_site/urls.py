"""What there is over HTTP: accounts, the admin, and the same answers as in the single file."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path

from broadcast_server.web import answer


class Here:
    """What the answers need to know of this site, which runs from an installation."""

    program: bytes | None = None


def page(request: HttpRequest) -> HttpResponse:
    """Answer a request."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    found = answer(Here(), request.method or "", request.get_full_path(), headers)
    response = HttpResponse(b"".join(found.body), status=found.status, content_type=found.type)
    for name, value in found.headers:
        response[name] = value
    return response


urlpatterns = [
    path("accounts/", include("django_site.accounts.urls")),
    path("admin/", admin.site.urls),
    re_path("", page, name="page"),
]
