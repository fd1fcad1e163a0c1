"""Rooms: who is in them now, and whether they are open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from broadcast_server.protocol.operators import MAX_SLOW_S, MAX_TOPIC_CHARS, OperatorRequest
from django_site.accounts.models import Account
from django_site.models import Member, Room
from django_site.moderation import actions
from django_site.store import retention
from django_site.store.export import FORMATS, JSON_LINES, TEXT
from django_site.store.records import record

from .room_export import export_response
from .row_actions import ReadOnlyAdmin, ReasonForm, RowAction, moderator, visible

MAX_SHOWN_MEMBERS = 500
"""How many names of a room's members are shown."""


def _for_each(action: Callable[..., None]) -> Callable[..., int]:
    def act_on_all(rooms: Sequence[Room], by: Account, **values: Any) -> int:
        for room in rooms:
            action(room, by, **values)
        return len(rooms)

    return act_on_all


def _operate(act: str, *, on: bool = True) -> Callable[..., None]:
    def do(room: Room, by: Account, reason: str, text: str = "") -> None:
        actions.operate(room, by, OperatorRequest(act, on=on, text=text), reason)

    return do


class TopicForm(ReasonForm):
    """The form that asks for a topic."""

    text = forms.CharField(
        label="topic",
        required=False,
        max_length=MAX_TOPIC_CHARS,
        widget=forms.TextInput({"size": 80}),
        help_text="Leave it empty to remove the topic.",
    )
    field_order = ("text", "reason")


class SlowForm(ReasonForm):
    """The form that asks for the time between two messages."""

    seconds = forms.IntegerField(
        min_value=0, max_value=MAX_SLOW_S, help_text="Between two messages of a member; 0 is none."
    )
    field_order = ("seconds", "reason")


class KeepForm(ReasonForm):
    """The form that asks how long messages are kept."""

    days = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=retention.MAX_KEEP_DAYS,
        help_text="0 is for ever. Leave it empty for as long as the site has it.",
    )
    field_order = ("days", "reason")


