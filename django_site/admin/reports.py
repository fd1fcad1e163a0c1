"""Reports: which messages members have reported, for moderators to deal with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import now

from django_site.accounts.models import Account
from django_site.models import Report
from django_site.moderation import actions
from django_site.store import message_log
from django_site.store.records import record

from .archive import clock, short
from .row_actions import ReadOnlyAdmin, RowAction, moderator, visible


class StateFilter(admin.SimpleListFilter):
    """A filter for reports that nobody has dealt with, which is the default, or all."""

    title = parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices of the filter."""
        return [(each, each) for each in ("open", "done")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Report]) -> QuerySet[Report]:
        """Return the reports of the chosen state."""
        if self.value() in ("open", "done"):
            return queryset.filter(handled__isnull=self.value() == "open")
        return queryset


def _hide(reports: Sequence[Report], by: Account, reason: str) -> int:
    actions.hide([each.message for each in reports], by, reason)
    return _handle(reports)


def _dismiss(reports: Sequence[Report], by: Account, reason: str) -> int:
    for each in reports:
        about = f"{each.message.room.name} {each.message.seq}, reported by {each.by}"
        record(by, "dismiss", about, reason)
    return _handle(reports)


def _handle(reports: Sequence[Report]) -> int:
    keys = [each.pk for each in reports]
    return Report.objects.filter(pk__in=keys).update(handled=now())


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin[Report]):
    """The reports. They are deleted with their messages."""

    row_actions = (
        RowAction(
            "hide",
            "Hide the messages of {}",
            "The reported messages are hidden.",
            lambda report: report.handled is None,
            _hide,
        ),
        RowAction(
            "dismiss",
            "Dismiss {}",
            "The reports are done, and the messages stay.",
            lambda report: report.handled is None,
            _dismiss,
        ),
    )
    list_display = ("time", "room", "author", "excerpt", "reason_given", "by", "state")
    list_filter = (StateFilter,)
    list_select_related = ("message__room", "message__account")
    search_fields = ("by", "reason", "message__name")
    sortable_by = ()
    fields = readonly_fields = ("time", "room", "author", "excerpt", "reason_given", "by", "state")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Report]:
        """Return the reports with their messages."""
        return super().get_queryset(request).select_related("message__room", "message__account")

    def may_act(self, request: HttpRequest) -> bool:
        """Tell whether the moderator may hide messages."""
        return moderator(request).has_perm("django_site.change_message")

    def has_view_permission(self, request: HttpRequest, obj: Report | None = None) -> bool:
        """Whoever may see the archive may see what was reported."""
        may_see: bool = moderator(request).has_perm("django_site.view_message")
        return may_see or self.may_act(request)

    def describe(self, row: Report) -> str:
        """Return the beginning of the reported message."""
        return f"{row.message.room.name}, {visible(row.message.name)}: {short(row.message.text)}"

    @admin.display(description="time")
    def time(self, report: Report) -> str:
        """When it was reported."""
        return clock(report.at)

    @admin.display(description="room")
    def room(self, report: Report) -> SafeString:
        """The room, with a link to the message and what was written around it."""
        url = reverse("admin:django_site_message_change", args=(report.message_id,))
        seq = report.message.seq
        return format_html('<a href="{}">{} {}</a>', url, report.message.room.name, seq)

    @admin.display(description="name")
    def author(self, report: Report) -> str:
        """The author of the message."""
        return visible(report.message.name)

    @admin.display(description="text")
    def excerpt(self, report: Report) -> SafeString:
        """The text, shortened to one line."""
        return format_html('<span class="excerpt">{}</span>', short(report.message.text))

    @admin.display(description="reason")
    def reason_given(self, report: Report) -> str:
        """Why it was reported."""
        return visible(message_log.unescape_nul(report.reason))

    @admin.display(description="state")
    def state(self, report: Report) -> str:
        """Whether a moderator has dealt with it."""
        return "open" if report.handled is None else "done"
