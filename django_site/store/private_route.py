"""The route of a private message: from which member it is, and where its recipient is connected.

The database decides it at the moment at which the message is sent, as for a message that is
published: what one process remembers of the others may be a second old. The text is not stored.
All functions block: call them in a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q

from broadcast_server.protocol.messages import Error, not_here
from broadcast_server.rooms.room_control import MUTED
from django_site import models
from django_site.accounts.name_key import stored_key

from . import rejections


@dataclass(frozen=True, slots=True)
class PrivateRoute:
    """A private message is from the member *name* to the member *to*.

    The latter is connected to *process* as *connection_id*.
    """

    name: str
    to: str
    process: str
    connection_id: str


def find_route(room: int, sender_id: str, to: str) -> PrivateRoute | Error:
    """Return the route of a private message in *room* to the member that is called *to*.

    *sender_id* is the connection of the sender. Returns an error if the sender may not send, or
    nobody has the name. This is the one place that decides who may send a private message in the
    Django deployment. A member that was banned, removed or replaced has no row here any more.
    """
    members = models.Member.objects.filter(room=room, end_code=None).exclude(name="")
    found = list(members.filter(Q(token=sender_id) | Q(key=stored_key(to))))
    sender = next((each for each in found if each.token == sender_id), None)
    if sender is None:
        return rejections.PROCESS_LOST.error
    if sender.muted:
        return MUTED
    recipient = next((each for each in found if each.key == stored_key(to)), None)
    if recipient is None:
        return not_here(to, None)
    return PrivateRoute(sender.name, recipient.name, recipient.process_id, recipient.token)
