"""Private messages: from one member to one other. Pure; the caller hands them over."""

from __future__ import annotations

from broadcast_server.protocol.messages import Error, PrivateRequest, not_here
from broadcast_server.protocol.names import validate_name

from .actions import Action, RoutePrivate, Send, SendPrivate
from .name_table import NameTable
from .participant import Participant
from .room_control import MUTED


def send_private(names: NameTable | None, member: Participant, request: PrivateRequest) -> Action:
    """Return what to do about a private message of *member*.

    *names* are those of the room; without them, the members are in several processes. A muted
    member sends none. Announce mode does not matter, since the room is not disturbed.
    """
    if member.is_muted:
        return Send(member, Error(MUTED.code, MUTED.text, request.id))
    try:
        name = validate_name(request.to)
    except ValueError as error:
        return Send(member, Error("bad_name", str(error), request.id))
    if names is None:
        return RoutePrivate(member, name, request.text, request.id)
    recipient = names.owner(name)
    if recipient is None:
        return Send(member, not_here(name, request.id))
    return SendPrivate(member, recipient, request.text, request.id)
