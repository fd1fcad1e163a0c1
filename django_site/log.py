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


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of drafts: their numbers, those that are new as messages, and the room then."""

    logged: list[Logged]
    messages: list[Message]
    state: State


def held(room: int, drafts: Sequence[Draft], *, unsure: bool) -> dict[tuple[str, str], int]:
    """Find what the log has of *drafts*: numbers, by source and stored id."""
    return _held(room, [each for each in drafts if unsure or each.source[0] != UNNAMED])


def key_of(draft: Draft) -> tuple[str, str]:
    """Return by what the log knows *draft*."""
    return draft.source, stored(draft.client_id)


def name_at(room: int, seq: int) -> str:
    """Return under which name number *seq* was said."""
    name: str = models.Message.objects.values_list("name", flat=True).get(room=room, seq=seq)
    return name


def append(room: int, drafts: Sequence[Draft], *, unsure: bool) -> Appended:
    """Log *drafts* in one transaction, each once.

    *unsure* is whether one without an id of its own may have been logged before: not the
    first time, and to look for them takes a fifth of the time that all else does.
    """
    logged: list[Logged] = []
    messages: list[Message] = []
    rows: list[models.Message] = []
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        known = held(room, drafts, unsure=unsure)
        now = datetime.now(timezone.utc)
        at = _at(now)
        for draft in drafts:
            key = key_of(draft)
            if key in known:
                logged.append(Logged(known[key], before=True))
                continue
            row.head += 1
            known[key] = row.head
            logged.append(Logged(row.head, before=False))
            id = None if draft.source[0] == UNNAMED else draft.client_id
            messages.append(Message(row.head, draft.name, draft.text, at, id))
            rows.append(
                models.Message(
                    room_id=room,
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
            models.Room.objects.filter(pk=room).update(head=row.head)
    return Appended(logged, messages, State(row.head, row.roster, row.edits))


def _held(room: int, drafts: Sequence[Draft]) -> dict[tuple[str, str], int]:
    """Find what the log has of *drafts*: numbers, by source and stored id."""
    if not drafts:
        return {}
    rows = models.Message.objects.filter(
        room=room,
        source__in={draft.source for draft in drafts},
        client_id__in={stored(draft.client_id) for draft in drafts},
    )
    return {(row[0], row[1]): row[2] for row in rows.values_list("source", "client_id", "seq")}


def read(room: int, after: int, most: int) -> list[Numbered]:
    """Return up to *most* messages after number *after*, hidden ones as that."""
    rows = models.Message.objects.filter(room=room, seq__gt=after).order_by("seq")
    columns = "seq", "name", "text", "at", "source", "client_id", "edit"
    return [
        Message(seq, name, shown(text), _at(at), _shown_id(source, id))
        if edit is None
        else Hidden(seq, _shown_id(source, id))
        for seq, name, text, at, source, id, edit in rows.values_list(*columns)[:most]
    ]


def _at(when: datetime) -> str:
    return when.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


def hidden(room: int, after: int, upto: int) -> list[Hidden]:
    """Return what was hidden by the edits after number *after* and up to *upto*."""
    rows = models.Message.objects.filter(room=room, edit__gt=after, edit__lte=upto)
    found = rows.order_by("edit", "seq").values_list("seq", "source", "client_id")
    return [Hidden(seq, _shown_id(source, id)) for seq, source, id in found]


def _shown_id(source: str, id: str) -> str | None:
    return None if source[0] == UNNAMED else shown(id)
