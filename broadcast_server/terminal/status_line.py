"""The status line: room, members, name and connection, shortened to the width. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SEPARATOR = " · "

MIN_TOPIC_CELLS = 8
"""A topic that is cut off is shown only if there is so much room for it."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the status line shows."""

    room: str
    name: str
    count: int
    """Members of the room."""
    connected: bool
    unsent: int
    """Messages that the server has not confirmed."""
    topic: str = ""
    """That of the room, empty without one."""
    mode: str = ""
    """What operators have set about who may join and write, empty if that is nothing."""


def fit_status(status: Status, width: int, measure: Callable[[str], int] = len) -> str:
    """Return the longest version of *status* that fits into *width* cells, or an empty string.

    *measure* returns the number of cells of a text.
    """
    for parts in _longest_first(status):
        line = SEPARATOR.join(filter(None, parts))
        if measure(line) <= width:
            room = width - measure(line) - len(SEPARATOR)
            topic = _shorten(status.topic, room, measure) if status.connected else ""
            return SEPARATOR.join(filter(None, (line, topic)))
    return ""


def _shorten(topic: str, width: int, measure: Callable[[str], int]) -> str:
    """Return as much of *topic* as fits, empty if that would be too little to be of use."""
    if measure(topic) <= width:
        return topic
    if width < MIN_TOPIC_CELLS:
        return ""
    while measure(topic) >= width:
        topic = topic[:-1]
    return f"{topic.rstrip()}…"


def _longest_first(status: Status) -> tuple[tuple[str, ...], ...]:
    count = f"{status.count} here"
    unsent = f"{status.unsent} not sent" if status.unsent else ""
    if status.connected:
        return (
            (status.room, count, status.name, "connected", status.mode),
            (status.room, count, status.name, status.mode),
            (status.room, count, status.name),
            (status.room, count),
            (status.room,),
        )
    return (
        (status.room, status.name, "not connected", unsent),
        (status.room, "not connected", unsent),
        ("not connected", unsent),
        ("not connected",),
        ("offline",),
    )
