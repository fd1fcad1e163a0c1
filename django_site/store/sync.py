"""Synchronising: everything that one replica of a room writes to the database and reads from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broadcast_server.protocol.messages import Error, LogEntry, MessageHidden, Renamed
from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.protocol.rejection import Rejection
from django_site import models

from . import epochs, message_log, operating, presence, publish
from .damage import finds_damage
from .message_log import Appended, PendingMessage, RoomState
from .operating import LoggedAct, OperateAttempt
from .presence import Leaving, Present, RenameAttempt
from .publish import Outcome

MAX_READ_MESSAGES = 1000
"""How many messages are read at once."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What became of what was written, and what is new in the room.

    *present* is None if the roster is as it was known. *removed* says why members of this
    process have to be closed, by the ids of their connections.
    """

    outcomes: Sequence[Outcome]
    renamed: Sequence[Renamed | Error]
    operated: Sequence[OperatorEvent | Error | None]
    state: RoomState
    messages: Sequence[LogEntry]
    hidden: Sequence[MessageHidden]
    acts: Sequence[LoggedAct]
    present: tuple[Present, ...] | None
    removed: dict[str, Rejection]


@finds_damage
def sync(
    room: int,
    process: str,
    known: RoomState,
    *,
    epoch: str,
    names: Mapping[str, str],
    messages: Sequence[PendingMessage],
    renames: Sequence[RenameAttempt],
    operations: Sequence[OperateAttempt] = (),
    is_open: bool = True,
    leaving: Sequence[Leaving],
    maybe_logged: bool,
) -> SyncResult:
    """Write what a replica has for *room*, and read what it does not know yet. It blocks.

    *known* is what the replica knows of the room, whose log has *epoch*. *names* are the names of
    the authors of *messages* that are members then, by the ids of their connections. *process* is
    the process that the replica is in, and *is_open* whether it knows of nothing that keeps one of
    the authors from publishing. *operations* are what operators ask for. *leaving* are
    connections to take off the roster. *maybe_logged* is whether some of *messages* may be in the
    log already, because the answer to an earlier commit was lost.

    Raises `models.Room.DoesNotExist` if the room was deleted, has another epoch by now, or was set
    back: then it gets another epoch. Raises `DamagedRow`.
    """
    renamed = presence.rename(room, renames) if renames else []
    operated = operating.operate(room, operations) if operations else []
    appended: Appended | None = None
    outcomes: Sequence[Outcome] = ()
    try:
        if messages:
            appended, outcomes = publish.append(
                room,
                messages,
                unsure=maybe_logged,
                epoch=epoch,
                head=known.head,
                roster=known.roster,
                names=names,
                is_open=is_open,
            )
        if leaving:
            presence.leave(room, leaving)
        state = (
            message_log.room_state(room, epoch, known.head)
            if leaving or appended is None
            else appended.state
        )
    except models.Room.DoesNotExist:
        epochs.end_if_set_back(room, epoch, known.head)
        raise
    new = _read_new(room, known.head, state.head, appended.messages if appended else ())
    if state.head > known.head and (not new or new[0].seq != known.head + 1):
        # What comes next was deleted before this process has read it: clients have to come back.
        raise models.Room.DoesNotExist
    hidden: list[MessageHidden] = []
    if state.edits > known.edits:
        hidden = message_log.read_hidden(room, known.edits, state.edits)
    acts = operating.read_acts(room, known.acts, state.acts) if state.acts > known.acts else []
    present, removed = None, {}
    if state.roster != known.roster:
        present = presence.read_present(room)
        removed = presence.read_removed(room, process)
    return SyncResult(outcomes, renamed, operated, state, new, hidden, acts, present, removed)


def _read_new(room: int, head: int, upto: int, own: Sequence[LogEntry]) -> Sequence[LogEntry]:
    """Return what was logged after number *head*, where *own* is what was logged just now.

    That is not read back. When two processes publish, it is half of what is new.
    """
    if upto <= head:
        return ()
    # Not beyond the state: who was removed before a message must not receive it, and is missing on
    # the roster that is read after this only if the state shows that it has changed.
    end = own[0].seq - 1 if own else upto
    others = message_log.read(room, head, MAX_READ_MESSAGES, upto=end) if end > head else []
    if own and (others[-1].seq if others else head) != end:  # over a chunk, or rows were deleted
        return message_log.read(room, head, MAX_READ_MESSAGES, upto=upto)
    return [*others, *own]
