"""The room registry: opens rooms, keeps idle ones for clients that reconnect, and persists them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.rooms.kept_names import KeptNames
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import DamagedRoomError, MessageLog, derive_epoch
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.receiver import Receiver
from broadcast_server.rooms.replays import Replays
from broadcast_server.rooms.restrictions import Restrictions
from broadcast_server.rooms.room_control import RoomControl
from broadcast_server.rooms.room_mode import RoomModes

from .settings import Settings

if TYPE_CHECKING:
    # It loads SQLite, which only a server with --log needs.
    from broadcast_server.rooms.sqlite_log import SQLiteLog

logger = logging.getLogger("broadcast_server")

NOT_RECORDING = Error("not_recording", "what is said is not recorded, ask who runs the server")
RECORDING = Error("recording", "what is said is recorded again")
LOG_ENDED = Rejection(
    CloseCode.STOPPING,
    Error("no_log", "the log of this room has ended, as its file failed: connect again"),
)

LOG_WATCH_INTERVAL_S = 2.0
"""Seconds between two looks whether the log file is still at its path."""

DAMAGED_RETRY_S = 60.0
"""Seconds between two attempts to read a damaged room, each of which is logged."""

MAX_DAMAGED_ROOMS = 256
"""How many damaged rooms are remembered."""

MAX_IDLE_ROOMS = 256
MAX_IDLE_BYTES = 2**26
"""How many idle rooms, and how many bytes of text in them, are kept. Beyond that the room that
has been idle longest is dropped: its history is gone, or is read from the log file again."""

MAX_DROPPED_ROOMS = 2**16
"""How many rooms that were dropped are remembered. Then all rooms without messages get new epochs.
Each costs 0.2 KB."""


class RoomRegistry:
    """All rooms of one server: open ones with participants, and idle ones without.

    *on_close* is called when a room closes a connection, and *on_act* with the room and the event
    of what an operator does. With *log_file*, rooms are restored from it and written to it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        on_close: Callable[[Receiver, CloseCode], None],
        log_file: SQLiteLog | None = None,
        on_act: Callable[[str, OperatorEvent], None] | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_close = on_close
        self._on_act = on_act
        self._log_file = log_file
        self._epoch_key = secrets.token_bytes(16) if log_file is None else log_file.secret
        self.make_room: Callable[..., LocalRoom] = LocalRoom
        """Makes a room, with the arguments of `LocalRoom`."""
        self._replays = Replays()
        self._kept_names = KeptNames(time.monotonic)
        for kept in () if log_file is None else log_file.kept_names:
            self._kept_names.keep(kept)
        mutes = () if log_file is None else log_file.mutes
        on_mute = None if log_file is None else log_file.decisions.set_mute
        self._restrictions = Restrictions(time.monotonic, mutes, on_mute)
        self._modes = RoomModes() if log_file is None else log_file.room_modes
        self._open: dict[str, LocalRoom] = {}
        self._idle: dict[str, LocalRoom] = {}  # the one that has been idle longest comes first
        self._drops: dict[str, int] = {}  # how often each room was dropped, without a log file
        self._watch_timer: asyncio.TimerHandle | None = None
        self._damaged: dict[str, float] = {}  # when each was tried, by time.monotonic()

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
        """Return a room, creating it if needed. Call `close_if_empty` if nobody joins it.

        Raises DamagedRoomError if it cannot be read from the log file. The first of a minute is
        logged, and the file is not read again before the next one.
        """
        room = self._open.get(name) or self._idle.pop(name, None) or self._create(name)
        self._open[name] = room
        return room

    def close_if_empty(self, room: LocalRoom) -> None:
        """Close *room* if nobody is connected to it. It becomes idle if it has messages."""
        if not room.is_empty or self._open.get(room.room.name) is not room:
            return
        del self._open[room.room.name]
        if room.log.head:
            self._idle[room.room.name] = room
        while len(self._idle) > MAX_IDLE_ROOMS or self._idle_bytes() > MAX_IDLE_BYTES:
            name = next(iter(self._idle))
            del self._idle[name]
            if self._log_file is None:  # the room's numbers will start again: its epoch must not
                if len(self._drops) >= MAX_DROPPED_ROOMS:
                    self._drops.clear()
                    self._epoch_key = secrets.token_bytes(16)
                self._drops[name] = self._drops.get(name, 0) + 1

    @property
    def is_recording(self) -> bool:
        """Whether every delivered message is in the log file, or none is asked for."""
        return self._log_file is None or self._log_file.recording

    def persist(self) -> bool:
        """Write this batch's messages to the log file. Tell every room when that begins to fail.

        Returns whether the batch may be sent. If not, all rooms are closed next.
        """
        log_file = self._log_file
        if log_file is None:
            return True
        was_recording = log_file.recording
        if not log_file.epochs_must_end and (notice := log_file.commit()) is not None:
            self._report(log_file, notice, was_recording)
        return not log_file.epochs_must_end

    def watch_log_file(self) -> None:
        """Look after the log file, if there is one, until `stop`."""
        log_file = self._log_file
        if log_file is None:
            return
        was_recording = log_file.recording
        if not log_file.epochs_must_end and (notice := log_file.check_file()) is not None:
            self._report(log_file, notice, was_recording)
        loop = asyncio.get_running_loop()
        self._watch_timer = loop.call_later(LOG_WATCH_INTERVAL_S, self.watch_log_file)

    def _report(self, log_file: SQLiteLog, notice: str, was_recording: bool) -> None:
        logger.warning("%s", notice)
        if log_file.epochs_must_end:
            logger.warning("all rooms get new epochs, clients have to connect again")
            asyncio.get_running_loop().call_soon(self._end_epochs, log_file)
        elif log_file.recording != was_recording:
            for room in self:
                room.send(None, RECORDING if log_file.recording else NOT_RECORDING)

    def _end_epochs(self, log_file: SQLiteLog) -> None:
        """Close all rooms. Clients that come back find them with new epochs."""
        log_file.end_epochs()
        self._epoch_key = log_file.secret
        rooms = [*self._open.values(), *self._idle.values()]
        self._open.clear()
        self._idle.clear()
        for room in rooms:
            room.abandon(LOG_ENDED)

    def stop(self) -> None:
        """Close everyone because the server stops, and keep their names in the log file, if any."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        for room in self:
            room.stop()
        if self._log_file is not None:
            self._log_file.kept_names = list(self._kept_names)

    def _create(self, name: str) -> LocalRoom:
        settings, log_file = self._settings, self._log_file
        # A room may have been dropped before its messages were written.
        message_log = None if log_file is None else log_file.unwritten(name)
        if message_log is None:
            message_log = MessageLog(settings.log_messages, settings.log_bytes, self._epoch(name))
            if log_file is not None:
                self._restore(log_file, name, message_log)
        return self.make_room(
            name,
            message_log,
            settings.max_message_bytes,
            self._on_close,
            metrics=self._metrics,
            log_file=log_file,
            persist=self.persist,
            kept_names=self._kept_names,
            replays=self._replays,
            control=RoomControl(name, self._modes, self._restrictions),
            on_act=self._on_act,
        )

    def _restore(self, log_file: SQLiteLog, name: str, log: MessageLog) -> None:
        now = time.monotonic()
        if now - self._damaged.get(name, -DAMAGED_RETRY_S) < DAMAGED_RETRY_S:
            raise DamagedRoomError(f"room {name} is damaged")
        self._damaged.pop(name, None)
        try:
            log_file.restore(name, log)
        except DamagedRoomError as error:
            while len(self._damaged) >= MAX_DAMAGED_ROOMS:
                del self._damaged[next(iter(self._damaged))]
            self._damaged[name] = now
            logger.error("%s", error)
            raise

    def _epoch(self, room: str) -> str:
        """Return the epoch of a room that has no messages yet.

        It is the same each time, so that a room that was empty when its last member left need
        not be kept: a client that reconnects is told, truthfully, that it missed nothing.
        """
        return derive_epoch(self._epoch_key, room, self._drops.get(room, 0))

    def _idle_bytes(self) -> int:
        return sum(room.log.bytes for room in self._idle.values())
