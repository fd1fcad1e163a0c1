"""The fan-out: one turn's events become one frame, encoded once for everyone.

Theory of operation. Within a turn of the event loop the events for everyone
pile up in one list. `turn` encodes that list once a format, and all who have
nothing of their own in it get the very same bytes. Two kinds of member do not:

- *apart*, for this turn: it came in the middle of it, or was told something that
  the others were not. Its own events are put in at the place in the list where
  they happened, so it sees everything in the order in which it was decided.
- *behind*, until it has caught up: it came with a cursor, or its connection
  takes no more for now. It is not sent messages as they come, it reads them from
  the log when it can (`hungry`, `feed`), and so costs no memory however slow it
  is. What is not in the log (who came, who left) waits here, marked with the
  number of the message that it came after, and is put in at that place.

The adapter calls `enter`, `everyone`, `only` and `leave` within a turn, and
between turns, right after `turn`, the rest. No sockets here, no clock, no await.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from .protocol import (
    Event,
    Format,
    Head,
    Hidden,
    Members,
    Message,
    Numbered,
    Pong,
    json_line,
    sse_line,
    text_line,
)
from .room import Peer

Write = Callable[[Event], str | None]

FRAME = 64 * 2**10
"""A frame takes no further line when it has so many characters: a turn may need more frames."""

EVENTS = 4096
TEXT = 2**20
"""A turn with so many events, or so much text in characters, is to end early: `full`."""

WAITING = 4096
"""So many events that are not in the log wait for a member; with more it is too slow."""


@dataclass(slots=True)
class _Apart:
    start: int  # in the turn's list
    own: list[tuple[int, Event]] = field(default_factory=list)  # each before that place


@dataclass(slots=True)
class _Behind:
    seq: int  # it was sent every message up to here
    stalled: bool = False
    waiting: deque[tuple[int, Event]] = field(default_factory=deque)


class Turn:
    """What one turn owes: the same frames to most, others to a few."""

    def __init__(self, events: list[Event], writers: dict[Format, Write]) -> None:
        self.own: dict[Peer, list[bytes]] = {}
        """The payloads of those who do not get the common ones, perhaps none."""
        self.messages = _messages(events)
        """How many messages are in the common ones."""
        self._events = events
        self._writers = writers
        self._lines: dict[Format, list[str | None]] = {}
        self._common: dict[Format, list[bytes]] = {}

    def __bool__(self) -> bool:
        """Tell whether there is anything for everyone."""
        return bool(self._events)

    def common(self, format: Format) -> list[bytes]:
        """Return the payloads for everyone else."""
        if format not in self._common:
            self._common[format] = list(_pack(self.lines(format)))
        return self._common[format]

    def lines(self, format: Format) -> list[str | None]:
        """Return the turn's events as lines."""
        if format not in self._lines:
            self._lines[format] = list(map(self._writers[format], self._events))
        return self._lines[format]


