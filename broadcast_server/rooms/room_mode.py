"""The mode of a room: its topic, and whether operators have locked it, write alone, or slow it.

A room that nobody is in may be dropped from memory, but it must not open itself in this way. So
`RoomModes` keeps the modes of all rooms, apart from the rooms.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_ROOM_MODES = 1000
"""How many rooms can have a topic or be in a mode. No mode is forgotten for a new one."""


class RoomMode(NamedTuple):
    """What operators have set in a room."""

    topic: str = ""
    locked: bool = False
    """Whether nobody new may join, subscribe or publish."""
    announce: bool = False
    """Whether only operators may publish."""
    slow: int = 0
    """In how many seconds a member may publish one message; 0 is no limit."""


NO_MODE = RoomMode()
"""The mode of a room that has none."""


class RoomModes:
    """The modes of all rooms that have one."""

    def __init__(self) -> None:
        self._modes: dict[str, RoomMode] = {}

    def __len__(self) -> int:
        return len(self._modes)

    def __getitem__(self, room: str) -> RoomMode:
        return self._modes.get(room, NO_MODE)

    def set(self, room: str, mode: RoomMode) -> bool:
        """Set the *mode* of *room*. Return False if there are too many: then nothing changes."""
        if mode == NO_MODE:
            self._modes.pop(room, None)
            return True
        if room not in self._modes and len(self._modes) >= MAX_ROOM_MODES:
            return False
        self._modes[room] = mode
        return True
