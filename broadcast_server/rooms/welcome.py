"""The welcome: what a client is told of the room that it has just entered. Pure."""

from __future__ import annotations

from broadcast_server.protocol.messages import Members, Welcome

from .message_log import LogExtent
from .participant import Participant
from .room_mode import RoomMode


def welcome(
    participant: Participant,
    room: str,
    members: Members,
    log: LogExtent,
    mode: RoomMode,
    *,
    missed: int | None,
) -> Welcome:
    """Return the welcome of *participant*, whose replay begins after its resume position.

    *missed* messages between its cursor and that position are no longer in the log. What is as
    usual, such as a room that nobody has locked, is None and not told.
    """
    return Welcome(
        room=room,
        name=participant.name,
        epoch=log.epoch,
        seq=log.head,
        recovered=missed == 0,
        missed=missed,
        count=members.count,
        members=members.members,
        verified=members.verified,
        operator=participant.join.operator or None,
        topic=mode.topic or None,
        locked=mode.locked or None,
        announce=mode.announce or None,
        muted=participant.is_muted or None,
        slow=mode.slow or None,
    )
