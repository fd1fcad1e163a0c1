"""The records: what moderators did, to be read and never to be changed."""

from __future__ import annotations

from django.contrib import admin

from django_site import log
from django_site.models import Record

from .acts import Acting, harmless
from .archive import clock, short


@admin.register(Record)
class RecordAdmin(Acting[Record]):
    """What moderators did."""

    list_display = ("time", "by_name", "action", "about", "reason")
    list_filter = ("at", "action")
    search_fields = ("subject", "by_name", "reason")
    show_full_result_count = False
    sortable_by = ()
    fields = readonly_fields = ("time", "by_name", "action", "whole", "reason")

    @admin.display(description="time")
    def time(self, record: Record) -> str:
        """When it was done."""
        return clock(record.at)

    @admin.display(description="subject")
    def about(self, record: Record) -> str:
        """To what, shortened."""
        return short(record.subject)

    @admin.display(description="subject")
    def whole(self, record: Record) -> str:
        """To what."""
        return "\n".join(harmless(line) for line in log.shown(record.subject).splitlines())
