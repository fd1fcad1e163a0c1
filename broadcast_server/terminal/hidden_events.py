"""The hidden events: what a person does not want to see: /quiet and /ignore. Pure."""

from __future__ import annotations

from broadcast_server.protocol.messages import Event, Joined, Left, Message, PrivateMessage
from broadcast_server.protocol.names import name_key
from broadcast_server.protocol.sanitize import strip_control


class HiddenEvents:
    """Which events are hidden. Each change returns the notice about it."""

    def __init__(self) -> None:
        self._hides_moves = False  # joins and leaves
        self._ignored: set[str] = set()  # keys of names

    def __contains__(self, event: Event) -> bool:
        if isinstance(event, Joined | Left):
            return self._hides_moves  # `group_crowds` leaves out quiet members
        if not self._ignored or not isinstance(event, Message | PrivateMessage):
            return False
        is_own = isinstance(event, PrivateMessage) and event.id is not None
        return not is_own and name_key(event.name) in self._ignored

    def toggle_moves(self) -> str:
        """Hide joins and leaves, or show them again."""
        self._hides_moves = not self._hides_moves
        state = "hidden, /quiet shows them again" if self._hides_moves else "shown again"
        return f"joins and leaves are {state}"

    def toggle_name(self, name: str) -> str:
        """Hide the messages of *name*, or show them again."""
        key = name_key(name)
        self._ignored ^= {key}
        hidden = key in self._ignored
        state = "are hidden, type it again to show them" if hidden else "are shown again"
        return f"messages of {strip_control(name)} {state}"
