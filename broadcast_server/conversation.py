"""A conversation: what one client has said, seen, and is still owed.

It outlives every connection. What was said and has not come back stays in the
*outbox* and is said again, under the same id, on the next connection; what was
seen is remembered as a cursor, from which that connection begins.

A connection begins with a welcome and a replay. Our own ping, sent at once, is
answered after the replay: from its pong on the conversation is *live*. Before
that, nothing is said again, because the replay may hold its echo; after it,
numbers have no gaps, or something was lost.

The cursor never says less than we were told. The welcome alone moves it: to
where a newcomer's replay begins, past what it says is missed, to the beginning
of a log that is another one. So a connection may be cut at any moment, again and
again: the next one misses nothing, and counts nothing as missing twice.

It knows no socket and no clock.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import replace
from urllib.parse import urlencode

from .protocol import (
    Cursor,
    Error,
    Event,
    Head,
    Hidden,
    Message,
    Ping,
    Pong,
    Rename,
    Renamed,
    Request,
    Say,
    Welcome,
    json_line,
    parse_event,
)

WINDOW = 1000
"""So many messages may be without their echo; whoever reads input waits then."""

FRAME = 32 * 2**10
"""A frame takes no further line when it has so many characters: with the longest line, in the
longest encoding, it is still under the server's 1 MiB."""


class Gap(Exception):
    """Something that we should have seen did not come: come back by the cursor."""


