"""The message log: every message of every room, in the database.

A message gets its number in the transaction that inserts it, while the row of its room is locked,
so the order of commits is the order of numbers. All functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from functools import lru_cache

from django.conf import settings
from django.db import IntegrityError, connection
from django.db.models import Max, QuerySet
from django.db.models.functions import Length

from broadcast_server.protocol.bounds import MAX_TEXT_BYTES
from broadcast_server.protocol.messages import LogEntry, Message, MessageHidden, fit_text
from broadcast_server.protocol.names import MAX_NAME_CHARS
from broadcast_server.protocol.timestamp import rfc3339
from django_site import models

from . import append_statement
from .damage import DamagedRow, check_messages, check_room, finds_damage
from .message_insert import NewMessage, insert
from .private_database import check_in_place

MAX_READ_BYTES = 8 * 2**20
"""How many bytes of messages are read at once, if each is as long as it may be."""

MAX_SEQ = 2**63 - 1
"""The greatest number that a column has room for."""

MAX_STORED_CHARS = 2 * MAX_TEXT_BYTES
"""How many characters the longest text has as it is stored, see `escape_nul`."""

NO_ID_PREFIX = "~"
"""Begins the source of a message that came without an id. The server made up an id for it, which
is never sent to clients."""

STATE_COLUMNS = "head", "roster", "edits", "first", "acts"
"""The columns of a room that make its state, see `RoomState`."""

STATE = (
    f"SELECT {', '.join(STATE_COLUMNS)} FROM django_site_room"  # noqa: S608  # constants
    " WHERE id = %s AND (%s IS NULL OR epoch = %s) AND head >= %s"
)
"""It takes 90 us of CPU instead of 430 with Django's query."""

READ = (
    "SELECT seq, name, substr(text, 1, %s), {at}, source, client_id, edit"
    " FROM django_site_message WHERE room_id = %s AND seq > %s AND seq <= %s"
    " ORDER BY seq LIMIT %s"
)
"""To read a message with it takes 2 us of CPU instead of 14 with Django's query (of 120)."""

AS_TEXT = {
    "postgresql": """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')""",
    "sqlite": "at || ''",  # as it is stored, see `_sqlite_rfc3339`
}


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that is not in the log yet, and has no number.

    *source* is the scope in which *client_id* is unique: the digest of a session, or a connection.
    *account* is the key of the author's account, None for a guest. *connection_id* is the author's
    connection on the roster, None if the author is not a member. *origin* stands for the author's
    address, see `store.origins`.
    """

    name: str
    text: str
    source: str
    client_id: str
    account: int | None = None
    connection_id: str | None = None
    origin: str | None = None


def escape_nul(text: str) -> str:
    """Return *text* as it is stored: PostgreSQL accepts no NUL in a text column."""
    return text.replace("\x10", "\x10p").replace("\0", "\x10n")


def unescape_nul(stored: str) -> str:
    """Return the original of a stored text."""
    return stored.replace("\x10n", "\0").replace("\x10p", "\x10")


@dataclass(frozen=True, slots=True)
class RoomState:
    """The counters of a room, which show a replica whether there is something new to read.

    *head* is the number of the last message, *roster* the version of the roster, *edits* the count
    of the times that messages were hidden, *first* the number of the first message that was not
    deleted, and *acts* the count of what operators did.
    """

    head: int
    roster: int
    edits: int
    first: int = 1
    acts: int = 0

    def is_ahead_of(self, other: RoomState) -> bool:
        """Tell whether this state has something that a room in state *other* does not have yet."""
        return any(new > old for new, old in zip(astuple(self), astuple(other), strict=True))


@finds_damage
def open_room(name: str) -> models.Room:
    """Return the room called *name*, and create it if there is none. Raises `DamagedRow`."""
    room, _ = models.Room.objects.get_or_create(name=name)
    check_row(room)
    return room


def check_row(room: models.Room) -> None:
    """Raise `DamagedRow` if a counter of *room* is none."""
    check_room(room.name, STATE_COLUMNS, (getattr(room, column) for column in STATE_COLUMNS))


def room_state(room: int, epoch: str | None = None, head: int = 0) -> RoomState:
    """Read the state of one room. Raises `models.Room.DoesNotExist`.

    With *epoch*, also if the room has another one by now, or fewer than *head* messages.
    """
    with connection.cursor() as cursor:
        cursor.execute(STATE, (room, epoch, epoch, head))
        row = cursor.fetchone()
    if row is None:
        raise models.Room.DoesNotExist
    check_room(f"number {room}", STATE_COLUMNS, row)
    return RoomState(*row)


def rooms_of(epoch: str | None, head: int) -> QuerySet[models.Room]:
    """Return the rooms with *epoch* and at least *head* messages; all of them if it is None."""
    rooms = models.Room.objects.all()
    return rooms if epoch is None else rooms.filter(epoch=epoch, head__gte=head)


def room_states(rooms: Sequence[int]) -> dict[int, RoomState]:
    """Read the states of *rooms*, by their keys. A deleted room is missing in the result."""
    rows = models.Room.objects.filter(pk__in=rooms).values_list("pk", *STATE_COLUMNS)
    return {pk: RoomState(*state) for pk, *state in rows}


@dataclass(frozen=True, slots=True)
class Logged:
    """The number of a message. *repeated* is whether it was in the log before."""

    seq: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of `append`.

    *logged* has an item for each message that was passed in, *messages* are those of them that
    are new in the log, and *state* is the state of the room after them.
    """

    logged: list[Logged]
    messages: list[Message]
    state: RoomState


