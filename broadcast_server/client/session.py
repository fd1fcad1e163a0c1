"""The client session: what one client has published, received, and has no echo for yet.

A session outlives its connections. It knows no socket and no clock: `client.client` connects,
passes received frames to `receive`, and sends what `outgoing` returns.

- **Outbox.** A published message stays in the *outbox* until its echo arrives. A new connection
  resends the outbox with the same ids, so that the server publishes no message twice.
- **Cursor.** The position in the log up to which everything was received. The next connection asks
  for what follows it.
- **Live.** A connection begins with a welcome and a replay of the log. The session sends a ping at
  once; its pong follows the replay, and from then on the connection is *live*. Until then nothing
  is resent, because its echo may be in the replay. From then on the sequence numbers have no gaps:
  a gap means that a message was lost.

The cursor never falls behind what the server has reported. After each welcome the cursor is where
that welcome says the replay begins: as far back as a new client asks for, after the messages that
the welcome reports as missed, or at the beginning of another log. Only the messages that
`show_again` asks for come before it. So a connection may break at any moment, any number of times:
the next one misses no message, and counts none as missed twice.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

from broadcast_server.protocol.codec import decode_event, encode_json
from broadcast_server.protocol.messages import (
    Cursor,
    Error,
    Event,
    Heartbeat,
    Message,
    MessageHidden,
    PingRequest,
    Pong,
    PrivateMessage,
    Renamed,
    Request,
    Welcome,
)
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest
from broadcast_server.protocol.session_key import SESSION_HEADER

from .open_requests import OpenRequests
from .outbox import Outbox
from .private_outbox import PrivateOutbox

MAX_CLIENT_FRAME_CHARS = 32 * 2**10
"""Characters after which a frame takes no further line. With one more line of the greatest length,
in its longest encoding, it is still under the server's limit of 1 MiB."""


class GapError(Exception):
    """A message was lost. A new connection receives it, because the cursor is before it."""


