"""An observed room: a local room whose events a program in the same process gets as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from broadcast_server.protocol.messages import Event

from .local_room import LocalRoom


class ObservedRoom(LocalRoom):
    """A local room that calls *observe* with each event for everyone, when it happens.

    It comes before the event is in the log file: use `call_after_batch` to wait for that.
    """

    def __init__(
        self, observe: Callable[[ObservedRoom, Event], None], *args: Any, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._observe = observe

    def _broadcast(self, event: Event) -> None:
        super()._broadcast(event)
        self._observe(self, event)
