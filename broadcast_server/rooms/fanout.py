"""The fan-out: encodes what happens in a room once, and works out which bytes each connection gets.

Theory of operation. A *batch* is what happens in a room between two writes: one turn of the event
loop, a few when the room is busy. Its events for everyone are collected in a list.
`Fanout.end_batch` returns them as a `Batch`, which encodes the list once for each format, so that
all participants with the same format get the very same *payloads*. A payload is the content of one
frame: lines, joined by line breaks.

Two kinds of participants do not get the common payloads of a batch:

- A participant with *private events*: it joined in the middle of the batch, or was sent something
  that the others were not. Its private events are inserted into the list at the positions at which
  they happened, so it too sees everything in the order in which it was decided.
- A participant that is *catching up*: it resumed at a number before the head of the log, or its
  connection is *paused* because its buffer is full. It is not sent messages as they come. It reads
  them from the log as fast as its connection takes them (`ready_to_read`, `catch_up`), so it costs
  no memory for messages, however slow it is. Events that are not in the log (joins, leaves, errors)
  wait for it in a queue. Each is marked with the number of the message before it, and is inserted
  into the replay after that message. When the participant has read to the head, it gets the common
  payloads again.

`live_room` calls `subscribe`, `broadcast`, `send_to` and `remove` while it carries out the room's
actions. All other methods are for the time between two batches, right after `end_batch`. There are
no sockets here, no clock and no await.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from broadcast_server.protocol.codec import encode_json, encode_sse, encode_text
from broadcast_server.protocol.messages import (
    Event,
    Format,
    Heartbeat,
    LogEntry,
    Members,
    Message,
    MessageHidden,
    Pong,
    PrivateMessage,
)

from .batch import Batch
from .participant import Participant
from .payloads import MAX_SERVER_FRAME_CHARS, Encoder, count_messages, merge, pack

MAX_BATCH_EVENTS = 4096
"""A batch with this many events for everyone is full and should end early."""

MAX_BATCH_CHARS = 2**20
"""A batch with this many characters of messages is full and should end early."""

NO_PAYLOADS: tuple[bytes, ...] = ()

MAX_WAITING_EVENTS = 4096
"""A participant that is catching up is too far behind if more events than this wait for it."""

MAX_PRIVATE_CHARS = 64 * 2**10
"""A participant takes no further private message while so many characters of them wait for it."""

PRIVATE_OVERHEAD_CHARS = 256
"""What a private message counts in addition, so that many short ones fill no queue of events."""


@dataclass(slots=True)
class _PrivateEvents:
    """What one participant gets in a batch instead of the common payloads."""

    start: int  # the position in the batch's list at which it begins
    events: list[tuple[int, Event]] = field(
        default_factory=list
    )  # (position in the batch, event to insert there)


@dataclass(slots=True)
class _CatchingUp:
    """How far one participant has read the log, and which other events wait for it."""

    seq: int  # it was sent every message up to this number
    paused: bool = False
    had_all: bool = False  # it fell behind, and did not begin so
    waiting: deque[tuple[int, Event]] = field(default_factory=deque)  # each after that number


class Fanout:
    """Collects the events of one room, and knows what each of its participants has not received.

    The room's log has the id *epoch*, and its newest message has the number *head*.
    """

    def __init__(self, head: int = 0, epoch: str = "") -> None:
        self._encoders: dict[Format, Encoder] = {
            Format.TEXT: encode_text,
            Format.JSON: encode_json,
            Format.SSE: partial(encode_sse, epoch=epoch),
        }
        self._head = head  # number of the newest message passed to `broadcast`
        self._sent = head  # number of the newest message in a batch that has ended
        self._delivered = 0  # see `take_delivered`
        self._events: list[Event] = []  # for everyone, in this batch
        self._chars = 0  # characters of the messages among them
        self._private: dict[Participant, _PrivateEvents] = {}
        self._catching_up: dict[Participant, _CatchingUp] = {}
        self._private_chars: dict[Participant, int] = {}  # of private messages that wait
        self._members_answered: set[Participant] = set()  # has an unsent `Members` in its events
        self._ready: dict[Participant, None] = {}  # see `take_ready`
        # What was encoded for participants that are catching up: log entries by number, and other
        # events by id(), with the event to keep that id in use.
        self._encoded_entries: dict[tuple[int, Format], str | None] = {}
        self._encoded_waiting: dict[Format, dict[int, tuple[Event, str | None]]] = {}
        self._encoded_chars = 0  # of all of it

    @property
    def is_batch_empty(self) -> bool:
        """Whether nothing has happened since the last batch."""
        return not (self._events or self._private)

    @property
    def full(self) -> bool:
        """Whether the batch should end now, so that what is not yet written stays bounded."""
        return len(self._events) >= MAX_BATCH_EVENTS or self._chars >= MAX_BATCH_CHARS

    # -- within a batch --

    def subscribe(self, participant: Participant, after: int, welcome: Event) -> None:
        """Start to send *participant* events: *welcome*, then all messages after number *after*.

        It has to catch up if *after* is before the head of the log.
        """
        if after < self._head:
            self._catching_up[participant] = _CatchingUp(after, waiting=deque([(after, welcome)]))
            self._ready[participant] = None
        else:
            position = len(self._events)
            self._private[participant] = _PrivateEvents(position, [(position, welcome)])

    def take_welcome(self, participant: Participant) -> list[bytes]:
        """Return the payloads with the welcome of *participant*, which has just subscribed.

        They can be sent at once, and the rest follows when the batch ends. There are none if the
        welcome has to wait: for messages that the participant has to catch up with, or for those
        of this batch, which count for it as sent.
        """
        private = self._private.get(participant)
        if private is None or self._head != self._sent:
            return []
        events, private.events = private.events, []
        encode = self._encoders[participant.join.format]
        return list(pack(encode(event) for _, event in events))

    def broadcast(self, event: Event) -> None:
        """Send *event* to all participants that are subscribed now."""
        self._events.append(event)
        if type(event) is Message:
            self._head = event.seq
            # Count what a text client gets: the name is in front of every line.
            line_count = len(event.text.splitlines())
            self._chars += len(event.text) + line_count * (len(event.name) + 2)
        elif type(event) is MessageHidden and event.seq > self._head:
            self._head = event.seq  # a hidden message takes its message's number
        else:
            waiting = self._head, event  # one for all: a thousand may wait for a thousand joins
            for state in self._catching_up.values():
                state.waiting.append(waiting)

    def broadcast_lines(self, messages: list[Message]) -> None:
        """Send *messages* of one author, each of one line, to all participants."""
        self._events += messages
        self._head, prefix_size = messages[-1].seq, len(messages[0].name) + 2
        self._chars += sum([prefix_size + len(each.text) for each in messages])

    def send_to(self, participant: Participant, event: Event) -> None:
        """Send *event* to *participant* only, in order with the events for everyone.

        A participant gets only one of several answers to `/who` that are not yet sent: a request
        is about ten bytes, and its answer can be a hundred thousand.
        """
        if type(event) is Members:
            if participant in self._members_answered:
                return
            self._members_answered.add(participant)
        state = self._catching_up.get(participant)
        if state is not None:
            state.waiting.append((self._head, event))
        else:
            private = self._private.setdefault(participant, _PrivateEvents(0))
            private.events.append((len(self._events), event))

    def takes_private(self, participant: Participant) -> bool:
        """Return whether *participant* can be sent a private message: few wait for it.

        A private message is not in the log, so it waits in memory until the participant takes it.
        """
        return self._private_chars.get(participant, 0) < MAX_PRIVATE_CHARS

    def send_private(self, participant: Participant, message: PrivateMessage) -> None:
        """Send *participant* a private message, in order with the events for everyone."""
        waiting = self._private_chars.get(participant, 0)
        self._private_chars[participant] = waiting + len(message.text) + PRIVATE_OVERHEAD_CHARS
        self.send_to(participant, message)

    def remove(self, participant: Participant) -> Iterator[bytes]:
        """Forget *participant*, and return the payloads that it has not been sent yet.

        The payloads are encoded only when you iterate over them: do that at once, or never
        (`LiveRoom.leave` discards them). When 5,000 connections are lost in one batch, encoding
        every leave for each of them would take 15 seconds.

        A participant that is catching up does not get messages that it has not read, nor any pong
        or heartbeat after them. A client takes those as proof that it has all messages before
        them: it would resume after the missing ones, and never receive them.
        """
        format = participant.join.format
        self._members_answered.discard(participant)
        self._private_chars.pop(participant, None)
        self._ready.pop(participant, None)
        state = self._catching_up.pop(participant, None)
        if state is not None:
            unsent = [
                event
                for after, event in state.waiting
                if after <= state.seq or type(event) not in (Pong, Heartbeat)
            ]
            return pack(map(self._encoders[format], unsent))
        private = self._private.pop(participant, _PrivateEvents(0))
        return pack(self._unsent_lines(private, format))

    # -- between batches --

    def end_batch(self) -> Batch:
        """End the batch, return it, and begin the next one."""
        batch = Batch(self._events, self._encoders)
        if self._events:
            batch.private = dict.fromkeys(self._catching_up, NO_PAYLOADS)
        for participant, private in self._private.items():
            format = participant.join.format
            lines = merge(
                private.start, private.events, batch.encoded(format), self._encoders[format]
            )
            batch.private[participant] = list(pack(lines))
            not_received = count_messages(self._events[: private.start])
            self._delivered += batch.message_count - not_received
        self._events, self._chars, self._private, self._sent = [], 0, {}, self._head
        self._members_answered &= self._catching_up.keys()
        if self._private_chars:
            behind = self._private_chars.keys() & self._catching_up.keys()
            self._private_chars = {each: self._private_chars[each] for each in behind}
        if not self._catching_up:
            self.forget_encoded()
        return batch

    def forget_encoded(self) -> None:
        """Forget what was encoded for participants that are catching up.

        The caller has to do so when an entry that it passes to `catch_up` may have changed.
        """
        self._encoded_entries.clear()
        self._encoded_waiting.clear()
        self._encoded_chars = 0

    def take_delivered(self) -> int:
        """Return how many messages were in payloads for one participant, since the last call."""
        delivered, self._delivered = self._delivered, 0
        return delivered

    def pause(self, participant: Participant) -> None:
        """Send *participant* nothing for now, because its connection is full."""
        fresh = _CatchingUp(self._sent, had_all=True)
        self._catching_up.setdefault(participant, fresh).paused = True

    def resume(self, participant: Participant) -> None:
        """Let *participant* catch up if it was paused: its connection has room again."""
        if participant in self._catching_up:
            self._catching_up[participant].paused = False
            self._ready[participant] = None

    def ready_to_read(self) -> list[tuple[Participant, int]]:
        """Return the participants that can be sent log entries now, for `catch_up`.

        With each comes its position: the number after which it continues to read.
        """
        return [
            (participant, state.seq)
            for participant, state in self._catching_up.items()
            if not state.paused
        ]

    def take_ready(self) -> list[tuple[Participant, int]]:
        """Return those of them that have begun to catch up, or were resumed, since the last call.

        The caller has to care for them until they have caught up, are paused or removed.
        """
        if not self._ready:
            return []
        ready, self._ready = self._ready, {}
        states = [(each, self._catching_up.get(each)) for each in ready]
        return [(each, state.seq) for each, state in states if state and not state.paused]

    def position(self, participant: Participant) -> int | None:
        """Return up to which number *participant* has read, None if it is not catching up."""
        state = self._catching_up.get(participant)
        return None if state is None else state.seq

    def had_all(self, participant: Participant) -> bool:
        """Return whether *participant*, which is catching up, had everything before."""
        return self._catching_up[participant].had_all

    @property
    def behind_count(self) -> int:
        """How many participants are catching up, paused or not."""
        return len(self._catching_up)

    def too_far_behind(self) -> list[Participant]:
        """Return the participants for which more than `MAX_WAITING_EVENTS` events wait."""
        return [
            participant
            for participant, state in self._catching_up.items()
            if len(state.waiting) > MAX_WAITING_EVENTS
        ]

    def catch_up(self, participant: Participant, entries: Sequence[LogEntry]) -> list[bytes]:
        """Return the payloads for *participant* made of *entries*, and of events between them.

        *entries* are the next ones of the log after its position. After the last one, the
        participant is no longer catching up.
        """
        state = self._catching_up[participant]
        if self._encoded_chars > MAX_BATCH_CHARS:
            self.forget_encoded()
        self._delivered += count_messages(entries)
        if entries:
            state.seq = entries[-1].seq
        payloads = list(pack(self._interleave(participant, state.waiting, entries)))
        if state.seq >= self._sent:
            del self._catching_up[participant]
            self._ready.pop(participant, None)
            self._private_chars.pop(participant, None)
        return payloads

    def _interleave(
        self,
        participant: Participant,
        waiting: deque[tuple[int, Event]],
        entries: Sequence[LogEntry],
    ) -> Iterator[str | None]:
        """Encode *entries*, with the *waiting* events in their places between them."""
        format = participant.join.format
        for entry in entries:
            while waiting and waiting[0][0] < entry.seq:
                yield self._encode_waiting(participant, waiting.popleft()[1])
            # Encode each entry once for all: after a restart, a thousand clients reconnect with
            # the same few cursors.
            key = entry.seq, format
            if key not in self._encoded_entries:
                line = self._encoded_entries[key] = self._encoders[format](entry)
                self._encoded_chars += len(line or "")
            yield self._encoded_entries[key]
        seq = entries[-1].seq if entries else self._sent
        if waiting and waiting[-1][0] <= seq:
            yield from self._encode_all_waiting(participant, waiting)
            waiting.clear()
        while waiting and waiting[0][0] <= seq:
            yield self._encode_waiting(participant, waiting.popleft()[1])

    def _encode_all_waiting(
        self, participant: Participant, waiting: deque[tuple[int, Event]]
    ) -> list[str]:
        """Encode all events that waited, in one piece if that fits into a payload.

        Of 5,000 clients that come back at once, each waits for some hundred joins, which others
        have waited for. This takes a fifth of the time that they take one by one.
        """
        known = self._encoded_waiting.get(participant.join.format, {})
        try:
            lines = [known[id(event)][1] for _, event in waiting]
        except KeyError:
            lines = [self._encode_waiting(participant, event) for _, event in waiting]
        found = [line for line in lines if line is not None]
        piece = "\n".join(found)
        return [piece] if found and len(piece) < MAX_SERVER_FRAME_CHARS else found

    def _encode_waiting(self, participant: Participant, event: Event) -> str | None:
        """Encode an event that waited, once for all: many clients wait for the same joins."""
        if type(event) is Members:
            self._members_answered.discard(participant)
        format = participant.join.format
        known = self._encoded_waiting.setdefault(format, {})
        if id(event) not in known:
            line = self._encoders[format](event)
            known[id(event)] = event, line
            self._encoded_chars += len(line or "")
        return known[id(event)][1]

    def _unsent_lines(self, private: _PrivateEvents, format: Format) -> Iterator[str | None]:
        encode = self._encoders[format]
        lines = [encode(event) for event in self._events]
        yield from merge(private.start, private.events, lines, encode)
