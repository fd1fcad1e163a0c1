"""The replicated roster: who is in a room, in this process and in others.

It is a replica of the roster in the database, and owns the `Room` of this process. Pure, as the
room: its caller passes what it has read from the database, and gets the actions that tell the
participants of this process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from broadcast_server.protocol.messages import Joined, Left, Members, Renamed
from broadcast_server.protocol.names import name_key, with_suffix
from broadcast_server.protocol.rejection import REPLACED, Rejection
from broadcast_server.rooms.actions import Action, Send
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room
from broadcast_server.rooms.room_control import KICKED
from django_site.store import rejections
from django_site.store.presence import Present
from django_site.store.rejections import Rejected


class ReadPosition:
    """How far this process has read the log, which is all that a room needs to know of it."""

    def __init__(self, epoch: str, head: int, first: int = 1) -> None:
        self.epoch = epoch
        self.head = head
        self.first = first

    def seq_of(self, id_scope: str, id: str | None) -> int | None:
        """Return None: only the database knows."""
        return None


class ReplicatedRoster:
    """The replica of a room's roster, which gives the members of `room` their names.

    `room` knows only the connections of this process.
    """

    def __init__(self, name: str, position: ReadPosition, max_message_bytes: int) -> None:
        self.room = Room(name, position, max_message_bytes, roster=self)
        self.participants: dict[str, Participant] = {}
        """The participants of this process, by the ids of their connections."""
        self._present: dict[int, Present] = {}  # as the members were told, by row
        self._names: dict[str, str] = {}  # of the members, by the ids of their connections
        self._subscriber_ids: set[str] = set()  # in all processes
        self.has_muted = False
        """Whether a member is muted, in any process."""

    # -- the roster of the room --

    def __len__(self) -> int:
        """Count the members in all processes."""
        return len(self._present)

    def names(self, limit: int) -> tuple[str, ...]:
        """Return the names of the first *limit* members."""
        return tuple(each.name for each in itertools.islice(self._present.values(), limit))

    def verified_names(self, limit: int) -> tuple[str, ...] | None:
        """Return those of the same names that belong to accounts, None if none does."""
        first = itertools.islice(self._present.values(), limit)
        return tuple(each.name for each in first if each.verified) or None

    def list_members(self) -> Members:
        """Return the answer to `/who` as it is now."""
        return self.room.list_members()

    def acknowledge_duplicate(self, author: Participant, id: str, seq: int) -> list[Action]:
        """Return the answer to a message that is in the log already, as `Room` does."""
        return self.room.acknowledge_duplicate(author, id, seq)

    def names_of(self, connection_ids: Iterable[str | None]) -> dict[str, str]:
        """Return the names of those of these connections that are members, by their ids."""
        names = self._names
        return {id: names[id] for id in connection_ids if id is not None and id in names}

    def member(self, connection_id: str) -> Participant | None:
        """Return the member of this process that has a connection, None if there is none."""
        participant = self.participants.get(connection_id)
        return participant if participant is not None and participant in self.room else None

    # -- what the database says --

    def check(self, participant: Participant, connection_id: str) -> None:
        """Check that *participant*, which was put on the roster, is still there.

        Raises `Rejected`.
        """
        if connection_id in self._subscriber_ids or connection_id in self._names:
            return
        taken = participant.name in self._names.values()
        raise Rejected(REPLACED if taken else rejections.PROCESS_LOST)

    def apply_arrivals(
        self, present: Sequence[Present], removed: Mapping[str, Rejection]
    ) -> list[Action]:
        """Close who is not on the roster any more, and announce who is new on it.

        Before a new member is announced, so is the departure of the member that had its name.
        *removed* says why connections of this process have to be closed, by their ids. They are
        closed first: what is delivered next may have been published after they were removed, and
        of a thousand, each would otherwise be told that most of the others left. Only those that
        were kicked stay until `close_kicked`, since they are told of that in its place.
        """
        self._subscriber_ids = {each.connection_id for each in present if not each.name}
        members = [each for each in present if each.name]
        self._names = {each.connection_id: each.name for each in members}
        self.has_muted = any(each.muted for each in members)
        for each in members:
            if (participant := self.participants.get(each.connection_id)) is not None:
                participant.is_muted = each.muted
        closed = self._close_missing(members, removed) + self._close_subscribers(removed)
        # A client would take the second member of a name for the first, and see it leave.
        new_names = {name_key(each.name) for each in members if self._is_news(each)}
        gone = [each for each in self._missing(members) if name_key(each.name) in new_names]
        actions = closed + self._announce_left(gone) + self._announce_renamed(members)
        for each in members:
            known = self._present.get(each.id)
            self._present[each.id] = each
            if known is None:
                verified = True if each.verified else None
                actions.append(
                    Send(None, Joined(each.name, len(self), verified, each.quiet or None))
                )
            elif (
                known.connection_id != each.connection_id
                and known.connection_id in self.participants
            ):
                previous = self.participants[known.connection_id]
                if previous in self.room:
                    actions += self.room.take_over(previous)
        return actions

    def close_kicked(
        self, removed: Mapping[str, Rejection], name: str | None = None
    ) -> list[Action]:
        """Close who was kicked: the member *name* and all subscribers, or all if it is None."""
        actions: list[Action] = []
        for connection_id, rejection in removed.items():
            participant = self.participants.get(connection_id)
            if participant is None or not _is_kick(rejection):
                continue
            if name is None or not participant.name or name_key(participant.name) == name_key(name):
                actions += self.room.kick(participant, rejection)
        return actions

    def apply_departures(self, present: Sequence[Present]) -> list[Action]:
        """Announce who is not on the roster any more."""
        return self._announce_left(self._missing(present))

    def _close_missing(
        self, members: Sequence[Present], removed: Mapping[str, Rejection]
    ) -> list[Action]:
        actions: list[Action] = []
        for each in self._missing(members):
            participant = self.participants.get(each.connection_id)
            if participant is not None and participant in self.room:
                # If nobody removed it, this process stood still until others took it for dead.
                rejection = removed.get(each.connection_id, rejections.PROCESS_LOST)
                actions += [] if _is_kick(rejection) else self.room.kick(participant, rejection)
        return actions

    def _close_subscribers(self, removed: Mapping[str, Rejection]) -> list[Action]:
        actions: list[Action] = []
        for connection_id, participant in self.participants.items():
            if self.room.is_subscriber(participant) and connection_id not in self._subscriber_ids:
                rejection = removed.get(connection_id, rejections.PROCESS_LOST)
                actions += [] if _is_kick(rejection) else self.room.kick(participant, rejection)
        return actions

    def _is_news(self, each: Present) -> bool:
        """Tell whether *each* has not been announced under its name."""
        known = self._present.get(each.id)
        return known is None or known.name != each.name

    def _missing(self, present: Sequence[Present]) -> list[Present]:
        ids = {each.id for each in present}
        return [each for id, each in self._present.items() if id not in ids]

    def _announce_left(self, gone: Sequence[Present]) -> list[Action]:
        actions: list[Action] = []
        for each in gone:
            del self._present[each.id]
            actions.append(Send(None, Left(each.name, len(self), each.quiet or None)))
        return actions

    def _announce_renamed(self, present: Sequence[Present]) -> list[Action]:
        """Announce who has another name than before, so that no two have one at any time.

        A member whose new name belonged to another, which is renamed as well, gets a name with a
        suffix in between.
        """
        renamed = [each for each in present if each.id in self._present and self._is_news(each)]
        if not renamed:
            return []
        actions: list[Action] = []
        shown = {name_key(each.name) for each in self._present.values()}
        taken = shown | {name_key(each.name) for each in renamed}
        later: list[Present] = []
        for each in renamed:
            shown.remove(name_key(self._present[each.id].name))
            now = each
            if name_key(each.name) in shown:  # its owner is renamed as well, later in this loop
                later.append(each)
                names = (with_suffix(each.name, number) for number in itertools.count(2))
                now = replace(each, name=next(n for n in names if name_key(n) not in taken))
                taken.add(name_key(now.name))
            shown.add(name_key(now.name))
            actions.append(self._rename(now))
        return actions + [self._rename(each) for each in later]

    def _rename(self, each: Present) -> Action:
        """Give a member the name that it has on the roster now, and announce that."""
        known = self._present[each.id]
        self._present[each.id] = replace(known, name=each.name)
        participant = self.participants.get(known.connection_id)
        if participant is not None and participant in self.room:
            self.room.set_name(participant, each.name)
        return Send(None, Renamed(known.name, each.name, True if each.verified else None))


def _is_kick(rejection: Rejection) -> bool:
    return rejection.error.code == KICKED.error.code
