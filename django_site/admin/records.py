"""Records: what moderators did. They are read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest

from django_site.models import Record
from django_site.store import message_log

from .archive import clock, short
from .damaged_rows import is_damage
from .row_actions import ReadOnlyAdmin, visible


class ActionFilter(admin.SimpleListFilter):
    """A filter for one of the actions that there are, none if one of them cannot be read."""

    title = parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the actions."""
        rows = Record.objects.order_by("action").values_list("action", flat=True).distinct()
        try:
            return [(each, each) for each in rows if isinstance(each, str)]
        except OperationalError as error:
            if not is_damage(error):
                raise
            return []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Record]) -> QuerySet[Record]:
        """Return the records of the chosen action."""
        return queryset if self.value() is None else queryset.filter(action=self.value())


@admin.register(Record)
class RecordAdmin(ReadOnlyAdmin[Record]):
    """The records in the admin, with filters by time and action."""

    list_display = ("time", "by_name", "action", "excerpt", "reason")
    list_filter = ("at", ActionFilter)
    search_fields = ("subject", "by_name", "reason")
    sortable_by = ()
    fields = readonly_fields = ("time", "by_name", "action", "full_text", "reason")

    @admin.display(description="time")
    def time(self, record: Record) -> str:
        """When the action was done."""
        return clock(record.at)

    @admin.display(description="subject")
    def excerpt(self, record: Record) -> str:
        """What the action was done to, shortened to one line."""
        return short(record.subject)

    @admin.display(description="subject")
    def full_text(self, record: Record) -> str:
        """What the action was done to, all of it."""
        return "\n".join(
            visible(line) for line in message_log.unescape_nul(record.subject).splitlines()
        )
