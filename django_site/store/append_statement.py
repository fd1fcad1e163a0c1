"""The append statement: PostgreSQL logs a batch in one statement, which is its own transaction.

The row of the room is locked only while PostgreSQL carries it out, and not while it waits for this
process: others that publish in the room come next at once. It takes one round trip instead of five.

It appends if everything is as the process knows it. Otherwise nothing is written, and the caller
finds out under the room's lock what to do, see `publish.append`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, connection

from .message_insert import FROM_JSON, INSERT, NewMessage, json_of

# In a row of the JSON text, `seq` is the number within the batch. A duplicate that is committed
# while this waits for the room violates the constraint.
APPEND = (
    f"WITH new AS (SELECT * {FROM_JSON}),"  # noqa: S608  # of constants, as below
    " room AS (UPDATE django_site_room SET head = head + %s"
    " WHERE id = %s AND epoch = %s AND head >= %s AND roster = %s{unless}"
    " RETURNING id, head - %s AS before, edits, first, acts),"
    f" logged AS ({INSERT}"
    " SELECT id, %s, before + seq, name, text, source, client_id, account_id, origin"
    " FROM room, new)"
    " SELECT before, edits, first, acts FROM room"
)
# LIMIT makes PostgreSQL look each of them up, as it has no statistics of the newest messages.
UNLESS_LOGGED = (
    " AND NOT EXISTS (SELECT 1 FROM new CROSS JOIN LATERAL"
    " (SELECT 1 FROM django_site_message AS old WHERE old.room_id = django_site_room.id"
    " AND old.source = new.source AND old.client_id = new.client_id LIMIT 1) AS found)"
)


def append_at_once(
    room: int,
    at: datetime,
    rows: Sequence[NewMessage],
    *,
    epoch: str,
    head: int,
    roster: int,
    maybe_logged: bool,
) -> tuple[int, int, int, int] | None:
    """Append *rows*, which are numbered from 1.

    Returns the head before them, and the edits, the first number and the acts of the room.

    Returns None, and appends nothing, if *room* has another *epoch*, fewer than *head* messages, or
    another version of its *roster*, or if one of *rows* is in the log already. Without
    *maybe_logged*, none may be.
    """
    statement = APPEND.format(unless=UNLESS_LOGGED if maybe_logged else "")
    count = len(rows)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, (json_of(rows), count, room, epoch, head, roster, count, at))
            found: tuple[int, int, int, int] | None = cursor.fetchone()
    except IntegrityError:
        return None
    return found
