"""The export of a room's messages in the admin, as a file that is sent a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.http import HttpResponseBase, StreamingHttpResponse

from django_site.models import Room
from django_site.store import export

FILES = {export.TEXT: ("txt", "text/plain"), export.JSON_LINES: ("ndjson", "application/x-ndjson")}
"""The ending and the type of a file in each format."""


def export_response(room: Room, format: str) -> HttpResponseBase:
    """Return the messages of *room* as a file. No more than a page of it is in memory."""
    ending, kind = FILES[format]
    response = StreamingHttpResponse(_pages(room, format), content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{room.name}.{ending}"'
    return response


async def _pages(room: Room, format: str) -> AsyncIterator[str]:
    after: int | None = 0
    while after is not None:
        page = await sync_to_async(export.read_page)(room.pk, after, format)
        if page.lines:
            yield page.lines
        after = page.after
