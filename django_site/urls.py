"""What there is over HTTP: accounts, the admin, and the same responses as in the single file."""

from __future__ import annotations

from django.contrib import admin
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from .accounts.views import Logout
from .transport.page import page


def not_found(request: HttpRequest) -> HttpResponse:
    """Respond that there is no such page."""
    raise Http404


urlpatterns = [
    path("accounts/", include("django_site.accounts.urls")),
    # There is one page to sign in, one to sign out and one to change a password, with one throttle
    # and one style.
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/logout/", transaction.atomic(Logout.as_view())),
    path("admin/password_change/", RedirectView.as_view(pattern_name="password_change")),
    path("admin/password_change/done/", RedirectView.as_view(pattern_name="tokens")),
    # The last route takes every path, so nothing else would add this slash.
    path("admin", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/autocomplete/", not_found),  # no form uses it, and it would search any table
    re_path("^admin/r/", not_found),  # no row has a page of its own, and it would look up any table
    path("admin/", admin.site.urls),
    re_path("", page, name="page"),
]
