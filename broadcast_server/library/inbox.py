"""The inbox: turns what a client receives into events for its program, and bounds what waits. Pure.

When as much waits as the queue takes, the inbox drops what follows, and remembers the position in
the log before it. Once the program has taken nearly everything, the client reads on from that
position, on a new connection of its session. The server's log is the buffer, as for any slow
client.
"""

from __future__ import annotations

from broadcast_server.client.session import ClientSession
from broadcast_server.protocol import messages as wire
from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.protocol.sanitize import strip_control

from .event_queue import EventQueue, Item
from .events import (
    Event,
    Gap,
    Joined,
    Left,
    Members,
    Message,
    MessageHidden,
    Notice,
    PrivateMessage,
    Renamed,
    act_of,
)
from .member_names import MemberNames

MAX_OWN_REMEMBERED = 2**16
"""How many messages of its own a client remembers, to know them when they are read again."""


class Inbox:
    """The events of one client of one room, before its program takes them."""

    def __init__(self, session: ClientSession) -> None:
        self.members = MemberNames()
        self.is_welcomed = False
        """Whether the room was joined."""
        self.topic = ""
        """The topic of the room, empty if it has none."""
        self.slow_mode = 0
        """In how many seconds each member may publish one message; 0 is no limit."""
        self.position = session.cursor
        """The position in the log after what the program has taken."""
        self._session = session
        self._queue = EventQueue()
        self._queued = session.cursor  # the position after what is in the queue
        self._epoch = ""
        self._own: dict[tuple[str, int], None] = {}  # epochs and numbers, the oldest first
        self._dropping = False
        self._has_dropped_entries = False  # so they have to be read again
        self._has_rewound = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether what is received next would be dropped."""
        return self._queue.full or self._dropping

    @property
    def dropping(self) -> bool:
        """Whether what is received is dropped, to be read again later."""
        return self._dropping

    # -- what is received --

    def receive(self, events: list[wire.Event]) -> None:
        """Queue the *events* of one frame, or drop them if the queue was full before."""
        full = self._queue.full
        for event in events:
            self.members.apply(event)
            if isinstance(event, wire.Welcome):
                if self._has_rewound and not self._session.is_rewinding:
                    # The queue was nearly empty when the client rewound, so there is room now.
                    self._dropping = self._has_dropped_entries = self._has_rewound = False
                self._epoch = event.epoch
                self.is_welcomed = True
                self.topic, self.slow_mode = event.topic or "", event.slow or 0
                if self.position is None:
                    self.position = self._queued = self._session.start
            elif isinstance(event, OperatorEvent) and event.act == "topic":
                self.topic = event.text
            elif isinstance(event, OperatorEvent) and event.act == "slow":
                self.slow_mode = event.seconds
            for item in self._items(event):
                self._add(item, full)

    def note(self, event: Event) -> None:
        """Queue an *event* about the connection."""
        self._add(Item(event), self._queue.full)

    def remember_own(self, message: wire.Message) -> tuple[str, int]:
        """Note that *message* is the echo of a message of this client. Return its epoch and number.

        Call it while the session receives it.
        """
        epoch = "" if self._session.cursor is None else self._session.cursor.epoch
        self._own[epoch, message.seq] = None
        while len(self._own) > MAX_OWN_REMEMBERED:
            del self._own[next(iter(self._own))]
        return epoch, message.seq

    def _add(self, item: Item, full: bool) -> None:
        if full or self._dropping:
            self._dropping = True
            self._has_dropped_entries |= item.cursor is not None
            return
        self._queue.put(item)
        self._queued = item.cursor or self._queued

    def _items(self, event: wire.Event) -> list[Item]:
        room = self._session.room
        match event:
            case wire.Message(seq=seq, name=name, text=text, at=at):
                own = (self._epoch, seq) in self._own
                message = Message(room, seq, name, text, at, own, self._epoch)
                return [Item(message, wire.Cursor(self._epoch, seq))]
            case wire.MessageHidden(seq=seq):
                # It may be about an older message, which does not change the position.
                is_older = self._queued is not None and seq <= self._queued.seq
                cursor = None if is_older else wire.Cursor(self._epoch, seq)
                return [Item(MessageHidden(room, seq), cursor)]
            case wire.PrivateMessage(name=name, to=to, text=text, at=at, id=id):
                return [Item(PrivateMessage(room, name, to, text, at, own=id is not None))]
            case wire.Welcome(missed=missed, recovered=recovered):
                gap = [] if recovered else [Item(Gap(room, missed))]
                return [*gap, Item(self._members_event(event.members), self._session.start)]
            case wire.Members():
                return [Item(self._members_event(event.members))]
            case wire.Joined(name=name, count=count, verified=verified, quiet=quiet):
                return [Item(Joined(room, name, count, bool(verified), bool(quiet)))]
            case wire.Left(name=name, count=count, quiet=quiet):
                return [Item(Left(room, name, count, bool(quiet)))]
            case wire.Renamed(name=name, to=to):
                return [Item(Renamed(room, name, to))]
            case OperatorEvent():
                return [Item(act_of(room, event))]
            case wire.Error(code=code, text=text, id=None):
                return [Item(Notice(room, code, strip_control(text)))]
        return []

    def _members_event(self, names: tuple[str, ...]) -> Members:
        return Members(self._session.room, names, self.members.count)

    # -- what is taken --

    def take(self) -> Item:
        """Remove the first item, and return it. Raises IndexError if there is none."""
        item = self._queue.take()
        self.position = item.cursor or self.position
        return item

    def put_back(self, item: Item, position: wire.Cursor | None) -> None:
        """Put back *item*, which was taken last; *position* is the one before it."""
        self._queue.put_back(item)
        self.position = position

    def read_on(self) -> wire.Cursor | None:
        """Return where the client has to read again, if it is time for that: call `rewind` then.

        If no log entries were dropped, events are queued again from now on.
        """
        if not self._dropping or self._has_rewound or not self._queue.nearly_empty:
            return None
        if not self._has_dropped_entries or self._queued is None:
            self._dropping = False
            self._queue.put(Item(self._members_event(self.members.names)))
            return None
        self._has_rewound = True
        return self._queued

    def clear(self) -> None:
        """Forget what the program has not taken."""
        self._queue.clear()