class Conversation:
    """One client's part in one room, across all its connections."""

    def __init__(
        self,
        name: str | None,
        room: str | None,
        history: int = 0,
        since: Cursor | None = None,
    ) -> None:
        self.name = name or "anonymous"
        """Who we are: as asked for, and once welcomed as the room has it."""
        self.room = room or "lobby"
        """Where we are; once welcomed as the room calls itself."""
        self.live = False
        self.looking_back = False
        """Whether this connection's replay begins with what was seen already."""
        self.refused = 0  # messages that the room would not take
        self._asked = {"name": name, "room": room}
        self._history = history
        self._session = secrets.token_urlsafe(24)
        self._cursor = since  # from which the next connection begins
        self._seen = since.seq if since else 0  # the last message taken of the cursor's log
        self._back = 0  # so many messages are to be seen again on the next connection
        self._since: Cursor | None = None  # from which this connection was to begin
        self._welcome: Welcome | None = None  # of this connection
        self._ping = ""
        self._outbox: dict[str, Say] = {}  # by id, in order
        self._unsent: deque[Request] = deque()
        self._wish: Rename | None = None  # without its answer

    # -- what we say --

    def say(self, text: str) -> None:
        """Say *text*, now or when that is possible."""
        say = Say(text, secrets.token_urlsafe(9))
        self._outbox[say.id or ""] = say
        if self.live:
            self._unsent.append(say)

    def rename(self, name: str) -> None:
        """Ask for another name, now or when that is possible."""
        self._wish = Rename(name, secrets.token_urlsafe(6))
        self.ask(self._wish)

    def look_back(self, count: int) -> None:
        """See the last *count* messages again, on the next connection.

        The wire has no request for them. A connection that begins with an older cursor
        takes this one's place without anyone being told.
        """
        self._back = count

    def elsewhere(self, room: str) -> Conversation:
        """Begin a conversation in another room, as who we are here."""
        return Conversation(self._asked["name"], room, self._history)

    def be(self, other: Conversation) -> None:
        """Ask for the name that *other* asks for, whenever we come back."""
        self._asked["name"] = other._asked["name"]

    def ask(self, request: Request) -> None:
        """Send *request* if the conversation is live; it is not kept for later."""
        if self.live:
            self._unsent.append(request)

    def outgoing(self) -> str | None:
        """Return the next frame to send, None if there is none."""
        lines: list[str] = []
        size = 0
        while self._unsent and size < FRAME:
            lines.append(json_line(self._unsent.popleft()))
            size += len(lines[-1])
        return "\n".join(lines) if lines else None

    def __len__(self) -> int:
        """Count the messages that have not come back."""
        return len(self._outbox)

    @property
    def full(self) -> bool:
        """Whether so much has not come back that more should wait."""
        return len(self._outbox) >= WINDOW

    # -- connections --

    @property
    def welcomed(self) -> bool:
        """Whether this connection was let in."""
        return self._welcome is not None

    @property
    def cursor(self) -> Cursor | None:
        """The place in the log up to which everything was received, None before any welcome."""
        return self._cursor

    def query(self) -> str:
        """Return the query of the next connection, percent-encoded."""
        asked = {key: value for key, value in self._asked.items() if value is not None}
        asked["session"] = self._session
        self._since = self._cursor
        if self._since is not None:
            self._since = replace(self._since, seq=max(0, self._since.seq - self._back))
            asked["since"] = str(self._since)
        elif self._history:
            asked["history"] = str(self._history)
        return urlencode(asked)

    def lost(self) -> None:
        """Note that the connection is gone."""
        self.live = self.looking_back = False
        self._welcome = None
        self._unsent.clear()

    def received(self, frame: str) -> list[Event]:
        """Take a frame, and return the events in it that are new.

        Raises ValueError for what no broadcast server sends, `Gap` for a loss.
        """
        cursor, seen = self._cursor, self._seen
        events: list[Event] = []
        try:
            for line in frame.split("\n"):
                event = parse_event(line)
                if isinstance(event, Welcome):
                    event = self._from_here(event)
                if event is not None and self._take(event):
                    events.append(event)
        except Gap:
            # What came before the gap reaches nobody either, so it has to come again.
            self._cursor, self._seen = cursor, seen
            raise
        return events

    def _take(self, event: Event) -> bool:
        """Take note of *event*; False if nobody else needs to."""
        match event:
            case Message():
                return self._message(event)
            case Hidden(seq=seq, id=id):
                # It stands for a message that we did not receive, unless it is about one before
                # our cursor: a moderator may hide that at any time.
                if self._cursor is not None and seq > max(self._seen, self._cursor.seq):
                    self._advance(seq)
                self._outbox.pop(id or "", None)
            case Head(seq=seq):
                if self.live and seq > self._seen:
                    raise Gap
            case Welcome():
                self._welcomed(event)
            case Pong(id=self._ping) if not self.live:
                self._caught_up()
                return False
            case Renamed(name=self.name, to=to):
                self.name = self._asked["name"] = to
                self._wish = None
            case Error(id=str() as id) if self._wish is not None and id == self._wish.id:
                self._wish = None
            case Error(code=code, id=str() as id) if id in self._outbox:
                del self._outbox[id]
                if code == "duplicate":  # as good as an echo
                    return False
                self.refused += 1
        return True

    def _from_here(self, welcome: Welcome) -> Welcome:
        """Count as missed what we have not seen, however far back we asked for."""
        cursor, since = self._cursor, self._since
        same = cursor is not None and since is not None and welcome.epoch == cursor.epoch
        self.looking_back = same and self._back > 0 and welcome.missed is not None
        if not self.looking_back or cursor is None or since is None:
            return welcome
        missed = max(0, since.seq + (welcome.missed or 0) - cursor.seq)
        return replace(welcome, recovered=not missed, missed=missed)

    def _welcomed(self, welcome: Welcome) -> None:
        self.name, self.room = welcome.name, welcome.room
        self._back = 0
        self._welcome = welcome
        epoch, cursor, missed = welcome.epoch, self._cursor, welcome.missed
        if cursor is None:
            self._cursor = Cursor(epoch, max(0, welcome.seq - self._history))
        elif cursor.epoch != epoch or missed is None:  # or a log that was set back
            self._cursor, self._seen = Cursor(epoch, 0), 0
        else:
            self._cursor = Cursor(epoch, cursor.seq + missed)
        self._ping = secrets.token_urlsafe(6)
        self._unsent.append(Ping(self._ping))

    def _caught_up(self) -> None:
        if self._welcome is None:
            raise ValueError("pong came before welcome")
        self._seen = max(self._seen, self._welcome.seq)
        self._cursor = Cursor(self._welcome.epoch, self._seen)
        self.live, self.looking_back = True, False
        if self._wish is not None:
            self._unsent.append(self._wish)
        self._unsent.extend(self._outbox.values())

    def _message(self, message: Message) -> bool:
        if message.seq <= self._seen:
            return self.looking_back
        self._advance(message.seq)
        # Ids are made at random: before the log has ours, nobody else can know it.
        if message.id is not None:
            self._outbox.pop(message.id, None)
        return True

    def _advance(self, seq: int) -> None:
        if self._welcome is None:
            raise ValueError("message came before welcome")
        if self.live and seq != self._seen + 1:
            raise Gap
        self._seen = seq
        self._cursor = Cursor(self._welcome.epoch, seq)


def left_early(unheard: int) -> str:
    """Say that something may not have been heard."""
    messages = "1 message" if unheard == 1 else f"{unheard} messages"
    return f"left before {messages} came back"


def missed_words(missed: int | None) -> str:
    """Say how much of the room is missing at this place."""
    match missed:
        case None:
            return "-- messages may be missing --"
        case 1:
            return "-- 1 message missed --"
        case _:
            return f"-- {missed} messages missed --"
