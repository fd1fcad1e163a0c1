"""The accounts in the admin: who may sign in, and which programs of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.http import HttpRequest

from .models import Account, Token

if TYPE_CHECKING:
    _TokenAdmin = admin.ModelAdmin[Token]
else:
    _TokenAdmin = admin.ModelAdmin  # it is generic in its stubs only


class NewAccount(AdminUserCreationForm):  # type: ignore[type-arg]  # as in the stubs
    """A new account. Its name stays as it is spelled, which Django's own field would change."""

    class Meta:
        """What of it is the account's."""

        model = Account
        fields = ("username",)


class ChangedAccount(UserChangeForm):  # type: ignore[type-arg]  # as in the stubs
    """An account that is there, with the same rules."""

    class Meta:
        """All of it; which of that is shown is said below."""

        model = Account
        fields = "__all__"


@admin.register(Account)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]  # as in the stubs
    """The accounts. With one go its tokens and bans, and not what it said or did."""

    form = ChangedAccount
    add_form = NewAccount
    fieldsets = (
        (None, {"fields": ("username", "password", "email")}),
        (
            "May",
            {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")},
        ),
        ("When", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_active", "is_staff", "last_login")
    search_fields = ("username", "email")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Let an account go with its bans, which nobody may delete on their own."""
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, lacking - {"ban"}, protected


@admin.register(Token)
class TokenAdmin(_TokenAdmin):
    """The tokens: listed and revoked, by deleting them; made and seen by their owners only."""

    list_display = ("label", "account", "made", "used")
    list_select_related = ("account",)
    search_fields = ("label", "account__username")
    fields = readonly_fields = ("label", "account", "made", "used")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody makes one for another."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Nobody edits one."""
        return False