class StateFilter(admin.SimpleListFilter):
    """A filter for open or closed rooms."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [(each, each) for each in ("open", "closed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Room]) -> QuerySet[Room]:
        """Return the rooms of the chosen state."""
        match self.value():
            case "open":
                return queryset.filter(closed=None)
            case "closed":
                return queryset.exclude(closed=None)
        return queryset


@admin.register(Room)
class RoomAdmin(ReadOnlyAdmin[Room]):
    """The rooms. A room is created when a client joins it, and cannot be deleted here.

    Deleting a room would delete its epoch and its log. Clients would reconnect with cursors of a
    log that is gone, and keep messages that were neither hidden nor recorded.
    """

    row_actions = (
        RowAction(
            "close",
            "Close {}",
            "Everyone in the room is disconnected, and nobody can join it until you open it again."
            " Clients are told the reason.",
            lambda room: room.closed is None,
            _for_each(actions.close_room),
        ),
        RowAction(
            "reopen",
            "Open {} again",
            "Clients can join the room again.",
            lambda room: room.closed is not None,
            _for_each(actions.reopen_room),
        ),
        RowAction(
            "lock",
            "Lock {}",
            "Nobody new can join, subscribe or publish. Who is there stays, and can come back.",
            lambda room: not room.locked,
            _for_each(_operate("lock", on=True)),
        ),
        RowAction(
            "unlock",
            "Unlock {}",
            "Everyone can join again.",
            lambda room: room.locked,
            _for_each(_operate("lock", on=False)),
        ),
        RowAction(
            "announce",
            "Make {} read-only",
            "Announce mode: only moderators can write, until you end it.",
            lambda room: not room.announce,
            _for_each(_operate("announce", on=True)),
        ),
        RowAction(
            "end_announce",
            "Let everyone write in {}",
            "Announce mode ends.",
            lambda room: room.announce,
            _for_each(_operate("announce", on=False)),
        ),
        RowAction(
            "topic",
            "Set the topic of {}",
            "Everyone in the room sees the topic.",
            lambda room: True,
            _for_each(_operate("topic")),
            TopicForm,
        ),
        RowAction(
            "slow",
            "Set slow mode in {}",
            "Each member can publish one message in this time. Moderators are not limited.",
            lambda room: True,
            _for_each(actions.set_slow),
            SlowForm,
        ),
        RowAction(
            "keep",
            "Set how long messages of {} are kept",
            "Messages that are older are deleted within ten minutes, and cannot be restored.",
            lambda room: True,
            _for_each(actions.keep_messages),
            KeepForm,
        ),
    )
    list_display = ("name", "messages", "here", "state")
    list_filter = (StateFilter,)
    search_fields = ("name",)
    ordering = ("name",)
    fields = readonly_fields = (
        "name",
        "messages",
        "kept",
        "topic",
        "state",
        "closed",
        "closed_why",
        "members",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        """Return the rooms with the count of their members."""
        members = (
            Member.objects.filter(room=OuterRef("pk"), end_code=None).exclude(name="").order_by()
        )
        count = members.values("room").annotate(count=Count("pk")).values("count")
        return super().get_queryset(request).annotate(here=Coalesce(Subquery(count), 0))

    def tools(self, request: HttpRequest, row: Room) -> list[tuple[str, str]]:
        """Add the buttons to export the messages, for moderators who may see them."""
        exports = [
            (reverse("admin:django_site_room_export", args=(row.pk, each)), f"Export as {label}")
            for each, label in ((TEXT, "text"), (JSON_LINES, "JSON lines"))
        ]
        return super().tools(request, row) + exports * self._may_export(request)

    def _may_export(self, request: HttpRequest) -> bool:
        return self._has(request, "view_room") and moderator(request).has_perm(
            "django_site.view_message"
        )

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of exports."""
        view = self.admin_site.admin_view(self._export)
        page = path("<int:key>/export/<str:format>/", view, name="django_site_room_export")
        return [page, *super().get_urls()]

    def _export(self, request: HttpRequest, key: int, format: str) -> HttpResponseBase:
        if not self._may_export(request):
            raise PermissionDenied
        room = Room.objects.filter(pk=key).first()
        if room is None or format not in FORMATS:
            raise Http404
        record(moderator(request), "export", f"room {room.name} as {format}")
        return export_response(room, format)

    @admin.display(ordering="here", description="members now")
    def here(self, room: Any) -> int:
        """The count of members, in all processes."""
        return int(room.here)

    @admin.display(ordering="head", description="messages")
    def messages(self, room: Room) -> SafeString:
        """The count of messages, with a link to them."""
        url = reverse("admin:django_site_message_changelist")
        query = urlencode({"room": room.name})
        return format_html('<a href="{}?{}">{}</a>', url, query, room.head - room.first + 1)

    @admin.display(description="state")
    def state(self, room: Room) -> str:
        """What moderators have set in the room."""
        found = {
            "closed": room.closed is not None,
            "locked": room.locked,
            "read-only": room.announce,
            f"slow: {room.slow} s": room.slow > 0,
        }
        return ", ".join(state for state, is_so in found.items() if is_so) or "open"

    @admin.display(description="kept")
    def kept(self, room: Room) -> str:
        """How long messages are kept."""
        days = settings.BROADCAST_KEEP_DAYS if room.keep_days is None else room.keep_days
        return f"{days} days" if days else "for ever"

    @admin.display(description="members now")
    def members(self, room: Any) -> SafeString:
        """The names of the members. A verified name is marked."""
        present = room.members.filter(end_code=None).exclude(name="").select_related("account")
        names = format_html_join(
            ", ",
            "{}{}",
            (
                (visible(member.name), " ✔" if member.account is not None else "")
                for member in present[:MAX_SHOWN_MEMBERS]
            ),
        )
        rest = room.here - MAX_SHOWN_MEMBERS
        more = f" and {rest} more" if rest > 0 else ""
        url = f"{reverse('admin:django_site_member_changelist')}?{urlencode({'in': room.name})}"
        shown = format_html("{}: {}{}", room.here, names, more)
        return format_html('{} <a href="{}">kick, mute or ban…</a>', shown, url)