class ClientSession:
    """One client's part in one room, across all its connections.

    Args:
        name: Name to ask for; None leaves it to the address's query, or to the server.
        room: Room to join; None leaves it to the address's query, or to the server.
        history: Number of older messages to receive at the first connection.
        since: Position in the log to continue from, instead of *history*.
        quiet: Whether people are not to be told of our join and leave; the address's query may ask
            for that as well.
    """

    def __init__(
        self,
        name: str | None,
        room: str | None,
        history: int = 0,
        since: Cursor | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        self.name = name or "anonymous"
        """Our name: the requested one, and after the welcome the one that the room gave us."""
        self.room = room or "lobby"
        """The room: the requested one, and after the welcome its name in the welcome."""
        self.live = False
        """Whether the replay of this connection is over."""
        self.showing_again = False
        """Whether the replay of this connection begins with messages that are shown again."""
        self.rejected = 0
        """Number of our messages that the server has rejected."""
        self.on_settled: Callable[[str, Event], None] | None = None
        """Called with the id of each request and the event that answers it: a message's echo, or
        an error; `Renamed` or an error for a new name; what an operator did, or an error."""
        self.start: Cursor | None = None
        """The position in the log after which this connection's replay begins."""
        self._requested = {"name": name, "room": room}
        self._given_name: str | None = None  # by the room: the next connection asks for it
        self._history = history
        self._quiet = quiet
        self._secret = secrets.token_urlsafe(24)  # the protocol calls it the session
        self._cursor = since  # where the next connection begins
        # The last message received of the cursor's log. Until the replay is over, the cursor may be
        # ahead of it: a welcome moves the cursor, but a message that the address's query asked for
        # may still follow, and is shown because it was not received before.
        self._last_seq = since.seq if since else 0
        self._show_again_count = 0  # older messages that the next connection shows again
        self._asked_since: Cursor | None = None  # the cursor that this connection has asked for
        self._rewind_to: Cursor | None = None  # where the next connection begins instead
        self._welcome: Welcome | None = None  # of this connection
        self._ping = ""  # id of the ping whose pong ends the replay
        self.outbox = Outbox()
        self._unsent: deque[Request] = deque()  # requests for this connection
        self._open = OpenRequests()
        self.private = PrivateOutbox()

    @property
    def requested_name(self) -> str | None:
        """The name that the user asked for last, None if the server chooses one."""
        return self._requested["name"]

    # -- requests --

    def send(self, text: str) -> str:
        """Publish *text*, now or as soon as the session is live. Return the message's id."""
        say = self.outbox.add(text)
        if self.live:
            self._unsent.append(say)
        return say.id or ""

    def withdraw(self, id: str) -> None:
        """Do not send the message *id* any more. It may be published all the same, if it was sent.

        It stays in the outbox until the end of the next replay, so that its echo is still known.
        """
        say = self.outbox.withdraw(id)
        self._unsent = deque(each for each in self._unsent if each is not say)

    def rename(self, name: str) -> str:
        """Ask for another name, now or as soon as the session is live. Return the request's id."""
        id = secrets.token_urlsafe(6)
        self.request(self._open.rename(name, id))
        return id

    def send_private(self, to: str, text: str) -> str | None:
        """Send *text* to the member *to* alone. Return its id, None if that is impossible now."""
        if not self.live or self.private.full:
            return None
        request = self.private.add(to, text)
        self._unsent.append(request)
        return request.id

    def operate(self, request: OperatorRequest) -> str:
        """Ask for what an operator does, like `rename`. Return the request's id."""
        request = self._open.operate(request)
        self.request(request)
        return request.id or ""

    def rewind(self, to: Cursor) -> None:
        """Have the next connection receive everything after *to*, also what was received before."""
        self._rewind_to = to

    @property
    def is_rewinding(self) -> bool:
        """Whether `rewind` waits for the next connection."""
        return self._rewind_to is not None

    def show_again(self, count: int) -> None:
        """Show the last *count* messages again, on the next connection.

        The protocol has no request for them. A connection with an older cursor takes over the
        session, and the other members see nothing of it.
        """
        self._show_again_count = count

    def in_room(self, room: str) -> ClientSession:
        """Return a new session for *room*, with the name that this one asked for."""
        return ClientSession(self._requested["name"], room, self._history, quiet=self._quiet)

    def adopt_name(self, other: ClientSession) -> None:
        """Ask for the name that *other* asked for, unless we did: then the room's is kept."""
        if self._requested["name"] != other._requested["name"]:
            self._requested["name"], self._given_name = other._requested["name"], None

    def request(self, request: Request) -> None:
        """Send *request* if the session is live; otherwise drop it."""
        if self.live:
            self._unsent.append(request)

    def outgoing(self) -> str | None:
        """Return the next frame to send, None if there is nothing to send."""
        lines: list[str] = []
        size = 0
        while self._unsent and size < MAX_CLIENT_FRAME_CHARS:
            lines.append(encode_json(self._unsent.popleft()))
            size += len(lines[-1])
        return "\n".join(lines) if lines else None

    def __len__(self) -> int:
        """Return the number of messages without their echo."""
        return len(self.outbox)

    @property
    def full(self) -> bool:
        """Whether so much is without its echo that nothing should be added."""
        return self.outbox.full

    # -- connections --

    @property
    def is_welcomed(self) -> bool:
        """Whether this connection has received its welcome."""
        return self._welcome is not None

    @property
    def cursor(self) -> Cursor | None:
        """The position in the log up to which everything was received.

        None before the first welcome, unless the session was created with *since*.
        """
        return self._cursor

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each connection: the session, which a server's log must not have."""
        return {SESSION_HEADER: self._secret}

    def query(self) -> str:
        """Return the URL query of the next connection, percent-encoded."""
        # Without the number that the room gave us, two clients of one name could swap their names.
        asked = {**self._requested, "name": self._given_name or self._requested["name"]}
        parameters = {key: value for key, value in asked.items() if value is not None}
        if self._rewind_to is not None:
            self._cursor, self._last_seq = self._rewind_to, self._rewind_to.seq
            self._rewind_to = None
        self._asked_since = self._cursor
        if self._asked_since is not None:
            self._asked_since = replace(
                self._asked_since, seq=max(0, self._asked_since.seq - self._show_again_count)
            )
            parameters["since"] = str(self._asked_since)
        elif self._history:
            parameters["history"] = str(self._history)
        if self._quiet:
            parameters["quiet"] = "1"
        return urlencode(parameters)

    def connection_lost(self) -> None:
        """Prepare for the next connection. The outbox and the cursor are kept."""
        self.live = self.showing_again = False
        self._welcome = None
        self._unsent.clear()
        for id, error in self.private.connection_lost():
            if self.on_settled is not None:
                self.on_settled(id, error)

    def receive(self, frame: str) -> list[Event]:
        """Process a frame, and return the events to show.

        Raises ValueError if no broadcast server sends such a frame, GapError if a message was lost.
        """
        cursor, last_seq = self._cursor, self._last_seq
        events: list[Event] = []
        try:
            for line in frame.split("\n"):
                event = decode_event(line)
                if isinstance(event, Welcome):
                    event = self._adjust_missed(event)
                if event is not None and self._apply(event):
                    events.append(event)
        except (GapError, ValueError):
            # The events before it are not shown either, so they have to be received again.
            self._cursor, self._last_seq = cursor, last_seq
            raise
        return events

    def _apply(self, event: Event) -> bool:
        """Update the session by *event*, and tell whether to show it."""
        match event:
            case Message():
                return self._apply_message(event)
            case MessageHidden(seq=seq, id=id):
                # It stands for a message that we did not receive, unless it is about one before
                # our cursor: a moderator may hide that at any time.
                if self._cursor is not None and seq > max(self._last_seq, self._cursor.seq):
                    self._advance(seq)
                self._confirm(id, event)
            case Heartbeat(seq=seq):
                if self.live and seq > self._last_seq:
                    raise GapError
            case Welcome():
                self._apply_welcome(event)
            case Pong(id=self._ping) if not self.live:
                self._caught_up()
                return False
            case Renamed(name=self.name, to=to):
                self.name = self._given_name = self._requested["name"] = to
                self._settle(self._open.settle_rename(), event)
            case PrivateMessage(id=str() as id) | Error(id=str() as id) if self.private.settle(id):
                self._settle(id, event)
            case OperatorEvent(id=str() as id) | Error(id=str() as id) if self._open.settle(id):
                self._settle(id, event)
            case Error(code=code, id=str() as id) if id in self.outbox:
                if parts := self.outbox.shorten(id, code, event.text):
                    self._unsent.extend(parts)
                    return False
                self._confirm(id, event)
                if code == "duplicate":  # the log has the message, as an echo would tell
                    return False
                self.rejected += 1
        return True

    def _adjust_missed(self, welcome: Welcome) -> Welcome:
        """Return *welcome*, corrected after `show_again`.

        Messages that we have seen, and only asked to see again, do not count as missed.
        """
        cursor, since = self._cursor, self._asked_since
        same_log = cursor is not None and since is not None and welcome.epoch == cursor.epoch
        self.showing_again = same_log and self._show_again_count > 0 and welcome.missed is not None
        if not self.showing_again or cursor is None or since is None:
            return welcome
        missed = max(0, since.seq + (welcome.missed or 0) - cursor.seq)
        return replace(welcome, recovered=not missed, missed=missed)

    def _apply_welcome(self, welcome: Welcome) -> None:
        epoch, cursor, missed = welcome.epoch, self._cursor, welcome.missed
        if self._welcome is not None:  # each one is answered, so their number must have a bound
            raise ValueError("welcome came twice")
        if not welcome.name:
            raise ValueError("welcome has no name")
        self.name, self.room = welcome.name, welcome.room
        self._given_name = welcome.name
        self._show_again_count = 0
        self._welcome = welcome
        self.outbox.set_limit(welcome.max_bytes)
        if cursor is None:
            self._cursor = Cursor(epoch, max(0, welcome.seq - self._history))
        elif cursor.epoch != epoch or missed is None:  # the log is another one, or is shorter now
            self._cursor, self._last_seq = Cursor(epoch, 0), 0
        elif cursor.seq + missed > max(cursor.seq, welcome.seq):
            raise ValueError("welcome reports more messages as missed than there are")
        else:
            self._cursor = Cursor(epoch, cursor.seq + missed)
        self.start = self._cursor
        self._ping = secrets.token_urlsafe(6)
        self._unsent.append(PingRequest(self._ping))

    def _caught_up(self) -> None:
        if self._welcome is None:
            raise ValueError("pong came before welcome")
        self._last_seq = max(self._last_seq, self._welcome.seq)
        self._cursor = Cursor(self._welcome.epoch, self._last_seq)
        self.live, self.showing_again = True, False
        self._unsent.extend(self._open.all())
        # What was withdrawn and has no echo by now was not published, and will not be.
        self.outbox.drop_withdrawn()
        self.outbox.refit()
        self._unsent.extend(self.outbox)

    def _apply_message(self, message: Message) -> bool:
        if message.seq <= self._last_seq:
            return self.showing_again
        self._advance(message.seq)
        # Ids are random: nobody else can use ours before the log has it.
        if message.id is not None:
            self._confirm(message.id, message)
        return True

    def _confirm(self, id: str | None, answer: Event) -> None:
        """Forget the message with *id*, if it is one of ours: it need not be sent again."""
        if id is not None and id in self.outbox:
            self.outbox.remove(id)
            self._settle(id, answer)

    def _settle(self, id: str | None, answer: Event) -> None:
        if id is not None and self.on_settled is not None:
            self.on_settled(id, answer)

    def _advance(self, seq: int) -> None:
        if self._welcome is None:
            raise ValueError("message came before welcome")
        if self.live and seq != self._last_seq + 1:
            raise GapError
        self._last_seq = seq
        self._cursor = Cursor(self._welcome.epoch, seq)