def find_logged(
    room: int, pending: Sequence[PendingMessage], *, unsure: bool
) -> dict[tuple[str, str], int]:
    """Find those of *pending* that are in the log. Returns their numbers by `key_of`.

    A message without an id of its client is looked up only if *unsure*: if it may be in the log
    because the answer to an earlier commit was lost. Otherwise that would add a fifth to the time
    that everything else takes.
    """
    pending = [each for each in pending if unsure or each.source[0] != NO_ID_PREFIX]
    if not pending:
        return {}
    rows = models.Message.objects.filter(
        room=room,
        source__in={each.source for each in pending},
        client_id__in={escape_nul(each.client_id) for each in pending},
    )
    return {(row[0], row[1]): row[2] for row in rows.values_list("source", "client_id", "seq")}


def key_of(message: PendingMessage) -> tuple[str, str]:
    """Return the source and the stored id, which identify *message* in the log of its room."""
    return message.source, escape_nul(message.client_id)


def name_at(room: int, seq: int) -> str:
    """Return the author's name of message number *seq*."""
    name: str = models.Message.objects.values_list("name", flat=True).get(room=room, seq=seq)
    return name


def append_at_once(
    room: int, pending: Sequence[PendingMessage], *, epoch: str, head: int, roster: int
) -> Appended | None:
    """Log *pending* without locking the row of *room*, as PostgreSQL can: see `append_statement`.

    Returns None if that was not possible. Then nothing was logged.
    """
    now = datetime.now(timezone.utc)
    rows = [
        NewMessage(seq, each.name, escape_nul(each.text), *key_of(each), each.account, each.origin)
        for seq, each in enumerate(pending, 1)
    ]
    if len({(row.source, row.client_id) for row in rows}) < len(rows):
        return None
    found = append_statement.append_at_once(
        room,
        now,
        rows,
        epoch=epoch,
        head=head,
        roster=roster,
        maybe_logged=any(each.source[0] != NO_ID_PREFIX for each in pending),
    )
    if found is None:
        return None
    before, edits, first, acts = found
    at = rfc3339(now)
    messages = [
        Message(seq, each.name, each.text, at, _own_id(each))
        for seq, each in enumerate(pending, before + 1)
    ]
    logged = [Logged(message.seq, repeated=False) for message in messages]
    return Appended(logged, messages, RoomState(before + len(rows), roster, edits, first, acts))


