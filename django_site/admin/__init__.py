"""The admin: the pages on which moderators search the archive, hide messages and ban clients.

Here are the pages and their permissions. `moderation.actions` does what they offer.
"""

from __future__ import annotations

from django.contrib import admin

from . import accounts, archive, bans, members, records, reports, rooms

__all__ = ["accounts", "archive", "bans", "members", "records", "reports", "rooms"]

admin.site.site_header = admin.site.site_title = "Broadcast Server"
admin.site.index_title = "Moderation"
