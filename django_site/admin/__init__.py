"""The admin: where moderators look into the archive, and act on what they find.

What an act does is `moderation`'s matter; here is who may do it, and on which page.
"""

from __future__ import annotations

from django.contrib import admin

from . import archive, bans, records, rooms

__all__ = ["archive", "bans", "records", "rooms"]

admin.site.site_header = admin.site.site_title = "Broadcast Server"
admin.site.index_title = "Moderation"
