"""Accounts, their groups and tokens in the admin."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    ReadOnlyPasswordHashField,
    SetUnusablePasswordMixin,
    UserChangeForm,
)
from django.contrib.auth.models import Group
from django.http import HttpRequest

from django_site.accounts.models import Account, Token

from .bounded_list import BoundedAdmin

admin.site.unregister(Group)  # which Django has registered, without bounds

# Django calls an account a user. Here are its texts with our word.
SIGN_IN_HELP = (
    "Whether this account can sign in with a password. Without one, it can use the tokens that it"
    " has."
)


class NewAccount(AdminUserCreationForm):  # type: ignore[type-arg]  # as in the stubs
    """The form of a new account. Django's own would normalize the name, which is to stay."""

    usable_password = SetUnusablePasswordMixin.create_usable_password_field(SIGN_IN_HELP)

    class Meta:
        """The model of the form, and the fields that come from it."""

        model = Account
        fields = ("username",)


class ChangedAccount(UserChangeForm):  # type: ignore[type-arg]  # as in the stubs
    """The form of an existing account."""

    password = ReadOnlyPasswordHashField(help_text="The password itself is not stored.")

    class Meta:
        """All fields; `AccountAdmin.fieldsets` chooses from them."""

        model = Account
        fields = "__all__"
        labels: ClassVar = {"user_permissions": "Permissions"}
        help_texts: ClassVar = {
            "is_active": "Whether the account can sign in. Disable it instead of deleting it.",
            "is_staff": "Whether the account can use this administration.",
            "is_superuser": "The account has all permissions, without a list of them.",
            "groups": "The account has the permissions of each of its groups.",
            "user_permissions": "Further permissions of this account.",
        }


class ChangedPassword(AdminPasswordChangeForm):  # type: ignore[type-arg]  # as in the stubs
    """The form with which an administrator sets the password of an account."""

    usable_password_help_text = (
        f'{SIGN_IN_HELP}<ul id="id_unusable_warning" class="messagelist"><li class="warning">'
        "The present password of the account is lost.</li></ul>"
    )


@admin.register(Account)
class AccountAdmin(BoundedAdmin[Account], UserAdmin):  # type: ignore[type-arg]  # as in the stubs
    """The accounts. Deleting one deletes its tokens and bans, but not its messages and records."""

    form = ChangedAccount
    add_form = NewAccount
    change_password_form = ChangedPassword
    add_form_template = "admin/accounts/account/add_form.html"
    change_user_password_template = "admin/accounts/account/change_password.html"  # noqa: S105  # it is no password
    fieldsets = (
        (None, {"fields": ("username", "password", "email")}),
        (
            "Permissions",
            {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")},
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_active", "is_staff", "last_login")
    search_fields = ("username", "email")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Allow to delete an account with its bans, which cannot be deleted separately."""
        listed, counts, lacking, protected = super().get_deleted_objects(objs, request)
        return listed, counts, lacking - {"ban"}, protected


@admin.register(Group)
class BoundedGroupAdmin(BoundedAdmin[Group], GroupAdmin):
    """The groups."""


@admin.register(Token)
class TokenAdmin(BoundedAdmin[Token]):
    """The tokens. Deleting one revokes it. Only their owners create them and see their secrets."""

    list_display = ("label", "account", "made", "used")
    list_select_related = ("account",)
    search_fields = ("label", "account__username")
    fields = readonly_fields = ("label", "account", "made", "used")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tokens cannot be created for other users."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        """Tokens cannot be edited."""
        return False
