"""Bans: a moderator imposes one with a form and can lift it early. Nobody can edit one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.timezone import now

from broadcast_server.protocol.names import validate_name
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key
from django_site.models import Ban, Room
from django_site.moderation import actions

from .archive import clock, time_field
from .row_actions import ReadOnlyAdmin, RowAction, moderator

DURATIONS = {
    "10 minutes": timedelta(minutes=10),
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "1 week": timedelta(weeks=1),
    "30 days": timedelta(days=30),
}
MAX_YEARS = 10
"""How far ahead a given time may be: a date at the end of the calendar has no time in other time
zones."""

UNTIL = "until"
"""The choice of a given time instead of a duration."""

if TYPE_CHECKING:
    _BanForm = forms.ModelForm[Ban]
else:
    _BanForm = forms.ModelForm  # the class is generic in its type stubs only


class BanForm(_BanForm):
    """The form to ban a name or an account, in one room or in all, until a time."""

    name = forms.CharField(
        required=False,
        help_text="The name of a guest, in any spelling. A ban of bob also bans bob-2, but not the"
        " other way round.",
    )
    account = forms.CharField(required=False, help_text="Enter a name or an account, not both.")
    room = forms.CharField(required=False, help_text="Leave empty for all rooms.")
    how_long = forms.ChoiceField(choices=[(each, each) for each in (*DURATIONS, UNTIL)])
    until = time_field(required=False, help_text="Only if you choose “until” above.")
    reason = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput({"size": 80}),
        help_text="The banned client is told the reason.",
    )

    class Meta:
        """The model of the form, and the fields that come from it."""

        model = Ban
        fields = ("name", "account", "room", "until", "reason")

    def clean_name(self) -> str:
        """Reject an invalid name, and the name of an account, which is banned as an account."""
        name: str = self.cleaned_data["name"]
        if not name:
            return name
        try:
            name = validate_name(name)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if Account.objects.filter(key=stored_key(name)).exists():
            raise ValidationError(f"{name} is an account: enter it in the field for accounts")
        return name

    def clean_account(self) -> Account | None:
        """Return the account that was entered."""
        name: str = self.cleaned_data["account"]
        account = Account.objects.find(name) if name else None
        if name and account is None:
            raise ValidationError(f"there is no account called {name}")
        return account

    def clean_room(self) -> Room | None:
        """Return the room that was entered."""
        name: str = self.cleaned_data["room"]
        room = Room.objects.filter(name=name.lower()).first() if name else None
        if name and room is None:
            raise ValidationError(f"there is no room called {name}")
        return room

    def clean(self) -> dict[str, Any]:
        """Check that there is either a name or an account, and set the end of the ban."""
        values = self.cleaned_data
        both_valid = "name" in values and "account" in values
        if both_valid and bool(values["name"]) == (values["account"] is not None):
            self.add_error("name", "enter a name or an account, not both")
        if values.get("how_long") in DURATIONS:
            values["until"] = now() + DURATIONS[values["how_long"]]
        elif "until" in values and (values["until"] is None or values["until"] <= now()):
            self.add_error("until", "enter a time in the future")
        elif "until" in values and values["until"] > now() + timedelta(days=366 * MAX_YEARS):
            self.add_error("until", f"enter a time within {MAX_YEARS} years")
        return values


def state(ban: Ban) -> str:
    """Return the state of a ban: active, over (its time has passed) or lifted."""
    if ban.lifted is not None:
        return "lifted"
    return "active" if ban.until > now() else "over"


class StateFilter(admin.SimpleListFilter):
    """A filter for active, over or lifted bans."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [(each, each) for each in ("active", "over", "lifted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ban]) -> QuerySet[Ban]:
        """Return the bans of the chosen state."""
        match self.value():
            case "active":
                return queryset.filter(lifted=None, until__gt=now())
            case "over":
                return queryset.filter(lifted=None, until__lte=now())
            case "lifted":
                return queryset.exclude(lifted=None)
        return queryset


def _lift(bans: Sequence[Ban], by: Account, reason: str) -> int:
    for ban in bans:
        actions.lift_ban(ban, by, reason)
    return len(bans)


@admin.register(Ban)
class BanAdmin(ReadOnlyAdmin[Ban]):
    """The bans. A ban stays in the list when it is over or lifted."""

    row_actions = (
        RowAction(
            "lift",
            "Lift {}",
            "The banned client may join again at once.",
            lambda ban: state(ban) == "active",
            _lift,
        ),
    )
    list_display = ("target", "where", "from_", "to", "state", "reason")
    list_filter = (StateFilter,)
    list_select_related = ("room", "account")
    search_fields = ("name", "account__username", "reason")
    fields = readonly_fields = ("target", "where", "from_", "to", "state", "reason", "lifted")
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A moderator with the permission may add a ban, but not edit one."""
        return self._has(request, "add_ban")

    def has_view_permission(self, request: HttpRequest, obj: Ban | None = None) -> bool:
        """A moderator that may add bans may also see them."""
        return super().has_view_permission(request, obj) or self.has_add_permission(request)

    def get_form(
        self, request: HttpRequest, obj: Ban | None = None, change: bool = False, **options: Any
    ) -> Any:
        """Use `BanForm` for a new ban."""
        if obj is None:
            return BanForm
        return super().get_form(request, obj, change=change, **options)

    def get_fields(self, request: HttpRequest, obj: Ban | None = None) -> Any:
        """Show the fields of `BanForm` for a new ban."""
        form_fields = ("name", "account", "room", "how_long", "until", "reason")
        return form_fields if obj is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Ban | None = None) -> Any:
        """An existing ban is read-only."""
        return () if obj is None else self.fields

    def save_model(self, request: HttpRequest, obj: Ban, form: Any, change: bool) -> None:
        """Impose the ban, and record it."""
        actions.impose_ban(obj, moderator(request))

    # -- columns --

    @admin.display(description="name or account")
    def target(self, ban: Ban) -> str:
        """The banned name or account."""
        return ban.name if ban.account is None else f"{ban.account} ✔ account"

    @admin.display(description="room", empty_value="all rooms")
    def where(self, ban: Ban) -> str | None:
        """The room in which the ban applies."""
        return None if ban.room is None else ban.room.name

    @admin.display(description="from")
    def from_(self, ban: Ban) -> str:
        """When the ban was imposed."""
        return clock(ban.made)

    @admin.display(description="until")
    def to(self, ban: Ban) -> str:
        """When the ban ends."""
        return clock(ban.until)

    @admin.display(description="state")
    def state(self, ban: Ban) -> str:
        """Whether the ban is active, over or lifted."""
        return state(ban)
