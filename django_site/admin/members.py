"""Members: who is in the rooms now, and what a moderator can do to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from broadcast_server.protocol.operators import OperatorRequest
from django_site.accounts.models import Account
from django_site.models import Member
from django_site.moderation import actions
from django_site.store.operators import PERMISSION

from .banned_client import BannedClient, ban_url
from .row_actions import ReadOnlyAdmin, RowAction, moderator, visible


class RoomFilter(admin.SimpleListFilter):
    """A filter for one room, to which the page of the room links."""

    title = "room"
    parameter_name = "in"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the chosen room: there may be thousands."""
        chosen = self.used_parameters.get(self.parameter_name) or ""
        return [(chosen, chosen)] if chosen else [("lobby", "lobby")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Member]) -> QuerySet[Member]:
        """Return the members of the chosen room."""
        return queryset.filter(room__name=self.value()) if self.value() else queryset


def _operate(act: str, *, on: bool = True) -> Callable[..., int]:
    def do(members: Sequence[Member], by: Account, reason: str) -> int:
        count = 0
        for member in members:
            try:
                actions.operate(member.room, by, OperatorRequest(act, member.name, on), reason)
                count += 1
            except ValueError:  # an operator, or somebody who has left
                continue
        return count

    return do


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin[Member]):
    """The members of all rooms, in all processes."""

    row_actions = (
        RowAction(
            "kick",
            "Kick {}",
            "They are disconnected, and cannot come back for ten minutes. Moderators cannot be"
            " kicked.",
            lambda member: True,
            _operate("kick"),
        ),
        RowAction(
            "mute",
            "Mute {}",
            "They can read, and cannot write for a day or until you unmute them. Moderators cannot"
            " be muted.",
            lambda member: not member.muted,
            _operate("mute"),
        ),
        RowAction(
            "unmute",
            "Unmute {}",
            "They can write again.",
            lambda member: member.muted,
            _operate("mute", on=False),
        ),
    )
    list_display = ("shown_name", "room", "state")
    list_filter = (RoomFilter,)
    list_select_related = ("room", "account")
    search_fields = ("name",)
    ordering = ("room__name", "pk")
    sortable_by = ()
    fields = readonly_fields = ("shown_name", "room", "state")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Member]:
        """Return those that are in a room and have a name."""
        found = super().get_queryset(request).filter(end_code=None).exclude(name="")
        return found.select_related("room", "account")

    def may_act(self, request: HttpRequest) -> bool:
        """Tell whether the moderator is an operator."""
        return moderator(request).has_perm(PERMISSION)

    def has_view_permission(self, request: HttpRequest, obj: Member | None = None) -> bool:
        """Who may see a room may see who is in it."""
        return self._has(request, "view_room") or self.may_act(request)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Add the link to ban a member, for moderators with the permission."""
        return (*self.list_display, "ban") if self._has(request, "add_ban") else self.list_display

    def tools(self, request: HttpRequest, row: Member) -> list[tuple[str, str]]:
        """Add the button to ban the member, for moderators with the permission."""
        ban = [(_ban_url(row), f"Ban {row.account or visible(row.name)}…")]
        return super().tools(request, row) + ban * self._has(request, "add_ban")

    def describe(self, row: Member) -> str:
        """Return the room and the name of a member."""
        return f"{row.room.name}, {visible(row.name)}"

    @admin.display(description="name")
    def shown_name(self, member: Member) -> str:
        """The name. That of an account is marked."""
        return f"{visible(member.name)}{'' if member.account is None else ' ✔ account'}"

    @admin.display(description="state")
    def state(self, member: Member) -> str:
        """Whether the member is muted."""
        return "muted" if member.muted else ""

    @admin.display(description="")
    def ban(self, member: Member) -> SafeString:
        """A link to the form to ban the member."""
        return format_html('<a href="{}">ban…</a>', _ban_url(member))


def _ban_url(member: Member) -> str:
    client = BannedClient(member.name, member.session or "", member.origin)
    return ban_url(client, member.account, member.room)
