"""A local room: the live room of the standalone server, with its log in memory.

What is published gets its number at once. With a log file, it is also written to disk before anyone
receives it. Which clients may join is decided by the server, before they reach the room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from broadcast_server.protocol.messages import (
    RECIPIENT_BEHIND,
    SENDER_BEHIND,
    CloseCode,
    PrivateMessage,
    not_delivered,
)
from broadcast_server.protocol.operators import HIDE, OperatorEvent, OperatorRequest
from broadcast_server.protocol.rejection import TOO_SLOW, Rejection
from broadcast_server.protocol.timestamp import rfc3339

from .actions import Action, Operate, Publish, PublishLines, SendPrivate
from .batch_timer import CLOCK_RESOLUTION_S
from .fanout import MAX_BATCH_EVENTS
from .hiding import hide
from .kept_names import KeptNames
from .live_room import (
    READ_CHUNK_BYTES,
    READ_CHUNK_MESSAGES,
    LiveRoom,
)
from .message_log import MessageLog
from .metrics import Metrics
from .participant import Participant
from .receiver import Receiver
from .replays import Replays
from .room import Room
from .room_control import RoomControl

if TYPE_CHECKING:
    from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest

    from .sqlite_log import SQLiteLog

MAX_MISSED_AT_ONCE = 1024
"""A participant that lacks no more messages than this is sent all of them when a batch ends. Many
that join at the same time share what is encoded for them, and have no other events to wait for."""

MAX_LAG_AT_ONCE = 2 * MAX_BATCH_EVENTS
"""The same for a participant that fell behind, so that one that reads catches up with a room of any
speed. It has cost no less when it was connected and read at once."""


class LocalRoom(LiveRoom):
    """A live room whose log is in memory.

    With *log_file*, each message is also added to that file. *persist* commits the file, and is
    called before a batch is written to the connections. If it returns False, nothing is written.
    *kept_names* and *replays* are those of all rooms. *control* is what operators have decided, and
    *on_act* is called with the room and the event of everything they do.
    """

    def __init__(
        self,
        name: str,
        log: MessageLog,
        max_message_bytes: int,
        on_close: Callable[[Receiver, CloseCode], None],
        *,
        metrics: Metrics | None = None,
        log_file: SQLiteLog | None = None,
        persist: Callable[[], bool] | None = None,
        kept_names: KeptNames | None = None,
        replays: Replays | None = None,
        control: RoomControl | None = None,
        on_act: Callable[[str, OperatorEvent], None] | None = None,
    ) -> None:
        room = Room(name, log, max_message_bytes, kept_names=kept_names, control=control)
        super().__init__(room, on_close, metrics or Metrics())
        self.log = log
        self._log_file = log_file
        self._persist_all = persist
        self._replays = replays or Replays()
        self._on_act = on_act
        self._batch_time = ""  # RFC 3339, empty until the first message of a batch

    def _publish(self, action: Publish) -> None:
        id_scope = action.author.id_scope
        seq = None if action.id is None else self.log.seq_of(id_scope, action.id)
        if seq is not None and action.id is not None:
            self._execute(self.room.acknowledge_duplicate(action.author, action.id, seq))
        else:
            self._append(action.name, action.text, action.id, id_scope)

    def _send_private(self, action: SendPrivate) -> None:
        author, recipient, id = action.author, action.recipient, action.id
        now = rfc3339(datetime.now(timezone.utc))
        message = PrivateMessage(author.name, recipient.name, action.text, now)
        if not self.takes_private(author):
            self._send_to(author, not_delivered(recipient.name, SENDER_BEHIND, id))
        elif author is not recipient and not self.hand_over(recipient, message):
            self._send_to(author, not_delivered(recipient.name, RECIPIENT_BEHIND, id))
        else:
            self.hand_over(author, replace(message, id=id))

    def _publish_lines(self, action: PublishLines) -> None:
        # Together with `plain_lines`, a message takes 0.8 times the CPU time at 10 members, and 0.9
        # times at 100. A log file writes each on its own.
        if self._log_file is not None:
            super()._publish_lines(action)
            return
        if not self._batch_time:
            self._batch_time = rfc3339(datetime.now(timezone.utc))
        messages = self.log.append_lines(action.name, action.texts, self._batch_time)
        self._metrics.messages += len(messages)
        self._broadcast_lines(messages)

    def publish(
        self, request: PublishRequest, id_scope: str, address: str = ""
    ) -> Published | NotEnoughReceivers | Rejection:
        """Publish a message whose author does not join (HTTP `POST`).

        A duplicate is answered with the number that it has. Nothing is published if operators do
        not let the author write, or if fewer clients are connected than *request* requires.
        *address* is the key of the author's address.
        """
        from broadcast_server.protocol.publish import NotEnoughReceivers, Published

        count = self.client_count
        seq = self.log.seq_of(id_scope, request.id)
        if seq is not None:
            duplicate = self.log.find(seq)
            name = "" if duplicate is None else duplicate.name
            return Published(seq, name, count, repeated=True)
        if count < request.require:
            return NotEnoughReceivers(count)
        if (rejection := self.room.check_publish(request.join, address)) is not None:
            return rejection
        name = self.room.author_name(request.join)
        self._metrics.posts += 1
        seq = self._append(name, request.text, request.id, id_scope)
        return Published(seq, name, count)

    def _operate(self, action: Operate) -> None:
        self._execute(self._hide(action.member, action.request))

    def _hide(self, operator: Participant, request: OperatorRequest) -> list[Action]:
        """Hide messages in the log, and write that to the log file. Return what follows."""
        actions, hidden = hide(self.log, operator, request)
        for message, id_scope in hidden:
            if self._log_file is not None:
                self._log_file.append(self.room.name, self.log, message, id_scope)
        if hidden:
            self._fanout.forget_encoded()
        return actions

    def _note_act(self, event: OperatorEvent) -> None:
        self._metrics.acts += 1
        name = self.room.name
        if self._log_file is not None and event.act not in ("kick", "mute", HIDE):
            self._log_file.decisions.set_room_mode(name, self.room.control.mode)
        if self._on_act is not None:
            self._on_act(name, event)

    def _append(self, name: str, text: str, id: str | None, id_scope: str) -> int:
        if not self._batch_time:
            self._batch_time = rfc3339(datetime.now(timezone.utc))
        self._metrics.messages += 1
        message = self.log.append(name, text, self._batch_time, id, id_scope)
        if self._log_file is not None:
            self._log_file.append(self.room.name, self.log, message, id_scope)
        self.deliver(message)
        return message.seq

    def _persist(self) -> bool:
        return self._persist_all is None or self._persist_all()

    def _catch_up(self) -> list[Participant]:
        self._batch_time = ""
        left_behind: list[Participant] = []
        for participant, seq in self._fanout.take_ready():
            lag = self.log.head - seq
            if seq + 1 < self.log.first:
                left_behind.append(participant)
            elif lag > MAX_MISSED_AT_ONCE and (
                lag > MAX_LAG_AT_ONCE or not self._fanout.had_all(participant)
            ):
                self._replays.add(self, participant)
            else:
                while (place := self.place_of(participant)) is not None:
                    self._send_chunk(participant, place)
        return left_behind

    @property
    def replays_from(self) -> float:
        """The time before which it must not be asked to replay: there is a batch to be written."""
        return 0.0 if self._fanout.is_batch_empty else self._timer.earliest - CLOCK_RESOLUTION_S

    def replay(self, participant: Participant) -> bool:
        """Send *participant* the next chunk of the log. Return whether it can take another one."""
        if not self._fanout.is_batch_empty:
            self.flush()  # the chunk comes after the batch
            if not self._fanout.is_batch_empty:  # it must not be written, see `_persist`
                return False
        seq = self.place_of(participant)
        if seq is None:
            return False
        if seq + 1 < self.log.first:
            self.kick(participant, TOO_SLOW)
            return False
        self._send_chunk(participant, seq)
        if self._fanout.position(participant) is None:
            self._timer.schedule()  # the end of a batch is when others learn of it
        return self.place_of(participant) is not None

    def _send_chunk(self, participant: Participant, after: int) -> None:
        """Send *participant* the next messages after number *after*."""
        entries = self.log.read_after(after, READ_CHUNK_MESSAGES, READ_CHUNK_BYTES)
        self._write_to(participant, self._fanout.catch_up(participant, entries))
