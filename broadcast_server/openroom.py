"""An open room: a room with its fan-out, and the connections of its members.

It carries out what the `Room` decides, with no await in between, and writes what
the `Fanout` owes once a turn: a turn of the event loop, or of a few if the room is
busy. The houses differ in two steps only, which they fill in: how what is published
gets its number and comes back to `deliver`, and where those who are behind read on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .fanout import Fanout
from .metrics import Metrics
from .protocol import CloseCode, Cursor, Event, Format, Head, Numbered
from .room import Action, Claim, Close, Enter, Peer, Publish, Room, Send

CHUNK = 64
"""So many messages at once are read from the log for a member that is behind."""

PORTION = 8192
"""So many a turn, if it takes them: more than a turn can bring."""

NEWCOMERS = 256
"""A turn ends when so many have come in it. Each of them gets lines of its own, one for each who
came after it in the turn, while who comes in a later turn is told to all in one frame: 5,000 who
come back at once would have 12 million lines written for them."""

REST = 0.25
"""A turn ends not sooner than after this share of the time that it took to write the last."""

CLOCK = 0.001
"""The selector's clock, in seconds: for less the loop would wait too long."""

DONE = 1000
"""The code of an end that was asked for."""

Encode = Callable[[bytes], Any]


class Line(Protocol):
    """The connection of one member, or of one who listens."""

    @property
    def paused(self) -> bool:
        """Whether it takes no more for now."""

    @property
    def encode(self) -> Encode:
        """What makes a frame of a payload: the same of all its kind, to be called once for all."""

    def write(self, frames: Iterable[Any]) -> None:
        """Write frames, at once."""

    def close(self, code: int, reason: str) -> None:
        """Close it, after what was written."""


class Stream(Line, Protocol):
    """The connection of one who listens."""

    def begin(self, at: Cursor) -> None:
        """Begin to answer, with what comes after *at*."""