def append(
    row: models.Room, pending: Sequence[PendingMessage], known: Mapping[tuple[str, str], int]
) -> Appended:
    """Log *pending*, each message once.

    *row* is the room, which the caller's transaction has locked. *known* is what `find_logged`
    has found of *pending* in that transaction.
    """
    logged: list[Logged] = []
    messages: list[Message] = []
    rows: list[NewMessage] = []
    numbers = dict(known)
    now = datetime.now(timezone.utc)
    at = rfc3339(now)
    for each in pending:
        key = key_of(each)
        if key in numbers:
            logged.append(Logged(numbers[key], repeated=True))
            continue
        row.head += 1
        numbers[key] = row.head
        logged.append(Logged(row.head, repeated=False))
        messages.append(Message(row.head, each.name, each.text, at, _own_id(each)))
        text = escape_nul(each.text)
        rows.append(NewMessage(row.head, each.name, text, *key, each.account, each.origin))
    if rows:
        check_in_place(connection)
        try:
            insert(row.pk, now, rows)
        except IntegrityError:  # nobody else gives numbers while the room is locked
            raise DamagedRow(f"a number of room {row.name} after its head is in use") from None
    return Appended(
        logged, messages, RoomState(row.head, row.roster, row.edits, row.first, row.acts)
    )


@finds_damage
def read(room: int, after: int, limit: int, upto: int | None = None) -> list[LogEntry]:
    """Return up to *limit* entries after number *after*, hidden messages as `MessageHidden`.

    With *upto*, the last of them is number *upto*. There are fewer if messages may be so long that
    as many would take more than `MAX_READ_BYTES`. What no frame has room for, because another
    program has written it, is replaced by a note.
    """
    limit = max(1, min(limit, MAX_READ_BYTES // settings.BROADCAST_MAX_MESSAGE_BYTES))
    statement = READ.format(at=AS_TEXT[connection.vendor])
    # The database cuts what is too long, so that it does not fill the memory of this process.
    values = (MAX_STORED_CHARS + 1, room, after, MAX_SEQ if upto is None else upto, limit)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()
    check_messages(room, rows)
    return [
        Message(
            seq,
            name[:MAX_NAME_CHARS],
            _read_text(room, seq, text),
            at if at[-1] == "Z" else _sqlite_rfc3339(at),
            _client_id(source, id),
        )
        if edit is None
        else MessageHidden(seq, _client_id(source, id))
        for seq, name, text, at, source, id, edit in rows
    ]


@lru_cache(maxsize=64)
def _sqlite_rfc3339(text: str) -> str:
    """Return *text*, which is a time as Django stores it, in the format of the wire."""
    try:
        return rfc3339(datetime.fromisoformat(text).replace(tzinfo=timezone.utc))
    except (ValueError, OverflowError):
        raise DamagedRow("the time of a message is not one") from None


def _read_text(room: int, seq: int, stored: str) -> str:
    if len(stored) <= MAX_STORED_CHARS:
        return fit_text(unescape_nul(stored))
    message = models.Message.objects.filter(room=room, seq=seq)
    size = message.aggregate(size=Max(Length("text")))["size"]
    return f"(message of {size} characters is not shown, the limit is {MAX_TEXT_BYTES} bytes)"


def read_hidden(room: int, after: int, upto: int) -> list[MessageHidden]:
    """Return the messages that were hidden after edit number *after*, up to number *upto*."""
    hidden = models.Message.objects.filter(room=room, edit__gt=after, edit__lte=upto)
    rows = hidden.order_by("edit", "seq").values_list("seq", "source", "client_id")
    return [MessageHidden(seq, _client_id(source, id)) for seq, source, id in rows]


def _own_id(message: PendingMessage) -> str | None:
    """Return the id that the client gave *message*."""
    return None if message.source[0] == NO_ID_PREFIX else message.client_id


def _client_id(source: str, stored: str) -> str | None:
    return None if source.startswith(NO_ID_PREFIX) else unescape_nul(stored)
