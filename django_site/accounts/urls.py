"""The URLs of the account pages."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.urls import URLPattern, URLResolver, path

from . import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("login/", views.Login.as_view(), name="login"),
    # In one transaction: otherwise a connection that is closed could reconnect before the session
    # has ended.
    path("logout/", transaction.atomic(views.Logout.as_view()), name="logout"),
    path("password/", views.Password.as_view(), name="password_change"),
    path("tokens/", views.Tokens.as_view(), name="tokens"),
    path("tokens/<int:token>/revoke/", views.Revoke.as_view(), name="token_revoke"),
]
if settings.MAIL:
    urlpatterns += [
        path("reset/", views.Reset.as_view(), name="password_reset"),
        path(
            "reset/<uidb64>/<token>/", views.ResetConfirm.as_view(), name="password_reset_confirm"
        ),
    ]
