"""A shared room: a room whose members are in this process and in others.

Pure, as the `Room` that it is: what the roster and the log say is told to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from broadcast_server.names import name_key
from broadcast_server.protocol import Error, Joined, Left
from broadcast_server.room import Action, Close, Peer, Room, Send

from . import ends
from .ends import End, Refused
from .presence import Present


class Reach:
    """What a room needs to know of the log: how far this node has read it."""

    first = 1  # the database keeps all

    def __init__(self, epoch: str, head: int) -> None:
        self.epoch = epoch
        self.head = head


class SharedRoom(Room):
    """A room whose members are here and in other processes.

    Names come from the roster that all share, and so does the news of who came
    and left; the members that this room keeps are those of this process.
    """

    def __init__(self, name: str, reach: Reach, max_message_bytes: int) -> None:
        super().__init__(name, reach, max_message_bytes)
        self.tokens: dict[str, Peer] = {}
        self._present: dict[int, Present] = {}

    def __len__(self) -> int:
        """Count those who are here, in all processes."""
        return len(self._present)

    def connect(self, peer: Peer) -> list[Action]:
        """Let *peer* in, which has its name already."""
        key = name_key(peer.name)
        ghost = self._members.get(key)
        actions = [] if ghost is None else self._replaced(ghost)
        self._members[key] = peer
        return [*actions, self._welcome(peer)]

    def check(self, peer: Peer, token: str) -> None:
        """See that *peer*, of whom the roster was told, is still on it. Raises `Refused`."""
        tokens = {each.name: each.token for each in self._present.values()}
        if tokens.get(peer.name) == token:
            return
        if peer.name in tokens:
            raise Refused(ends.REPLACED)
        raise Refused(ends.LOST_SIGHT)

    def disconnect(self, peer: Peer) -> list[Action]:
        """Forget *peer*; that it left is told when the roster says so."""
        if peer in self:
            del self._members[name_key(peer.name)]
        return []

    def arrive(self, present: Sequence[Present], removed: Mapping[str, End]) -> list[Action]:
        """Tell who is new on the roster, and who had the same name and is not on it any more.

        Some of ours were *removed*, by their tokens.
        """
        # Others would take the second of a name for the first, and so for gone.
        new = {name_key(each.name) for each in present if each.id not in self._present}
        gone = [each for each in self._missing(present) if name_key(each.name) in new]
        actions = self._left(gone, removed)
        for each in present:
            known = self._present.get(each.id)
            self._present[each.id] = each
            if known is None:
                verified = True if each.verified else None
                actions.append(Send(None, Joined(each.name, len(self), verified)))
            elif known.token != each.token and known.token in self.tokens:
                ghost = self.tokens[known.token]
                if ghost in self:
                    actions += self._replaced(ghost)
        return actions

    def depart(self, present: Sequence[Present], removed: Mapping[str, End]) -> list[Action]:
        """Tell who is on the roster no more; some of ours were *removed*, by their tokens."""
        return self._left(self._missing(present), removed)

    def _missing(self, present: Sequence[Present]) -> list[Present]:
        here = {each.id for each in present}
        return [each for id, each in self._present.items() if id not in here]

    def _left(self, gone: Sequence[Present], removed: Mapping[str, End]) -> list[Action]:
        actions: list[Action] = []
        # First of all ours are closed: of a thousand, each would else hear of most others.
        for each in gone:
            peer = self.tokens.get(each.token)
            if peer is not None and peer in self:
                # If nobody removed it, we stood still for so long that we were taken for dead.
                end = removed.get(each.token, ends.LOST_SIGHT)
                actions += self.expel(peer, end.code, end.fault, end.text)
        for each in gone:
            del self._present[each.id]
            actions.append(Send(None, Left(each.name, len(self))))
        return actions

    def _replaced(self, ghost: Peer) -> list[Action]:
        end = ends.REPLACED
        del self._members[name_key(ghost.name)]
        return [Send(ghost, Error(end.fault, end.text)), Close(ghost, end.code, end.text)]

    def _roster(self, most: int) -> tuple[str, ...]:
        return tuple(each.name for each in itertools.islice(self._present.values(), most))

    def _verified(self, most: int) -> tuple[str, ...] | None:
        first = itertools.islice(self._present.values(), most)
        return tuple(each.name for each in first if each.verified) or None
