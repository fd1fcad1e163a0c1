"""The crowd: many joins and leaves in a row, as one line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from broadcast_server.protocol.messages import Event, Joined, Left
from broadcast_server.protocol.sanitize import strip_control

MIN_CROWD = 4
"""Joins and leaves in a row that become one line."""

MAX_SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class Crowd:
    """Members that joined and left in a row; *count* members are in the room after it."""

    joined: tuple[str, ...]
    left: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        """Return the line that shows it. It begins with a number, so that no name begins it."""
        parts = [_names_text(self.joined, "joined"), _names_text(self.left, "left")]
        return f"{', '.join(filter(None, parts))}, {self.count} here"


def group_crowds(events: Iterable[Event]) -> list[Event | Crowd]:
    """Return *events*, with a `Crowd` for each run of `MIN_CROWD` or more joins and leaves.

    Joins and leaves of quiet members are left out, and divide no run. They count as members.
    """
    grouped: list[Event | Crowd] = []
    for is_change, run in groupby(events, lambda event: isinstance(event, Joined | Left)):
        changes = [*run]
        shown = [event for event in changes if not getattr(event, "quiet", None)]
        if not is_change or len(shown) < MIN_CROWD:
            grouped += shown
            continue
        joined = tuple(event.name for event in shown if isinstance(event, Joined))
        left = tuple(event.name for event in shown if isinstance(event, Left))
        counts = [event.count for event in changes if isinstance(event, Joined | Left)]
        grouped.append(Crowd(joined, left, counts[-1]))
    return grouped


def _names_text(names: tuple[str, ...], did: str) -> str:
    if not names:
        return ""
    shown = [strip_control(name) for name in names[:MAX_SHOWN_NAMES]]
    more = " and others" if len(names) > len(shown) else ""
    return f"{len(names)} {did} ({', '.join(shown)}{more})"