class OpenRoom(ABC):
    """One room and the connections of its members, and of those who listen."""

    def __init__(
        self, room: Room, closed: Callable[[Line, CloseCode], None], metrics: Metrics
    ) -> None:
        self.room = room
        self._metrics = metrics
        self._closed = closed
        self._fanout = Fanout(room.log.head, room.log.epoch)
        self._lines: dict[Peer, Line] = {}
        self._polls: set[Peer] = set()  # who leaves when it has heard what there is
        self._flowing: dict[Peer, Line] = {}  # paused or resumed since the last turn
        self._due = False
        self._came = 0  # so many in this turn
        self._held: list[Callable[[], None]] = []  # what is to be done in the next turn
        self._rested = 0.0  # when the next turn may end, by the loop's clock

    # -- what a house fills in --

    @abstractmethod
    def _publish(self, what: Publish) -> None:
        """Log *what*, and let it come back to `deliver`, now or later."""

    def _claim(self, what: Claim) -> None:  # noqa: B027  # else there is nothing to decide
        """Have *what* decided on, where the room does not keep the names itself."""

    def _answer(self, peer: Peer, event: Event) -> None:
        """Send *event* to one member, in its place among what it has caused before."""
        self._fanout.only(peer, event)

    def _keep(self) -> None:  # noqa: B027  # where the log is elsewhere there is nothing to do
        """See that what is about to be told is kept, if it is to outlive the process."""

    @abstractmethod
    def _feed(self) -> list[Peer]:
        """Let those read on in the log who are behind, and return whom it left behind."""

    # -- what happens --

    def enter(self, peer: Peer, line: Line) -> None:
        """Let *peer* in."""
        *others, entered = self.room.connect(peer)
        self._do(others)  # the turn may end with what they are told, and that is not for it
        self._lines[peer] = line
        self._do([entered])
        self._newcomer()

    def listen(self, peer: Peer, line: Stream, *, poll: bool = False) -> None:
        """Let *peer* hear what happens, or with *poll* what has happened."""
        self._lines[peer] = line
        if poll:
            self._polls.add(peer)
        actions = self.room.listen(peer)
        line.begin(Cursor(self.room.log.epoch, peer.after))
        self._do(actions)
        self._newcomer()

    def _newcomer(self) -> None:
        self._came += 1
        if self._came >= NEWCOMERS:
            self.flush()

    def receive(self, peer: Peer, frame: str) -> None:
        """Take what *peer* sent."""
        self._do(self.room.receive(peer, frame))

    def deliver(self, entry: Numbered) -> None:
        """Take what the log has numbered."""
        self._do(self.room.deliver(entry))

    def leave(self, peer: Peer) -> None:
        """Take *peer* out, whose connection is gone."""
        if self._lines.pop(peer, None) is not None:
            self._polls.discard(peer)
            self._fanout.leave(peer)
            self._do(self.room.disconnect(peer))

    def expel(self, peer: Peer, code: CloseCode, fault: str, text: str) -> None:
        """Close *peer*."""
        self._do(self.room.expel(peer, code, fault, text))

    def flow(self, peer: Peer) -> None:
        """Note that the connection of *peer* was paused or resumed."""
        if peer in self._lines:
            self._flowing[peer] = self._lines[peer]
            self._schedule()

    def next_turn(self, then: Callable[[], None]) -> None:
        """Do *then* when this turn is over: who has had its share of it waits for that."""
        self._held.append(then)
        self._schedule()

    async def caught_up(self) -> None:
        """Wait until nobody is behind."""
        while self._fanout.behind:
            turn = asyncio.Event()
            self._held.append(turn.set)  # of the next turn that there is a reason for
            await turn.wait()

    def tell(self, to: Peer | None, event: Event) -> None:
        """Send *event*, which is the house's own, to one member or to everyone."""
        self._do([Send(to, event)])

    def head(self) -> None:
        """Show the JSON clients that the room is alive."""
        self.room.beat()
        if self._lines:
            self._do([Send(None, Head(self.room.log.head))])

    def stop(self) -> None:
        """Close everyone."""
        self.flush()  # the rest of the turn, encoded once for all
        self._do(self.room.stop())

    # -- what is done --

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish():
                    self._publish(action)
                case Claim():
                    self._claim(action)
                case Send(to=None, event=event):
                    self._fanout.everyone(event)
                    if self._fanout.full:
                        # Not a flush: nobody is expelled in the middle of a list.
                        self._end_turn()
                case Send(to=Peer() as peer, event=event):
                    if peer in self._lines:
                        self._answer(peer, event)
                case Enter(peer=peer, after=after, welcome=welcome):
                    self._fanout.enter(peer, after, welcome)
                case Close(peer=peer, code=code, reason=reason):
                    self._keep()
                    line = self._lines.pop(peer)
                    self._polls.discard(peer)
                    line.write(map(line.encode, self._fanout.leave(peer)))
                    line.close(code, reason)
                    self._closed(line, code)
        if actions:
            self._schedule()

    def _schedule(self) -> None:
        """See that the turn ends: soon, but not before the room has rested from the last one.

        To write costs nearly the same for one message as for a hundred, so a busy room reads
        on for a while before it writes again: 1.6 times the deliveries of a second of CPU at
        1,000 members. A quiet one has rested, and writes at once.
        """
        if self._due:
            return
        self._due = True
        loop = asyncio.get_running_loop()
        if self._rested - loop.time() < CLOCK:
            loop.call_soon(self.flush)
        else:
            loop.call_at(self._rested, self.flush)

    @property
    def clients(self) -> int:
        """How many are connected here, members and who listens."""
        return len(self._lines)

    @property
    def listeners(self) -> int:
        """How many of them only listen."""
        return self.room.listeners

    @property
    def behind(self) -> int:
        """How many members read the log to catch up."""
        return self._fanout.behind

    def flush(self) -> None:
        """End the turn, and see to those who are behind or too slow."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        self._due = False
        self._came = 0
        self._end_turn()
        slow = self._feed() + self._fanout.overdue()
        self._settle_flow()
        for peer in slow:
            self.expel(peer, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")
        self._end_polls()
        held, self._held = self._held, []
        for then in held:
            loop.call_soon(then)
        end = loop.time()
        self._rested = end + (end - begin) * REST
        self._metrics.turn(end - begin)
        self._metrics.deliveries += self._fanout.delivered
        self._fanout.delivered = 0

    def _end_polls(self) -> None:
        """Close those who have heard what there is; and then they leave."""
        for peer in [peer for peer in self._polls if self._fanout.place(peer) is None]:
            self._polls.discard(peer)
            self._lines[peer].close(DONE, "")

    def _end_turn(self) -> None:
        """Write to everyone what the turn owes them."""
        self._keep()
        turn = self._fanout.turn()
        if turn:
            common: dict[tuple[Format, Encode], tuple[list[Any], int]] = {}
            format: Format | None = None
            encode: Encode | None = None
            frames: list[Any] = []
            size = 0
            for peer, line in self._lines.items():
                if peer in turn.own:
                    continue
                if line.encode is not encode or peer.entry.format is not format:
                    format, encode = peer.entry.format, line.encode
                    if (format, encode) not in common:
                        payloads = turn.common(format)
                        found = list(map(encode, payloads)), sum(map(len, payloads))
                        common[format, encode] = found
                    frames, size = common[format, encode]
                line.write(frames)
                self._metrics.deliveries += turn.messages
                self._metrics.sent += size
        for peer, payloads in turn.own.items():
            self._give(peer, payloads)
        self._settle_flow()

    def _settle_flow(self) -> None:
        """Tell the fan-out whose connection was paused or resumed."""
        while self._flowing:
            peer, line = self._flowing.popitem()
            if peer in self._lines:
                (self._fanout.stall if line.paused else self._fanout.ready)(peer)

    def _give(self, peer: Peer, payloads: Iterable[bytes]) -> None:
        """Write payloads to one member."""
        given = list(payloads)
        self._metrics.sent += sum(map(len, given))
        line = self._lines[peer]
        line.write(map(line.encode, given))