class Fanout:
    """Who of one room's members is owed what. *head* is the last number of the log *epoch*."""

    def __init__(self, head: int = 0, epoch: str = "") -> None:
        self._writers: dict[Format, Write] = {
            Format.TEXT: text_line,
            Format.JSON: json_line,
            Format.SSE: partial(sse_line, epoch=epoch),
        }
        self._head = head  # of the messages handed in
        self._sent = head  # of those that turns have dealt with
        self.delivered = 0
        """How many messages were given to members that did not get the common payloads."""
        self._events: list[Event] = []
        self._text = 0  # characters in them
        self._apart: dict[Peer, _Apart] = {}
        self._behind: dict[Peer, _Behind] = {}
        self._told_who: set[Peer] = set()  # who is owed an answer to /who
        self._replayed: dict[tuple[int, Format], str | None] = {}  # messages, by number
        self._late: dict[tuple[int, Format], tuple[Event, str | None]] = {}  # the rest, by id()

    @property
    def full(self) -> bool:
        """Whether this turn should end now, so that what is not yet written stays bounded."""
        return len(self._events) >= EVENTS or self._text >= TEXT

    # -- within a turn --

    def enter(self, peer: Peer, after: int, welcome: Event) -> None:
        """Put *peer* on the stream: *welcome*, then what comes after message *after*."""
        if after < self._head:
            self._behind[peer] = _Behind(after, waiting=deque([(after, welcome)]))
        else:
            place = len(self._events)
            self._apart[peer] = _Apart(place, [(place, welcome)])

    def everyone(self, event: Event) -> None:
        """Send *event* to all who are on the stream now."""
        self._events.append(event)
        if type(event) is Message:
            self._head = event.seq
            # As a text client gets it: the name is in front of every line.
            breaks = len(event.text.splitlines())
            self._text += len(event.text) + breaks * (len(event.name) + 2)
        elif type(event) is Hidden and event.seq > self._head:
            self._head = event.seq  # in the place of the message, also in the log
        else:
            for behind in self._behind.values():
                behind.waiting.append((self._head, event))

    def only(self, peer: Peer, event: Event) -> None:
        """Send *event* to *peer* alone, in its place among what it gets anyway.

        Of several answers to /who that it is owed, it gets one: an asking is ten
        bytes, and its answer may be a hundred thousand.
        """
        if type(event) is Members:
            if peer in self._told_who:
                return
            self._told_who.add(peer)
        behind = self._behind.get(peer)
        if behind is not None:
            behind.waiting.append((self._head, event))
        else:
            apart = self._apart.setdefault(peer, _Apart(0))
            apart.own.append((len(self._events), event))

    def leave(self, peer: Peer) -> Iterator[bytes]:
        """Take *peer* off the stream, and return what it is still owed, for now or never.

        It is not written before somebody asks: 5,000 who are cut in one turn would else
        have each other's leaving written 5,000 times, for 15 seconds. Who is behind is not
        told by a pong, nor by a head, that it has had what it will not be sent: it would come
        back after it, and never miss it.
        """
        format = peer.entry.format
        self._told_who.discard(peer)
        behind = self._behind.pop(peer, None)
        if behind is not None:
            owed = [
                event
                for after, event in behind.waiting
                if after <= behind.seq or type(event) not in (Pong, Head)
            ]
            return _pack(map(self._writers[format], owed))
        return _pack(self._owed(self._apart.pop(peer, _Apart(0)), format))

    # -- between turns --

    def turn(self) -> Turn:
        """End the turn."""
        turn = Turn(self._events, self._writers)
        for peer in self._behind:
            turn.own[peer] = []
        for peer, apart in self._apart.items():
            format = peer.entry.format
            own = _merge(apart, turn.lines(format), self._writers[format])
            turn.own[peer] = list(_pack(own))
            self.delivered += turn.messages - _messages(self._events[: apart.start])
        self._events, self._text, self._apart, self._sent = [], 0, {}, self._head
        self._told_who &= self._behind.keys()
        self._replayed.clear()
        self._late.clear()
        return turn

    def stall(self, peer: Peer) -> None:
        """Send *peer* no more for now: its connection is full."""
        self._behind.setdefault(peer, _Behind(self._sent)).stalled = True

    def ready(self, peer: Peer) -> None:
        """Go on with *peer*, if it was stalled: its connection takes more again."""
        if peer in self._behind:
            self._behind[peer].stalled = False

    def hungry(self) -> list[tuple[Peer, int]]:
        """List who is to be fed, and the number after which each goes on reading the log."""
        return [(peer, each.seq) for peer, each in self._behind.items() if not each.stalled]

    def place(self, peer: Peer) -> int | None:
        """Return how far *peer* has read, None if it is not behind."""
        return self._behind[peer].seq if peer in self._behind else None

    @property
    def behind(self) -> int:
        """How many members are behind."""
        return len(self._behind)

    def overdue(self) -> list[Peer]:
        """List who is too slow even so, because too much waits for it."""
        return [peer for peer, each in self._behind.items() if len(each.waiting) > WAITING]

    def feed(self, peer: Peer, entries: Sequence[Numbered]) -> list[bytes]:
        """Give *peer* the next *entries* of the log; at the head it is on the stream again."""
        behind = self._behind[peer]
        self.delivered += _messages(entries)
        if entries:
            behind.seq = entries[-1].seq
        payloads = list(_pack(self._interleave(behind.waiting, entries, peer.entry.format)))
        if behind.seq >= self._sent:
            del self._behind[peer]
            self._told_who.discard(peer)
        return payloads

    def _interleave(
        self, waiting: deque[tuple[int, Event]], entries: Sequence[Numbered], format: Format
    ) -> Iterator[str | None]:
        for entry in entries:
            while waiting and waiting[0][0] < entry.seq:
                yield self._late_line(waiting.popleft()[1], format)
            # Once a turn for all: after a restart a thousand clients come back
            # with the same few cursors.
            key = entry.seq, format
            if key not in self._replayed:
                self._replayed[key] = self._writers[format](entry)
            yield self._replayed[key]
        seq = entries[-1].seq if entries else self._sent
        while waiting and waiting[0][0] <= seq:
            yield self._late_line(waiting.popleft()[1], format)

    def _late_line(self, event: Event, format: Format) -> str | None:
        """Write what waited, once a turn for all: many come back in one, and it is who came."""
        key = id(event), format
        if key not in self._late:
            # The event too, to keep its id.
            self._late[key] = event, self._writers[format](event)
        return self._late[key][1]

    def _owed(self, apart: _Apart, format: Format) -> Iterator[str | None]:
        write = self._writers[format]
        yield from _merge(apart, [write(event) for event in self._events], write)


def _messages(events: Iterable[Event]) -> int:
    return sum(type(event) is Message for event in events)


def _merge(apart: _Apart, lines: list[str | None], write: Write) -> Iterator[str | None]:
    place = apart.start
    for before, event in apart.own:
        yield from lines[place:before]
        yield write(event)
        place = before
    yield from lines[place:]


def _pack(lines: Iterable[str | None]) -> Iterator[bytes]:
    """Join lines to frames' payloads."""
    frame: list[str] = []
    size = 0
    for line in lines:
        if line is None:
            continue
        # A text client's message may be many lines, which need not be in one frame.
        for part in line.split("\n") if len(line) > FRAME else (line,):
            frame.append(part)
            size += len(part) + 1
            if size > FRAME:
                yield "\n".join(frame).encode()
                frame, size = [], 0
    if frame:
        yield "\n".join(frame).encode()
