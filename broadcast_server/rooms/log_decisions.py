"""The log decisions: what operators have decided and the next commit writes to a log file."""

from __future__ import annotations

import sqlite3

from .log_mutes import write_mutes
from .log_room_modes import write_room_modes
from .restrictions import Mute
from .room_mode import RoomMode


class LogDecisions:
    """The modes and mutes that have changed since the last commit. False if there are none."""

    def __init__(self) -> None:
        self._modes: dict[str, RoomMode] = {}
        self._mutes: dict[int, Mute | None] = {}

    def __bool__(self) -> bool:
        return bool(self._modes or self._mutes)

    def set_room_mode(self, room: str, mode: RoomMode) -> None:
        """Have the *mode* of *room* written."""
        self._modes[room] = mode

    def set_mute(self, number: int, mute: Mute | None) -> None:
        """Have the *mute* with *number* written, or deleted if it is None."""
        self._mutes[number] = mute

    def write(self, base: sqlite3.Connection) -> None:
        """Write them, in a transaction of the caller. Raises sqlite3.Error."""
        write_room_modes(base, self._modes)
        if self._mutes:
            write_mutes(base, self._mutes)

    def clear(self) -> None:
        """Forget them: they are written."""
        self._modes.clear()
        self._mutes.clear()
