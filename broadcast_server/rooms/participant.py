"""The participant: one connection, as the room sees it."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass

from broadcast_server.protocol.join import JoinRequest


@dataclass(slots=True, eq=False)
class Participant:
    """A member or a subscriber of a room.

    *join* is what the client asked for. *id_scope* is the namespace of the ids of its messages: its
    session, or a random token if it has no session. *address* stands for that of its client (see
    `client_key`), and is empty for the local machine. The room sets all other fields, except that
    in the Django deployment the database decides the name before `Room.connect`.
    """

    join: JoinRequest
    id_scope: str
    name: str = ""  # empty for a subscriber
    member_id: int = 0  # 0 for a subscriber; a session takeover keeps the id
    after_seq: int = 0  # the resume position: it is sent every message with a higher number
    faults: int = 0  # in a row
    quiet: bool = False  # its join was quiet; a session takeover keeps that
    address: str = ""
    is_muted: bool = False  # by an operator
    joined_at: float = 0.0  # on the clock of the room's restrictions; a takeover keeps it


_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()


def new_id_scope() -> str:
    """Return an id scope for a participant without a session, which is new in any process.

    It is no secret, so it is not random by itself. That would take 1 us more of a join.
    """
    return f"#{_PROCESS}-{next(_numbers)}"
