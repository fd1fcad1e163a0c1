"""The replicated control: what operators have set in a room, as one process has delivered it. Pure.

A replica begins with what the room's row has, and applies each act when its participants are told
of it. So what a new member is told in its welcome, and what it is told after it, fit together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from broadcast_server.protocol.operators import ACTS, OperatorEvent
from broadcast_server.rooms.room_control import RoomControl
from broadcast_server.rooms.room_mode import RoomMode
from django_site import models
from django_site.store.operating import LoggedAct


class ReplicatedControl:
    """The control of a room, whose row is *row*, as far as acts were delivered."""

    def __init__(self, control: RoomControl, row: models.Room) -> None:
        self._control = control
        self._waiting: deque[LoggedAct] = deque()
        self.number = row.acts
        """The number of the last act that was delivered."""
        control.mode = RoomMode(row.topic, row.locked, row.announce, row.slow)

    @property
    def is_open(self) -> bool:
        """Whether everyone may publish who is not muted."""
        return not (self._control.mode.announce or self._control.mode.slow)

    @property
    def has_waiting(self) -> bool:
        """Whether acts wait for messages that come before them."""
        return bool(self._waiting)

    def add(self, acts: Sequence[LoggedAct]) -> None:
        """Add what was read, which begins after the last act that was delivered."""
        self._waiting = deque(acts)

    def take(self, head: int) -> Iterator[OperatorEvent]:
        """Apply and yield the acts that are due, now that messages up to *head* are delivered."""
        while self._waiting and self._waiting[0].after <= head:
            act = self._waiting.popleft()
            self.number = act.number
            if act.event.act not in ACTS:  # of a newer process, in a rolling upgrade
                continue
            self._apply(act.event)
            yield act.event

    def _apply(self, event: OperatorEvent) -> None:
        mode = self._control.mode
        match event.act:
            case "topic":
                mode = mode._replace(topic=event.text)
            case "lock":
                mode = mode._replace(locked=event.on)
            case "announce":
                mode = mode._replace(announce=event.on)
            case "slow":
                mode = mode._replace(slow=event.seconds)
        self._control.mode = mode
