"""The bans: imposed by a form, lifted before their time, and never edited."""

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

from broadcast_server.names import check_name
from django_site import moderation
from django_site.accounts.models import Account
from django_site.keys import stored_key
from django_site.models import Ban, Room

from .acts import Act, Acting, moderator
from .archive import clock, moments

SPANS = {
    "10 minutes": timedelta(minutes=10),
    "1 hour": timedelta(hours=1),
    "1 day": timedelta(days=1),
    "1 week": timedelta(weeks=1),
    "30 days": timedelta(days=30),
}
UNTIL = "until"

if TYPE_CHECKING:
    _BanForm = forms.ModelForm[Ban]
else:
    _BanForm = forms.ModelForm  # it is generic in its stubs only


class BanForm(_BanForm):
    """Whom to ban, from where, and for how long."""

    name = forms.CharField(
        required=False,
        help_text="Of someone without an account, in any spelling; bob is bob-2 too.",
    )
    account = forms.CharField(required=False, help_text="Its name. Give a name or an account.")
    room = forms.CharField(required=False, help_text="Empty is all rooms.")
    how_long = forms.ChoiceField(choices=[(each, each) for each in (*SPANS, UNTIL)])
    until = moments(required=False, help_text="If it is until a given time.")
    reason = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput({"size": 80}),
        help_text="They are told.",
    )

    class Meta:
        """What of it is the ban's."""

        model = Ban
        fields = ("name", "account", "room", "until", "reason")

    def clean_name(self) -> str:
        """Refuse what is no name, or an account's, which answers for it by itself."""
        name: str = self.cleaned_data["name"]
        if not name:
            return name
        try:
            name = check_name(name)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if Account.objects.filter(key=stored_key(name)).exists():
            raise ValidationError(f"{name} is an account: give it there")
        return name

    def clean_account(self) -> Account | None:
        """Find the account."""
        name: str = self.cleaned_data["account"]
        account = Account.objects.filter(key=stored_key(name)).first() if name else None
        if name and account is None:
            raise ValidationError(f"no account is called {name}")
        return account

    def clean_room(self) -> Room | None:
        """Find the room."""
        name: str = self.cleaned_data["room"]
        room = Room.objects.filter(name=name.lower()).first() if name else None
        if name and room is None:
            raise ValidationError(f"no room is called {name}")
        return room

    def clean(self) -> dict[str, Any]:
        """See that it is of one, and find out when it ends."""
        asked = self.cleaned_data
        both = "name" in asked and "account" in asked  # neither was refused
        if both and bool(asked["name"]) == (asked["account"] is not None):
            self.add_error("name", "give a name or an account, and not both")
        if asked.get("how_long") in SPANS:
            asked["until"] = now() + SPANS[asked["how_long"]]
        elif "until" in asked and (asked["until"] is None or asked["until"] <= now()):
            self.add_error("until", "give a time that is yet to come")
        return asked


def state(ban: Ban) -> str:
    """Say whether a ban is in force."""
    if ban.lifted is not None:
        return "lifted"
    return "active" if ban.until > now() else "over"


class StateFilter(admin.SimpleListFilter):
    """Narrows the list to bans that are in force, over, or lifted."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the states."""
        return [(each, each) for each in ("active", "over", "lifted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ban]) -> QuerySet[Ban]:
        """Find the bans of the state that was chosen."""
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
        moderation.lift(ban, by, reason)
    return len(bans)


@admin.register(Ban)
class BanAdmin(Acting[Ban]):
    """The bans. What was imposed stays in the list, as it was."""

    acts = (
        Act(
            "lift",
            "Lift",
            "Whom it is about may come in again at once.",
            lambda ban: state(ban) == "active",
            _lift,
        ),
    )
    list_display = ("whom", "where", "from_", "to", "state", "reason")
    list_filter = (StateFilter,)
    list_select_related = ("room", "account")
    search_fields = ("name", "account__username", "reason")
    fields = readonly_fields = ("whom", "where", "from_", "to", "state", "reason", "lifted")
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Who may, imposes a ban."""
        return self._has(request, "add_ban")

    def has_view_permission(self, request: HttpRequest, obj: Ban | None = None) -> bool:
        """Who imposes bans may see them."""
        return super().has_view_permission(request, obj) or self.has_add_permission(request)

    def get_form(
        self, request: HttpRequest, obj: Ban | None = None, change: bool = False, **options: Any
    ) -> Any:
        """Ask for a new one by our own form."""
        if obj is None:
            return BanForm
        return super().get_form(request, obj, change=change, **options)

    def get_fields(self, request: HttpRequest, obj: Ban | None = None) -> Any:
        """Ask for more than is kept."""
        asked = ("name", "account", "room", "how_long", "until", "reason")
        return asked if obj is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Ban | None = None) -> Any:
        """Nothing can be edited of one that is there."""
        return () if obj is None else self.fields

    def save_model(self, request: HttpRequest, obj: Ban, form: Any, change: bool) -> None:
        """Impose it."""
        moderation.ban(obj, moderator(request))

    # -- columns --

    @admin.display(description="whom")
    def whom(self, ban: Ban) -> str:
        """The name or the account."""
        return ban.name if ban.account is None else f"{ban.account} ✔ account"

    @admin.display(description="room", empty_value="all rooms")
    def where(self, ban: Ban) -> str | None:
        """In which room."""
        return None if ban.room is None else ban.room.name

    @admin.display(description="from")
    def from_(self, ban: Ban) -> str:
        """Since when."""
        return clock(ban.made)

    @admin.display(description="until")
    def to(self, ban: Ban) -> str:
        """Until when."""
        return clock(ban.until)

    @admin.display(description="state")
    def state(self, ban: Ban) -> str:
        """Whether it is in force."""
        return state(ban)
