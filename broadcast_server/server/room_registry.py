"""The room registry: opens rooms, keeps idle ones for clients that reconnect, and persists them."""

from __future__ import annotations

import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.rooms.live_room import Receiver
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.metrics import Metrics

from .settings import Settings

if TYPE_CHECKING:
    # It loads SQLite, which only a server with --log needs.
    from broadcast_server.rooms.sqlite_log import SQLiteLog

logger = logging.getLogger("broadcast_server")

NOT_RECORDING = Error("not_recording", "what is said is not recorded, ask who runs the server")
RECORDING = Error("recording", "what is said is recorded again")

MAX_IDLE_ROOMS = 256
MAX_IDLE_BYTES = 2**26
"""How many idle rooms, and how many bytes of text in them, are kept. Beyond that the room that
has been idle longest is dropped: its history is gone, or is read from the log file again."""


class RoomRegistry:
    """All rooms of one server: open ones with participants, and idle ones without.

    *on_close* is called when a room closes a connection. With *log_file*, rooms are restored
    from it and written to it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        on_close: Callable[[Receiver, CloseCode], None],
        log_file: SQLiteLog | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_close = on_close
        self._log_file = log_file
        self._epoch_key = secrets.token_bytes(16) if log_file is None else log_file.secret
        self._open: dict[str, LocalRoom] = {}
        self._idle: dict[str, LocalRoom] = {}  # the one that has been idle longest comes first

    def __len__(self) -> int:
        """Count the open rooms."""
        return len(self._open)

    def __iter__(self) -> Iterator[LocalRoom]:
        """Iterate over the open rooms as they are now, whatever opens or closes meanwhile."""
        return iter(tuple(self._open.values()))

    def get(self, name: str) -> LocalRoom | None:
        """Return an open room, None if it is not open."""
        return self._open.get(name)

    def open(self, name: str) -> LocalRoom:
        """Return a room, creating it if needed. Call `close_if_empty` if nobody joins it."""
        room = self._open.get(name) or self._idle.pop(name, None) or self._create(name)
        self._open[name] = room
        return room

    def close_if_empty(self, room: LocalRoom) -> None:
        """Close *room* if nobody is connected to it. It becomes idle if it has messages."""
        if room.client_count:
            return
        self._open.pop(room.room.name, None)
        if room.log.head:
            self._idle[room.room.name] = room
        while len(self._idle) > MAX_IDLE_ROOMS or self._idle_bytes() > MAX_IDLE_BYTES:
            del self._idle[next(iter(self._idle))]
            if self._log_file is None:  # the room's numbers will start again: its epoch must not
                self._epoch_key = secrets.token_bytes(16)

    @property
    def is_recording(self) -> bool:
        """Whether every delivered message is in the log file, or none is asked for."""
        return self._log_file is None or self._log_file.recording

    def persist(self) -> None:
        """Write this batch's messages to the log file. Tell every room when that begins to fail."""
        change = None if self._log_file is None else self._log_file.commit()
        if change is None:
            return
        logger.warning("%s", change)
        for room in self:
            room.send(None, RECORDING if self.is_recording else NOT_RECORDING)

    def _create(self, name: str) -> LocalRoom:
        settings = self._settings
        message_log = MessageLog(settings.log_messages, settings.log_bytes, self._epoch(name))
        if self._log_file is not None:
            self._log_file.restore(name, message_log)
        return LocalRoom(
            name,
            message_log,
            settings.max_message_bytes,
            self._on_close,
            metrics=self._metrics,
            log_file=self._log_file,
            persist=self.persist,
        )

    def _epoch(self, room: str) -> str:
        """Return the epoch of a room that has no messages yet.

        It is the same each time, so that a room that was empty when its last member left need
        not be kept: a client that reconnects is told, truthfully, that it missed nothing.
        """
        digest = blake2b(room.encode(), key=self._epoch_key, digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    def _idle_bytes(self) -> int:
        return sum(room.log.bytes for room in self._idle.values())
