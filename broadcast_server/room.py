"""The room: who is in it, and what each of them gets.

A value machine. `connect`, `receive`, `deliver` and `disconnect` say what
happened and return, as a list of actions, what is now to be done. Whoever
called carries the actions out in order and without awaiting in between; that is
all it takes for everyone to see one order.

The room never numbers a message. It asks for it to be logged (`Publish`), and
when the log has given it a number it comes back by `deliver`, in one process at
once, across several when the log says so. The room knows no socket, clock,
framework or `await`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

from .entry import Entry
from .names import check_name, name_key, numbered
from .protocol import (
    ROSTER,
    ROSTER_ASKED,
    CloseCode,
    Error,
    Event,
    Format,
    Joined,
    Left,
    Members,
    Numbered,
    Ping,
    Pong,
    Rename,
    Renamed,
    Say,
    Welcome,
    Who,
    parse_json,
    parse_text,
)

FAULTS = 10
"""So many frames' faults in a row end a connection: its program is broken."""

STOPPING = Error("stopping", "the server is stopping")

PARDONED = frozenset({"too_long", "too_many_lines", "empty", "bad_name"})
"""Errors that are no fault of the program that sends, but of what it was given."""

RENAMES = 10
"""So many names a member may ask for between two beats. Unlike messages these are not in the log,
so they wait in memory for those who read slowly, who are closed if too much does."""


@dataclass(slots=True, eq=False)
class Peer:
    """One connection, as the room sees it.

    *source* is where the ids of its messages count: its session, or a token of
    the connection's own.
    """

    entry: Entry
    source: str
    name: str = ""
    seat: int = 0  # among those here
    after: int = 0  # it is sent every message with a higher number
    faults: int = 0


# -- actions, of which `Send` and `Publish` are not frozen for the reason in protocol.py ------


@dataclass(frozen=True, slots=True)
class Enter:
    """Put *peer* on the stream: *welcome*, then all messages after number *after*."""

    peer: Peer
    after: int
    welcome: Welcome


@dataclass(slots=True)
class Send:
    """Send *event* to one peer, or to everyone in the room."""

    to: Peer | None
    event: Event


@dataclass(slots=True)
class Publish:
    """Log what *peer* said, then `Room.deliver` it, or say that it is `Room.repeated`."""

    peer: Peer
    text: str
    id: str | None
    name: str  # under which it was said


