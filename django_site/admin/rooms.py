"""The rooms: who is in them now, and whether anyone may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from django_site import moderation
from django_site.accounts.models import Account
from django_site.models import Member, Room

from .acts import Act, Acting, harmless

MEMBERS = 500
"""So many names of those who are in a room are shown."""


def _each(do: Callable[[Room, Account, str], None]) -> Callable[..., int]:
    def do_all(rooms: Sequence[Room], by: Account, reason: str) -> int:
        for room in rooms:
            do(room, by, reason)
        return len(rooms)

    return do_all


class StateFilter(admin.SimpleListFilter):
    """Narrows the list to rooms that are open, or closed."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the states."""
        return [(each, each) for each in ("open", "closed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Room]) -> QuerySet[Room]:
        """Find the rooms of the state that was chosen."""
        match self.value():
            case "open":
                return queryset.filter(closed=None)
            case "closed":
                return queryset.exclude(closed=None)
        return queryset


@admin.register(Room)
class RoomAdmin(Acting[Room]):
    """The rooms. Whoever comes makes one; none is deleted here.

    With its row would go its epoch, its log and its numbers: clients would come back with
    cursors of another log, and what they had was neither hidden nor on record.
    """

    acts = (
        Act(
            "close",
            "Close",
            "Everyone in it is sent away, and nobody comes in until it is open again."
            " They are told the reason.",
            lambda room: room.closed is None,
            _each(moderation.close),
        ),
        Act(
            "reopen",
            "Open again",
            "Whoever wants to may come in again.",
            lambda room: room.closed is not None,
            _each(moderation.reopen),
        ),
    )
    list_display = ("name", "messages", "here", "closed", "closed_why")
    list_filter = (StateFilter,)
    search_fields = ("name",)
    ordering = ("name",)
    show_full_result_count = False
    fields = readonly_fields = ("name", "messages", "closed", "closed_why", "members")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        """Find rooms, with how many are in each."""
        members = (
            Member.objects.filter(room=OuterRef("pk"), end_code=None).exclude(name="").order_by()
        )
        count = members.values("room").annotate(count=Count("pk")).values("count")
        return super().get_queryset(request).annotate(here=Coalesce(Subquery(count), 0))

    @admin.display(ordering="here", description="members now")
    def here(self, room: Any) -> int:
        """How many are in it, in all processes."""
        return int(room.here)

    @admin.display(ordering="head", description="messages")
    def messages(self, room: Room) -> SafeString:
        """How many messages it has, with a way to them."""
        url = reverse("admin:django_site_message_changelist")
        query = urlencode({"room": room.name})
        return format_html('<a href="{}?{}">{}</a>', url, query, room.head)

    @admin.display(description="members now")
    def members(self, room: Any) -> SafeString:
        """Who is in it."""
        here = (
            room.members.filter(end_code=None).exclude(name="").select_related("account")[:MEMBERS]
        )
        names = format_html_join(
            ", ",
            "{}{}",
            ((harmless(each.name), " ✔" if each.account is not None else "") for each in here),
        )
        more = f" and {room.here - MEMBERS} more" if room.here > MEMBERS else ""
        return format_html("{}: {}{}", room.here, names, more)
