"""Export: writes the messages of a room as lines of text or of JSON, a page at a time.

Messages that moderators have hidden are left out. All functions block.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import NamedTuple

from broadcast_server.protocol.codec import encode_json, encode_text
from broadcast_server.protocol.messages import Message
from broadcast_server.protocol.timestamp import rfc3339
from django_site import models

from . import message_log

PAGE_MESSAGES = 500
"""How many messages are read at once."""

TEXT, JSON_LINES = "text", "jsonl"
FORMATS = (TEXT, JSON_LINES)


class Page(NamedTuple):
    """The lines of some messages, and the number after which to read on, None at the end."""

    lines: str
    after: int | None


def first_after(room: models.Room, since: datetime | None) -> int:
    """Return the number before the first message of *room* that is not older than *since*."""
    if since is None:
        return 0
    newer = models.Message.objects.filter(room=room, at__gte=since).order_by("seq")
    first = newer.values_list("seq", flat=True).first()
    return room.head if first is None else first - 1


def read_page(room: int, after: int, format: str, before: datetime | None = None) -> Page:
    """Read the messages that follow number *after*, up to the first that is not before *before*."""
    end = None if before is None else rfc3339(before.astimezone(timezone.utc))
    entries = message_log.read(room, after, PAGE_MESSAGES)
    lines: list[str] = []
    for entry in entries:
        if not isinstance(entry, Message):
            continue
        if end is not None and entry.at >= end:
            return Page("".join(lines), None)
        lines.append(_encode(entry, format))
    return Page("".join(lines), entries[-1].seq if entries else None)


def export(
    room: models.Room,
    format: str,
    since: datetime | None = None,
    before: datetime | None = None,
) -> Iterator[str]:
    """Yield the lines of the messages of *room*, a page at a time."""
    after: int | None = first_after(room, since)
    while after is not None:
        page = read_page(room.pk, after, format, before)
        if page.lines:
            yield page.lines
        after = page.after


def _encode(message: Message, format: str) -> str:
    if format == JSON_LINES:
        return f"{encode_json(message)}\n"
    lines = (encode_text(message) or "").splitlines()
    return "".join(f"{message.at} {line}\n" for line in lines)
