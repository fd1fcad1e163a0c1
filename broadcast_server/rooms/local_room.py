"""A local room: the live room of the standalone server, with its log in memory.

What is published gets its number at once. With a log file, it is also written to disk before anyone
receives it. Which clients may join is decided by the server, before they reach the room.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from broadcast_server.protocol.messages import CloseCode
from broadcast_server.protocol.timestamp import rfc3339

from .actions import Publish
from .kept_names import KeptNames
from .live_room import MAX_CATCH_UP_MESSAGES, READ_CHUNK_MESSAGES, LiveRoom, Receiver
from .message_log import MessageLog
from .metrics import Metrics
from .participant import Participant
from .room import Room

if TYPE_CHECKING:
    from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest

    from .sqlite_log import SQLiteLog


class LocalRoom(LiveRoom):
    """A live room whose log is in memory.

    With *log_file*, each message is also added to that file. *persist* commits the file, and is
    called before a batch is written to the connections. If it returns False, nothing is written.
    *kept_names* are those of all rooms.
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
    ) -> None:
        room = Room(name, log, max_message_bytes, kept_names=kept_names)
        super().__init__(room, on_close, metrics or Metrics())
        self.log = log
        self._log_file = log_file
        self._persist_all = persist
        self._batch_time = ""  # RFC 3339, empty until the first message of a batch

    def _publish(self, action: Publish) -> None:
        id_scope = action.author.id_scope
        seq = self.log.seq_of(id_scope, action.id)
        if seq is not None and action.id is not None:
            self._execute(self.room.acknowledge_duplicate(action.author, action.id, seq))
        else:
            self._append(action.name, action.text, action.id, id_scope)

    def publish(self, request: PublishRequest, id_scope: str) -> Published | NotEnoughReceivers:
        """Publish a message whose author does not join (HTTP `POST`).

        A duplicate is answered with the number that it has. Nothing is published if fewer clients
        are connected than *request* requires.
        """
        from broadcast_server.protocol.publish import NotEnoughReceivers, Published

        count = self.client_count
        seq = self.log.seq_of(id_scope, request.id)
        if seq is not None:
            (duplicate,) = self.log.read_after(seq - 1, 1)
            return Published(seq, duplicate.name, count, repeated=True)
        if count < request.require:
            return NotEnoughReceivers(count)
        name = self.room.author_name(request.join)
        self._metrics.posts += 1
        seq = self._append(name, request.text, request.id, id_scope)
        return Published(seq, name, count)

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
        for participant, _ in self._fanout.ready_to_read():
            for _ in range(MAX_CATCH_UP_MESSAGES // READ_CHUNK_MESSAGES):
                seq = self._fanout.position(participant)
                if seq is None or self._receivers[participant].paused:
                    break
                if seq + 1 < self.log.first:
                    left_behind.append(participant)
                    break
                entries = self.log.read_after(seq, READ_CHUNK_MESSAGES)
                self._write_to(participant, self._fanout.catch_up(participant, entries))
        self._apply_flow_changes()
        if self._fanout.ready_to_read():
            self._schedule()
        return left_behind
