"""The authentication backend: every check of an account's password is throttled here.

A form may change what was typed before it gets here, for instance remove white space. Here, the
name is the one by which the account is looked up, so nobody gets more attempts by spelling it
differently.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from . import login_throttle
from .models import Account


class ThrottledBackend(ModelBackend):
    """Django's backend, with the login throttle. It raises `Throttled`."""

    @sensitive_variables()
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **options: Any,
    ) -> Account | None:
        """Return the account with this name and password, None if there is none."""
        if username is None or password is None:
            return None
        subject = login_throttle.password_of(username)
        address = "" if request is None else login_throttle.address_of(request)
        login_throttle.record_attempt(subject, address)
        account = super().authenticate(request, username, password, **options)
        if account is None:
            return None
        login_throttle.clear_failures(subject, address)
        assert isinstance(account, Account)  # noqa: S101  # for the type checker
        return account

    async def aauthenticate(self, *args: Any, **options: Any) -> Account | None:
        """Do the same. Django's own would not be throttled."""
        return await sync_to_async(self.authenticate)(*args, **options)


@sensitive_variables()
def check_password(request: HttpRequest, account: Account, password: str) -> bool:
    """Tell whether *password* is that of *account*, which is signed in. Raises `Throttled`."""
    subject = login_throttle.password_of(account.username)
    address = login_throttle.address_of(request)
    login_throttle.record_attempt(subject, address)
    right = account.check_password(password)
    if right:
        login_throttle.clear_failures(subject, address)
    return right
