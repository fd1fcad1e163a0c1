"""A shared room: a room whose members are in this process and in others.

Pure, as the `Room` that it is: what the roster and the log say is told to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from broadcast_server.names import name_key, numbered
from broadcast_server.protocol import Error, Joined, Left, Renamed
from broadcast_server.room import Action, Claim, Close, Peer, Room, Send

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
        self._listening: set[str] = set()  # tokens of those who only listen, in all processes

    def __len__(self) -> int:
        """Count those who are here, in all processes."""
        return len(self._present)

    def connect(self, peer: Peer) -> list[Action]:
        """Let *peer* in, which has its name already."""
        key = name_key(peer.name)
        ghost = self._names.get(key)
        actions = [] if ghost is None else self._replaced(ghost)
        peer.seat = next(self._seats)
        self._members[peer.seat] = self._names[key] = peer
        return [*actions, self._welcome(peer)]

    def check(self, peer: Peer, token: str) -> None:
        """See that *peer*, of whom the roster was told, is still on it. Raises `Refused`."""
        if token in self._listening:
            return
        tokens = {each.name: each.token for each in self._present.values()}
        if tokens.get(peer.name) == token:
            return
        if peer.name in tokens:
            raise Refused(ends.REPLACED)
        raise Refused(ends.LOST_SIGHT)

    def disconnect(self, peer: Peer) -> list[Action]:
        """Forget *peer*; that it left is told when the roster says so."""
        self._listeners.discard(peer)
        if peer in self:
            self._forget(peer)
        return []

    def arrive(self, present: Sequence[Present], removed: Mapping[str, End]) -> list[Action]:
        """Tell who is new on the roster, and who had the same name and is not on it any more.

        Some of ours were *removed*, by their tokens.
        """
        self._listening = {each.token for each in present if not each.name}
        present = [each for each in present if each.name]
        # Others would take the second of a name for the first, and so for gone.
        new = {name_key(each.name) for each in present if self._is_new(each)}
        gone = [each for each in self._missing(present) if name_key(each.name) in new]
        actions = self._left(gone, removed) + self._renamed(present)
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
        return self._left(self._missing(present), removed) + self._silenced(removed)

    def _silenced(self, removed: Mapping[str, End]) -> list[Action]:
        """Close those of ours who listened and may no more."""
        actions: list[Action] = []
        for token, peer in self.tokens.items():
            if peer in self._listeners and token not in self._listening:
                end = removed.get(token, ends.LOST_SIGHT)
                actions += self.expel(peer, end.code, end.fault, end.text)
        return actions

    def _rename(self, peer: Peer, name: str, id: str | None) -> list[Action]:
        return [Claim(peer, name, id)]

    def _is_new(self, each: Present) -> bool:
        """Whether nobody was told of *each* under this name."""
        known = self._present.get(each.id)
        return known is None or known.name != each.name

    def _renamed(self, present: Sequence[Present]) -> list[Action]:
        """Tell who has another name than before, so that no two have one at any time."""
        waiting = [each for each in present if each.id in self._present and self._is_new(each)]
        if not waiting:
            return []
        actions: list[Action] = []
        told = {name_key(each.name) for each in self._present.values()}
        taken = told | {name_key(each.name) for each in waiting}
        later: list[Present] = []
        for each in waiting:
            told.remove(name_key(self._present[each.id].name))
            now = each
            if name_key(each.name) in told:  # of one who is renamed as well, and makes way first
                later.append(each)
                names = (numbered(each.name, number) for number in itertools.count(2))
                now = replace(each, name=next(n for n in names if name_key(n) not in taken))
                taken.add(name_key(now.name))
            told.add(name_key(now.name))
            actions.append(self._called(now))
        return actions + [self._called(each) for each in later]

    def _called(self, each: Present) -> Action:
        """Take note that someone who is here is called otherwise now."""
        known = self._present[each.id]
        self._present[each.id] = replace(known, name=each.name)
        peer = self.tokens.get(known.token)
        if peer is not None and peer in self:
            self._give_back(peer.name)
            peer.name = each.name
            self._names[name_key(peer.name)] = peer
        return Send(None, Renamed(known.name, each.name, True if each.verified else None))

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
        self._forget(ghost)
        return [Send(ghost, Error(end.fault, end.text)), Close(ghost, end.code, end.text)]

    def _roster(self, most: int) -> tuple[str, ...]:
        return tuple(each.name for each in itertools.islice(self._present.values(), most))

    def _verified(self, most: int) -> tuple[str, ...] | None:
        first = itertools.islice(self._present.values(), most)
        return tuple(each.name for each in first if each.verified) or None