@dataclass(frozen=True, slots=True)
class Claim:
    """Have whoever keeps the names decide on *name*, where that is not the room itself."""

    peer: Peer
    name: str
    id: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close *peer*, after what it was sent, and forget it."""

    peer: Peer
    code: CloseCode
    reason: str


Action = Enter | Send | Publish | Claim | Close


class Extent(Protocol):
    """What a room needs to know of its log."""

    @property
    def epoch(self) -> str:
        """The random id of the log itself."""

    @property
    def first(self) -> int:
        """The number of the oldest message that it still holds, or head + 1."""

    @property
    def head(self) -> int:
        """The number of the last message, 0 before there was one."""


# -- the room -----------------------------------------------------------------


class Room:
    """The members of one room, in the order in which they came."""

    def __init__(self, name: str, log: Extent, max_message_bytes: int) -> None:
        self.name = name
        self.log = log
        self.max_message_bytes = max_message_bytes
        self._members: dict[int, Peer] = {}  # by seat
        self._names: dict[str, Peer] = {}  # by name_key
        self._sessions: dict[str, Peer] = {}
        self._numbers: dict[str, int] = {}  # by key of a name here, see _free_name
        self._seats = count(1)
        self._renames: Counter[Peer] = Counter()  # since the last beat
        self._listeners: set[Peer] = set()

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, peer: Peer) -> bool:
        return self._members.get(peer.seat) is peer

    @property
    def listeners(self) -> int:
        """How many listen and are not here."""
        return len(self._listeners)

    def holds(self, session: str | None) -> bool:
        """Tell whether someone of *session* is here, whom a newcomer of it would replace."""
        return session in self._sessions

    def members(self) -> tuple[Peer, ...]:
        """Return who is here."""
        return tuple(self._members.values())

    def connect(self, peer: Peer) -> list[Action]:
        """Let *peer* in, under the name it asked for or the next that is free."""
        actions: list[Action] = []
        ghost = self._sessions.get(peer.entry.session or "")
        if ghost is None:
            peer.name = self._free_name(peer.entry.name)
            peer.seat = next(self._seats)
        else:
            peer.name, peer.seat = ghost.name, ghost.seat
            error = Error("replaced", "a newer connection of your session took your place")
            actions += [Send(ghost, error), Close(ghost, CloseCode.REPLACED, error.text)]
        self._members[peer.seat] = self._names[name_key(peer.name)] = peer
        if peer.entry.session:
            self._sessions[peer.entry.session] = peer
        if ghost is None:
            actions.append(Send(None, Joined(peer.name, len(self))))
        # Everyone first, then the newcomer: it does not hear of its own coming.
        return [*actions, self._welcome(peer)]

    def listen(self, peer: Peer) -> list[Action]:
        """Let *peer* hear what happens without being here: it has no name, and nobody is told."""
        self._listeners.add(peer)
        return [self._welcome(peer)]

    def name_of(self, entry: Entry) -> str:
        """Return the name under which someone speaks who does not come in for it."""
        member = self._sessions.get(entry.session or "")
        return self._next_name(entry.name)[0] if member is None else member.name

    def receive(self, peer: Peer, frame: str) -> list[Action]:
        """Do what a frame of *peer* asks for, line by line."""
        parse = parse_json if peer.entry.format is Format.JSON else parse_text
        actions: list[Action] = []
        told_who = False
        for request in parse(frame, self.max_message_bytes):
            match request:
                case Say(text=text, id=id):
                    actions.append(Publish(peer, text, id, peer.name))
                case Ping(id=id):
                    actions.append(Send(peer, Pong(id)))
                case Rename():
                    actions += self.rename(peer, request)
                case Who():
                    # Once a frame: 200,000 askings fit into one, and each would
                    # be answered with a hundred times its size.
                    if not told_who:
                        actions.append(Send(peer, self.who()))
                        told_who = True
                case Error(code=code):
                    actions.append(Send(peer, request))
                    if code not in PARDONED:
                        peer.faults += 1
                        if peer.faults >= FAULTS:
                            text = f"{FAULTS} faults in a row"
                            return actions + self.expel(peer, CloseCode.FAULTS, "faults", text)
                    continue
            peer.faults = 0
        return actions

    def who(self) -> Members:
        """Say who is here."""
        return Members(len(self), self._roster(ROSTER_ASKED), self._verified(ROSTER_ASKED))

    def deliver(self, entry: Numbered) -> list[Action]:
        """Send what the log has numbered to everyone, a message's sender included."""
        return [Send(None, entry)]

    def repeated(self, peer: Peer, id: str, seq: int) -> list[Action]:
        """Answer a message that the log already holds as number *seq*.

        If its echo is among what this connection was or will be sent, that is
        the answer, and a second one would be a double. If not, the sender would
        wait for ever.
        """
        if seq > peer.after:
            return []
        return [Send(peer, Error("duplicate", f"message was said before, as number {seq}", id))]

    def rename(self, peer: Peer, request: Rename) -> list[Action]:
        """Give *peer* the name that it asks for or the next that is free, or say why not."""
        try:
            name = check_name(request.name)
        except ValueError as error:
            return [Send(peer, Error("bad_name", str(error), request.id))]
        self._renames[peer] += 1
        if self._renames[peer] > RENAMES:
            text = f"name was changed {RENAMES} times just now, try again in half a minute"
            return [Send(peer, Error("too_often", text, request.id))]
        return self._rename(peer, name, request.id)

    def beat(self) -> None:
        """Note that some time has passed, some twenty seconds or so."""
        self._renames.clear()

    def disconnect(self, peer: Peer) -> list[Action]:
        """Forget *peer*, whose connection is gone, and tell the others."""
        self._listeners.discard(peer)
        if peer not in self:  # replaced or expelled before
            return []
        self._forget(peer)
        if peer.entry.session:
            del self._sessions[peer.entry.session]
        return [Send(None, Left(peer.name, len(self)))]

    def expel(self, peer: Peer, code: CloseCode, fault: str, text: str) -> list[Action]:
        """Close *peer* for the reason *text*, and tell the others that it left."""
        if peer not in self and peer not in self._listeners:
            return []
        return [Send(peer, Error(fault, text)), Close(peer, code, text), *self.disconnect(peer)]

    def stop(self) -> list[Action]:
        """Close everyone because the server stops. Nobody is told who left."""
        here = *self.members(), *self._listeners
        closes = [Close(peer, CloseCode.STOPPING, STOPPING.text) for peer in here]
        self._members.clear()
        self._names.clear()
        self._listeners.clear()
        self._sessions.clear()
        self._numbers.clear()
        return [Send(None, STOPPING), *closes]

    def _welcome(self, peer: Peer) -> Enter:
        peer.after, recovered, missed = self._resume(peer.entry)
        welcome = Welcome(
            room=self.name,
            name=peer.name,
            epoch=self.log.epoch,
            seq=self.log.head,
            recovered=recovered,
            missed=missed,
            count=len(self),
            members=self._roster(ROSTER),
            verified=self._verified(ROSTER),
        )
        return Enter(peer, peer.after, welcome)

    def _roster(self, most: int) -> tuple[str, ...]:
        return tuple(peer.name for peer in islice(self._members.values(), most))

    def _verified(self, most: int) -> tuple[str, ...] | None:
        """Return who of the roster's first is verified; here there are no accounts."""
        return None

    def _rename(self, peer: Peer, name: str, id: str | None) -> list[Action]:
        if name == peer.name:
            return [Send(peer, Renamed(name, name))]
        before = peer.name
        self._give_back(before)  # so that it may be had in another spelling
        peer.name = self._free_name(name)
        self._names[name_key(peer.name)] = peer
        # With the next free suffix it may be as it was.
        return [Send(peer if peer.name == before else None, Renamed(before, peer.name))]

    def _forget(self, peer: Peer) -> None:
        del self._members[peer.seat]
        self._give_back(peer.name)
        self._renames.pop(peer, None)

    def _give_back(self, name: str) -> None:
        key = name_key(name)
        del self._names[key]
        self._numbers.pop(key, None)
        base, _, digits = key.rpartition("-")
        if base in self._numbers and digits.isdecimal():
            self._numbers[base] = max(2, min(self._numbers[base], int(digits)))

    def _free_name(self, name: str) -> str:
        free, number = self._next_name(name)
        if number:
            self._numbers[name_key(name)] = number + 1
        return free

    def _next_name(self, name: str) -> tuple[str, int]:
        """Return *name*, or that with the next number that is free, and the number or 0."""
        key = name_key(name)
        if key not in self._names:
            return name, 0
        # Begin where the last search ended: a thousand of one name would else
        # cost half a million look-ups.
        number = self._numbers.get(key, 2)
        while name_key(numbered(name, number)) in self._names:
            number += 1
        return numbered(name, number), number

    def _resume(self, entry: Entry) -> tuple[int, bool, int | None]:
        """Find the number to begin after, and what is missing before it."""
        log, since = self.log, entry.since
        if since is None:
            # A newcomer misses nothing, however little of the past it asked for.
            return max(log.first - 1, log.head - entry.history), True, 0
        if since.epoch != log.epoch or since.seq > log.head:
            return log.first - 1, False, None
        missed = max(0, log.first - 1 - since.seq)
        return since.seq + missed, missed == 0, missed
