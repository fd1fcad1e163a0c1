"""Records: what moderators did. They are read-only."""

from __future__ import annotations

from django.contrib import admin

from django_site.models import Record
from django_site.store import message_log

from .archive import clock, short
from .row_actions import ReadOnlyAdmin, visible


@admin.register(Record)
class RecordAdmin(ReadOnlyAdmin[Record]):
    """The records in the admin, with filters by time and action."""

    list_display = ("time", "by_name", "action", "excerpt", "reason")
    list_filter = ("at", "action")
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
