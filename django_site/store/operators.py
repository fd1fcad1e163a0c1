"""Operators: the accounts that may kick, mute, lock, announce and set the topic in every room.

What the archive or the list of bans keeps needs the same permission as in the admin, besides.
"""

from __future__ import annotations

from django_site.accounts.models import Account

PERMISSION = "django_site.change_room"
"""The permission of moderators that makes an account an operator."""


NEEDED = {
    "hide": ("django_site.change_message", "change messages"),
    "ban": ("django_site.add_ban", "add bans"),
}
"""What acts need besides, and how an error calls it."""


def missing_permission(account: Account, act: str) -> str:
    """Return what *account* may not do and would have to for *act*, empty if it may."""
    permission, what = NEEDED.get(act, ("", ""))
    return "" if not permission or account.has_perm(permission) else what


def is_operator(account: Account | None) -> bool:
    """Tell whether *account* is an operator. It blocks if the account's permissions are unknown."""
    return account is not None and account.has_perm(PERMISSION)


def find_operators(accounts: set[int]) -> set[int]:
    """Return those of *accounts*, by their keys, that are operators now. It blocks."""
    found = Account.objects.filter(pk__in=accounts) if accounts else ()
    return {account.pk for account in found if is_operator(account)}
