"""Renames: gives a member another name, and says who is told of it."""

from __future__ import annotations

from broadcast_server.protocol.messages import Error, Renamed

from .actions import Action, Send
from .name_table import NameTable
from .participant import Participant
from .room_control import RoomControl


def rename(
    names: NameTable, control: RoomControl, member: Participant, name: str, id: str | None
) -> list[Action]:
    """Rename *member* to *name*, which is valid, or with the next free suffix.

    *id* is that of its request. *names* and *control* are those of the room.
    """
    if name == member.name:
        return [Send(member, Renamed(name, name))]
    old_name = member.name
    held = None if member.join.operator else control.check_name(name, names.next_free)
    if held is not None:
        return [Send(member, Error(held.code, held.text, id))]
    names.release(old_name)  # so that the member can have it in another spelling
    member.name = names.next_free(name)
    names.add(member)
    control.renamed(member, old_name)
    # With the next free suffix, the new name can be the old one. That concerns nobody else.
    to = member if member.name == old_name else None
    return [Send(to, Renamed(old_name, member.name))]
