"""A live room: a `Room`, its fan-out, and the connections of its participants.

`LiveRoom` carries out the actions that `Room` returns, at once and without awaiting. It collects
the resulting events in a `Fanout`, and writes them to all connections when the batch ends. A
*batch* is what happens in a room between two writes: one turn of the event loop, a few when the
room is busy.

The standalone server and the Django deployment differ in two steps, which subclasses provide: how
a published message gets its number and is passed to `deliver` (`_publish`), and where a
participant that is behind reads on (`_catch_up`). The subclasses are `LocalRoom` and the Django
deployment's `RoomReplica`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from broadcast_server.protocol.messages import (
    NORMAL_CLOSURE,
    CloseCode,
    Cursor,
    Event,
    Format,
    Heartbeat,
    LogEntry,
    Message,
    PrivateMessage,
)
from broadcast_server.protocol.rejection import TOO_SLOW, Rejection

from .actions import (
    Action,
    ClaimName,
    Close,
    NoteAct,
    Operate,
    Publish,
    PublishLines,
    RoutePrivate,
    Send,
    SendPrivate,
    Subscribe,
)
from .batch_timer import BatchTimer
from .delegated_actions import DelegatedActions
from .fanout import Fanout
from .metrics import Metrics
from .participant import Participant
from .payloads import join_frames
from .receiver import FrameEncoder, Receiver, StreamReceiver
from .room import Room

READ_CHUNK_MESSAGES = 64
"""How many messages are read from the log at most at a time for a participant that is behind."""

READ_CHUNK_BYTES = 64 * 2**10
"""No more is read after so many bytes of text."""

MAX_JOINS_PER_BATCH = 512
"""A batch ends after this many joins. A participant that joins in a batch gets private lines, one
for each join after its own in that batch. Joins in a later batch reach it in a frame that is common
to all. Without this limit, 5,000 clients that reconnect at once would need 12 million lines."""


class LiveRoom(DelegatedActions, ABC):
    """One room, and the connections of its members and subscribers.

    *on_close* is called with the receiver and the code of every connection that the room closes
    because of a rejection.
    """

    def __init__(
        self, room: Room, on_close: Callable[[Receiver, CloseCode], None], metrics: Metrics
    ) -> None:
        self.room = room
        self.is_abandoned = False
        """Whether everyone was closed by `abandon`, and what was published last is forgotten."""
        self._metrics = metrics
        self._on_close = on_close
        self._fanout = Fanout(room.log.head, room.log.epoch)
        self._receivers: dict[Participant, Receiver] = {}
        self._polling: set[Participant] = set()  # closed as soon as they have caught up
        # Participants whose receivers were paused or resumed since the last batch.
        self._flow_changes: dict[Participant, Receiver] = {}
        self._joins_in_batch = 0
        self._after_batch: list[Callable[[], None]] = []  # to be called when the batch has ended
        self._batch_bytes = 0  # what the last batch brought one of its receivers
        self._timer = BatchTimer(self.flush)

    # -- what a subclass provides --

    @abstractmethod
    def _publish(self, action: Publish) -> None:
        """Log a message, and have it passed to `deliver` with its number, now or later.

        A duplicate goes to `Room.acknowledge_duplicate` instead.
        """

    def _publish_lines(self, action: PublishLines) -> None:
        """Do the same for several messages."""
        for text in action.texts:
            self._publish(Publish(action.author, text, None, action.name))

    def _send_to(self, participant: Participant, event: Event) -> None:
        """Send *event* to one participant, in order after the answers to its earlier requests."""
        self._fanout.send_to(participant, event)

    def _persist(self) -> bool:
        """Write new messages to disk, if they are to outlive the process, before they are sent.

        Returns whether they may be sent.
        """
        return True  # a log in a database is persistent already

    @abstractmethod
    def _catch_up(self) -> list[Participant]:
        """Send the participants that are behind what they have not received from the log.

        Return those that cannot catch up, because the log no longer reaches back to their position.
        """

    # -- what happens --

    def join(self, member: Participant, receiver: Receiver) -> None:
        """Add *member*, and send it what it gets on *receiver* from now on."""
        *others, subscribe = self.room.connect(member)
        # These events are not for the new member, and they can fill the batch, which is then
        # written. So they come before it has a receiver.
        self._execute(others, announces=True)
        self._receivers[member] = receiver
        self._execute([subscribe], announces=True)
        # The welcome does not wait for what is announced to the others.
        if welcome := self._fanout.take_welcome(member):
            self._write_to(member, welcome)
        self._count_join()

    def subscribe(
        self, subscriber: Participant, receiver: StreamReceiver, *, poll: bool = False
    ) -> None:
        """Add *subscriber*. With *poll*, close it as soon as it has received what there is."""
        self._receivers[subscriber] = receiver
        if poll:
            self._polling.add(subscriber)
        actions = self.room.subscribe(subscriber)
        receiver.start(Cursor(self.room.log.epoch, subscriber.after_seq))
        self._execute(actions)
        self._count_join()

    def _count_join(self) -> None:
        self._joins_in_batch += 1
        if self._joins_in_batch >= MAX_JOINS_PER_BATCH:
            self.flush()

    def receive(self, member: Participant, frame: str) -> None:
        """Handle a frame that *member* sent."""
        self._execute(self.room.receive(member, frame))

    def deliver(self, entry: LogEntry) -> None:
        """Send *entry*, which has its number in the log, to everyone."""
        if type(entry) is Message:  # nearly always: what `Room.deliver` returns for it
            self._broadcast(entry)
            self._timer.schedule()
        else:
            self._execute(self.room.deliver(entry))

    def leave(self, participant: Participant, code: int | None = None) -> None:
        """Remove *participant*, whose connection is lost, with that close *code* if it is known."""
        if self._receivers.pop(participant, None) is not None:
            self._polling.discard(participant)
            self._fanout.remove(participant)
            self._execute(self.room.disconnect(participant, code), announces=True)

    def kick(self, participant: Participant, rejection: Rejection) -> None:
        """Close *participant* with *rejection*."""
        self._execute(self.room.kick(participant, rejection))

    def flow_changed(self, participant: Participant) -> None:
        """Note that the receiver of *participant* was paused or resumed."""
        if participant in self._receivers:
            self._flow_changes[participant] = self._receivers[participant]
            self._timer.schedule()

    def call_after_batch(self, callback: Callable[[], None]) -> None:
        """Call *callback* after the batch has ended, and schedule the end of the batch."""
        self._after_batch.append(callback)
        self._timer.schedule()

    async def wait_caught_up(self) -> None:
        """Wait until nobody is behind."""
        while self._fanout.behind_count:
            batch_ended = asyncio.Event()
            self._after_batch.append(batch_ended.set)  # waits for a batch, does not schedule one
            await batch_ended.wait()

    def send(self, to: Participant | None, event: Event) -> None:
        """Send *event*, which comes from the server and not from the room, to one or to all."""
        self._execute([Send(to, event)])

    def heartbeat(self) -> None:
        """Send every JSON client the number of the newest message, as a sign of life."""
        self.room.reset_quotas()
        if self._receivers:
            self._execute([Send(None, Heartbeat(self.room.log.head))])

    def stop(self) -> None:
        """Close everyone because the server stops."""
        self.flush()  # what is in the batch is encoded once for all, and not when each is closed
        self._execute(self.room.stop())

    def abandon(self, rejection: Rejection) -> None:
        """Close everyone with *rejection*, and send nothing else that was not sent yet."""
        self.is_abandoned = True
        self._fanout = Fanout(self.room.log.head, self.room.log.epoch)
        self._polling.clear()
        self._flow_changes.clear()
        receivers, self._receivers = self._receivers, {}
        for participant, receiver in receivers.items():
            self._fanout.send_to(participant, rejection.error)
            receiver.write(map(receiver.encode, self._fanout.remove(participant)))
            receiver.close(rejection.code, rejection.text)
            self._on_close(receiver, rejection.code)
        callbacks, self._after_batch = self._after_batch, []
        for callback in callbacks:
            asyncio.get_running_loop().call_soon(callback)

    # -- carrying out actions --

    def _execute(self, actions: list[Action], *, announces: bool = False) -> None:
        """Carry out *actions*. With *announces*, they announce no more than a join or a leave."""
        for action in actions:
            if type(action) is Publish:  # nearly always, and a class pattern takes longer
                self._publish(action)
                continue
            if type(action) is PublishLines:
                self._publish_lines(action)
                continue
            match action:
                case Send(to=None, event=event):
                    self._broadcast(event)
                case Send(to=Participant() as participant, event=event):
                    if participant in self._receivers:
                        self._send_to(participant, event)
                case Subscribe(participant=participant, after=after, welcome=welcome):
                    self._fanout.subscribe(participant, after, welcome)
                case Close(participant=participant, code=code, reason=reason):
                    may_send = self._persist()
                    receiver = self._receivers.pop(participant)
                    self._polling.discard(participant)
                    unsent = self._fanout.remove(participant)
                    if may_send:
                        receiver.write(map(receiver.encode, unsent))
                    receiver.close(code, reason)
                    self._on_close(receiver, code)
                case ClaimName() | Operate() | NoteAct() | SendPrivate() | RoutePrivate():
                    self._delegate(action)
        if actions:
            self._timer.schedule(announces=announces)

    def takes_private(self, participant: Participant) -> bool:
        """Return whether the connection of *participant* takes a private message now."""
        receiver = self._receivers.get(participant)
        if receiver is None or receiver.paused:
            return False
        return self._fanout.takes_private(participant)

    def hand_over(self, recipient: Participant, message: PrivateMessage) -> bool:
        """Hand a private message to *recipient*, unless its connection takes nothing now.

        Otherwise it would wait in memory for as long as the connection lasts.
        """
        if not self.takes_private(recipient):
            return False
        self._fanout.send_private(recipient, message)
        self._timer.schedule()
        return True

    def _broadcast(self, event: Event) -> None:
        """Send *event* to everyone. `ObservedRoom` needs all that everyone gets to come by here."""
        self._fanout.broadcast(event)
        if self._fanout.full:
            # Not `flush`, which can kick participants: that must not happen in the middle of a list
            # of actions.
            self._write_batch()

    def _broadcast_lines(self, messages: list[Message]) -> None:
        """Do the same with several *messages* of one author, each of one line."""
        self._fanout.broadcast_lines(messages)
        if self._fanout.full:
            self._write_batch()

    @property
    def client_count(self) -> int:
        """How many connections there are in this process, of members and subscribers."""
        return len(self._receivers)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is connected, or about to be.

        In a session takeover, the room closes the stale connection before it has the new one.
        """
        return not self._receivers and not self.room.has_participants

    @property
    def subscriber_count(self) -> int:
        """How many of the connections are those of subscribers."""
        return self.room.subscriber_count

    @property
    def behind_count(self) -> int:
        """How many participants are behind and read the log to catch up."""
        return self._fanout.behind_count

    def flush(self) -> None:
        """End the batch: write it, send more to those who are behind, and kick the too slow."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        self._timer.clear()
        self._joins_in_batch = 0
        if not self._write_batch():
            return
        too_slow = self._catch_up() + self._fanout.too_far_behind()
        self._apply_flow_changes()
        for participant in too_slow:
            self.kick(participant, TOO_SLOW)
        self._close_finished_polls()
        callbacks, self._after_batch = self._after_batch, []
        for callback in callbacks:
            loop.call_soon(callback)
        end = loop.time()
        self._timer.rest(begin, end, self._batch_bytes)
        self._metrics.observe_batch(end - begin)
        self._metrics.deliveries += self._fanout.take_delivered()

    def _close_finished_polls(self) -> None:
        """Close the polling subscribers that are not behind. They leave when the close is done."""
        caught_up = [each for each in self._polling if self._fanout.position(each) is None]
        for participant in caught_up:
            self._polling.discard(participant)
            self._receivers[participant].close(NORMAL_CLOSURE, "")

    def _write_batch(self) -> bool:
        """End the fan-out's batch, and write everyone their part. Return False if that must not be.

        Then the batch stays as it is, until the room is abandoned.
        """
        if not self._persist():
            return False
        batch = self._fanout.end_batch()
        if batch:
            # Frames and their size in bytes, made once for all receivers of the same kind. Most
            # receivers are of the same kind as the one before, and need no look-up.
            common: dict[tuple[Format, FrameEncoder], tuple[Sequence[Any], int]] = {}
            format: Format | None = None
            encode: FrameEncoder | None = None
            frames: Sequence[Any] = ()
            size = count = sent = 0
            for participant, receiver in self._receivers.items():
                if participant in batch.private:
                    continue
                if receiver.encode is not encode or participant.join.format is not format:
                    format, encode = participant.join.format, receiver.encode
                    if (format, encode) not in common:
                        payloads = batch.common(format)
                        joined = join_frames(list(map(encode, payloads)))
                        common[format, encode] = joined, sum(map(len, payloads))
                    frames, size = common[format, encode]
                receiver.write(frames)
                count += 1
                sent += size
            self._metrics.deliveries += batch.message_count * count
            self._metrics.sent += sent
            self._batch_bytes = size
        for participant, private in batch.private.items():
            if private:
                self._write_to(participant, private)
        self._apply_flow_changes()
        return True

    def place_of(self, participant: Participant) -> int | None:
        """Return the last number that *participant*, which is behind, has been sent.

        None if it is not behind, or cannot take more now.
        """
        receiver = self._receivers.get(participant)
        if receiver is None or receiver.paused:
            return None
        return self._fanout.position(participant)

    def _apply_flow_changes(self) -> None:
        """Tell the fan-out which receivers were paused or resumed."""
        while self._flow_changes:
            participant, receiver = self._flow_changes.popitem()
            if participant in self._receivers:
                change = self._fanout.pause if receiver.paused else self._fanout.resume
                change(participant)

    def _write_to(self, participant: Participant, payloads: Iterable[bytes]) -> None:
        """Write *payloads* to one participant."""
        payloads = list(payloads)
        self._metrics.sent += sum(map(len, payloads))
        receiver = self._receivers[participant]
        receiver.write(map(receiver.encode, payloads))
