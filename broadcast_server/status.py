"""The status: where we are and whether that is so, in as much of a line as there is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SEPARATOR = " · "


@dataclass(frozen=True, slots=True)
class Status:
    """What the line is to say. *unsent* counts what has not come back."""

    room: str
    name: str
    count: int
    connected: bool
    unsent: int


def fit(status: Status, width: int, measure: Callable[[str], int] = len) -> str:
    """Return the most important of *status* that fits into *width* cells, perhaps nothing."""
    for parts in _from_most_to_least(status):
        line = SEPARATOR.join(filter(None, parts))
        if measure(line) <= width:
            return line
    return ""


def _from_most_to_least(status: Status) -> tuple[tuple[str, ...], ...]:
    here = f"{status.count} here"
    unsent = f"{status.unsent} not sent" if status.unsent else ""
    if status.connected:
        return (
            (status.room, here, status.name, "connected"),
            (status.room, here, status.name),
            (status.room, here),
            (status.room,),
        )
    return (
        (status.room, status.name, "not connected", unsent),
        (status.room, "not connected", unsent),
        ("not connected", unsent),
        ("not connected",),
        ("offline",),
    )
