"""The log in the database: the truth of every room.

Numbers are taken under the lock of the room's row, in the transaction that
inserts what they number, so that the order of commits is the order of numbers.
Every function here blocks, and is called in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from django.db import transaction

from broadcast_server.protocol import Hidden, Message, Numbered

from . import models

UNNAMED = "~"
"""Begins the source of what came without an id: it has one of ours, which is not shown."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What someone said, without a number yet."""

    name: str
    text: str
    source: str
    client_id: str
    account: int | None = None


def stored(text: str) -> str:
    """Return *text* as a column can hold it: PostgreSQL takes no NUL."""
    return text.replace("\x10", "\x10p").replace("\0", "\x10n")


def shown(stored: str) -> str:
    """Return a column's text as it was said."""
    return stored.replace("\x10n", "\0").replace("\x10p", "\x10")


@dataclass(frozen=True, slots=True)
class State:
    """How a room is: its log's last number, its roster's version, and its edits' count."""

    head: int
    roster: int
    edits: int


def open_room(name: str) -> models.Room:
    """Find a room, or make it."""
    room, _ = models.Room.objects.get_or_create(name=name)
    return room


def state_of(room: int) -> State:
    """Look how one room is. Raises `models.Room.DoesNotExist`."""
    return State(*models.Room.objects.values_list("head", "roster", "edits").get(pk=room))


def state(rooms: Sequence[int]) -> dict[int, State]:
    """Look how rooms are, by their keys."""
    rows = models.Room.objects.filter(pk__in=rooms).values_list("pk", "head", "roster", "edits")
    return {pk: State(*state) for pk, *state in rows}


@dataclass(frozen=True, slots=True)
class Logged:
    """The number of a draft, and whether the log held it before: a repeat."""

    seq: int
    before: bool


def append(room: int, drafts: Sequence[Draft]) -> list[Logged]:
    """Log *drafts* in one transaction, each once, and return their numbers."""
    logged: list[Logged] = []
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        held = {
            (source, client_id): seq
            for source, client_id, seq in models.Message.objects.filter(
                room=row,
                source__in={draft.source for draft in drafts},
                client_id__in={stored(draft.client_id) for draft in drafts},
            ).values_list("source", "client_id", "seq")
        }
        now = datetime.now(timezone.utc)
        rows: list[models.Message] = []
        for draft in drafts:
            key = draft.source, stored(draft.client_id)
            if key in held:
                logged.append(Logged(held[key], before=True))
                continue
            row.head += 1
            held[key] = row.head
            logged.append(Logged(row.head, before=False))
            rows.append(
                models.Message(
                    room=row,
                    seq=row.head,
                    name=draft.name,
                    text=stored(draft.text),
                    at=now,
                    source=draft.source,
                    client_id=key[1],
                    account_id=draft.account,
                )
            )
        if rows:
            models.Message.objects.bulk_create(rows)
            row.save(update_fields=["head"])
    return logged


def read(room: int, after: int, most: int) -> list[Numbered]:
    """Return up to *most* messages after number *after*, hidden ones as that."""
    rows = models.Message.objects.filter(room=room, seq__gt=after).order_by("seq")
    return [
        _hidden(row)
        if row.edit is not None
        else Message(
            row.seq,
            row.name,
            shown(row.text),
            row.at.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z",
            _shown_id(row),
        )
        for row in rows[:most]
    ]


def hidden(room: int, after: int, upto: int) -> list[Hidden]:
    """Return what was hidden by the edits after number *after* and up to *upto*."""
    rows = models.Message.objects.filter(room=room, edit__gt=after, edit__lte=upto)
    return [_hidden(row) for row in rows.order_by("edit", "seq")]


def _hidden(row: models.Message) -> Hidden:
    return Hidden(row.seq, _shown_id(row))


def _shown_id(row: models.Message) -> str | None:
    return None if row.source.startswith(UNNAMED) else shown(row.client_id)
