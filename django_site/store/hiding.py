"""Hiding: what an operator takes out of the log of a room. All functions block.

`broadcast_server.rooms.hiding` does the same for the standalone server.
"""

from __future__ import annotations

from broadcast_server.protocol.operators import OperatorRequest
from broadcast_server.rooms.hiding import RECENT_MESSAGES
from django_site import models

from .senders import by_author_of, last_message


def hide(room: models.Room, request: OperatorRequest) -> OperatorRequest | None:
    """Hide what *request* asks for in *room*, which is locked: a message, or the last of an author.

    Returns *request* with the name of the author and the count of messages that were not hidden
    before, None if there is nothing to hide.
    """
    if request.seq:
        message = models.Message.objects.filter(room=room, seq=request.seq).first()
    else:
        message = last_message(room, request.name)
    if message is None:
        return None
    rows = models.Message.objects.filter(room=room, edit=None)
    if request.seq:
        rows = rows.filter(seq=request.seq)
    else:
        rows = rows.filter(by_author_of(message), seq__gt=room.head - RECENT_MESSAGES)
    # One edit for all: replicas read by its number what was hidden.
    count = rows.update(edit=room.edits + 1)
    if count:
        room.edits += 1
        room.save(update_fields=["edits"])
    return request._replace(name=message.name, messages=count)
