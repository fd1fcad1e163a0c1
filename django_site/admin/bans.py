"""Bans: a moderator imposes one with a form and can lift it early. Nobody can edit one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.timezone import now

from broadcast_server.protocol.names import validate_name
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key
from django_site.models import Ban, Room
from django_site.moderation import actions
from django_site.store.origins import parse_network
from django_site.store.senders import by_banned

from .archive import clock, time_field
from .banned_client import client_from
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
    """The form to ban an account or a guest, in one room or in all, until a time.

    A guest is banned by any of its name, session and address, each of which is a ban of its own:
    `targets` are what is banned. The form knows session and address from the link of a message or
    a member (see `banned_client`).
    """

    name = forms.CharField(
        required=False,
        help_text="The name of a guest, in any spelling. A ban of bob also bans bob-2, but not the"
        " other way round.",
    )
    account = forms.CharField(required=False, help_text="Enter a name or an account, not both.")
    network = forms.CharField(
        required=False,
        help_text="An address such as 192.0.2.7 or a network such as 192.0.2.0/24 or 2001:db8::/48,"
        " for guests only.",
    )
    client = forms.CharField(required=False, widget=forms.HiddenInput())
    by_session = forms.BooleanField(
        label="session",
        required=False,
        help_text="The browser or program that the guest uses, under any name.",
    )
    by_address = forms.BooleanField(
        label="address",
        required=False,
        help_text="Every guest at the same address, which others may share.",
    )
    room = forms.CharField(required=False, help_text="Leave empty for all rooms.")
    how_long = forms.ChoiceField(choices=[(each, each) for each in (*DURATIONS, UNTIL)])
    until = time_field(required=False, help_text="Only if you choose “until” above.")
    reason = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput({"size": 80}),
        help_text="The banned client is told the reason.",
    )
    hide = forms.BooleanField(
        label="hide everything",
        required=False,
        help_text="Everything that they have published is hidden, in this room or in all.",
    )
    targets: Sequence[dict[str, Any]] = ()

    class Meta:
        """The model of the form, and the fields that come from it."""

        model = Ban
        fields = ("name", "account", "network", "room", "until", "reason")

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

    def clean_network(self) -> str:
        """Return the network as it is stored, empty if there is none."""
        text: str = self.cleaned_data["network"]
        try:
            return str(parse_network(text)) if text else ""
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        """Find out what is banned, and set the end of the ban."""
        values = self.cleaned_data
        if {"name", "account", "network"} <= values.keys():
            self._set_targets(values)
        if values.get("how_long") in DURATIONS:
            values["until"] = now() + DURATIONS[values["how_long"]]
        elif "until" in values and (values["until"] is None or values["until"] <= now()):
            self.add_error("until", "enter a time in the future")
        elif "until" in values and values["until"] > now() + timedelta(days=366 * MAX_YEARS):
            self.add_error("until", f"enter a time within {MAX_YEARS} years")
        return values

    def _set_targets(self, values: dict[str, Any]) -> None:
        client = client_from(values.get("client", ""))
        targets: list[dict[str, Any]] = [
            {key: values[key]} for key in ("account", "name", "network") if values[key]
        ]
        if values["account"] is not None and len(targets) > 1:
            self.add_error("name", "enter a name or an account, not both")
        for key in ("session", "origin"):
            if not values["by_session" if key == "session" else "by_address"]:
                continue
            if client is None or not getattr(client, key):
                self.add_error(None, f"the {LABELS[key]} of this client is not known")
            else:
                targets.append({key: getattr(client, key), "label": client.name})
        if not targets:
            self.add_error("name", "enter a name or an account, or a network")
        self.targets = targets
        first = targets[0] if targets else {}
        for key in ("name", "account", "network"):
            values[key] = first.get(key, None if key == "account" else "")
        for key in ("session", "origin", "label"):
            setattr(self.instance, key, first.get(key, ""))
        if values["hide"] and values["network"]:
            self._check_network(values["network"])

    def _check_network(self, network: str) -> None:
        try:
            by_banned(Ban(network=network))
        except ValueError as error:
            self.add_error("hide", str(error))


LABELS = {"session": "session", "origin": "address"}
"""What moderators call the fields of a ban."""


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
    search_fields = ("name", "label", "network", "account__username", "reason")
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
        if obj is not None:
            return self.fields
        known = client_from(request.POST.get("client", request.GET.get("client", "")))
        of_client = ("by_session",) * bool(known and known.session)
        of_client += ("by_address",) * bool(known and known.origin)
        hide = ("hide",) * self._may_hide(request)
        target = ("name", "account", "network", "client", *of_client)
        return (*target, "room", "how_long", "until", "reason", *hide)

    def _may_hide(self, request: HttpRequest) -> bool:
        return moderator(request).has_perm("django_site.change_message")

    def get_readonly_fields(self, request: HttpRequest, obj: Ban | None = None) -> Any:
        """An existing ban is read-only."""
        return () if obj is None else self.fields

    def save_model(self, request: HttpRequest, obj: Ban, form: Any, change: bool) -> None:
        """Impose a ban of each target, record them, and hide messages after the commit."""
        by = moderator(request)
        common = {"room": obj.room, "until": obj.until, "reason": obj.reason}
        bans = [obj, *(Ban(**common, **target) for target in form.targets[1:])]
        for ban in bans:
            actions.impose_ban(ban, by)
        if form.cleaned_data["hide"] and self._may_hide(request):
            matching = reduce(or_, map(by_banned, bans))
            # Not in this transaction, which would keep rooms locked for as long as it takes.
            transaction.on_commit(lambda: self._hide(request, matching, obj.reason))

    def _hide(self, request: HttpRequest, matching: Q, reason: str) -> None:
        count = actions.hide_all(matching, moderator(request), reason)
        self.message_user(request, f"hide: {count} messages", messages.SUCCESS)

    # -- columns --

    @admin.display(description="banned")
    def target(self, ban: Ban) -> str:
        """The banned account, or what guests are banned by."""
        return ban.target if ban.account is None else f"{ban.account} ✔ account"

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
