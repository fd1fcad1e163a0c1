"""The completer: what Tab completes at the prompt: commands, names and rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from broadcast_server.protocol.names import MAX_NAME_CHARS
from broadcast_server.protocol.sanitize import strip_control

from .commands import COMMANDS

MAX_NAMES = 1000
"""Names that can be completed at most; the ones seen longest ago are forgotten first."""


class NameCompleter(Completer):
    """Completes commands, the names of members and of senders, and after /room the left rooms.

    *rooms* returns the rooms that were left.
    """

    def __init__(self, rooms: Callable[[], list[str]] = list) -> None:
        self._known: dict[str, None] = {}  # the one seen last comes last
        self._rooms = rooms

    def add(self, name: str) -> None:
        """Add *name*, or note that it was seen again."""
        name = strip_control(name)
        self._known.pop(name, None)
        self._known[name] = None
        if len(self._known) > MAX_NAMES:
            del self._known[next(iter(self._known))]

    def remove(self, name: str) -> None:
        """Forget *name*."""
        self._known.pop(strip_control(name), None)

    def clear(self) -> None:
        """Forget all names."""
        self._known.clear()

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Return the completions of the words before the cursor."""
        text = document.text_before_cursor
        if text.startswith("/room "):
            prefix = text.removeprefix("/room ")
            for room in self._rooms():
                if room.startswith(prefix):
                    yield Completion(room, -len(prefix))
            return
        if text.startswith("/") and " " not in text:
            for command, (argument, effect) in COMMANDS.items():
                if command.startswith(text):
                    completed = f"{command} " if argument else command
                    yield Completion(
                        completed, start_position=-len(text), display=command, display_meta=effect
                    )
            return
        # A name can contain spaces, so it may have begun some words before the cursor.
        starts: dict[str, int] = {}
        for start, char in enumerate(
            text[-MAX_NAME_CHARS:], start=max(0, len(text) - MAX_NAME_CHARS)
        ):
            if not char.isspace() and (start == 0 or text[start - 1].isspace()):
                prefix = text[start:].casefold()
                for name in reversed(self._known):
                    if name.casefold().startswith(prefix):
                        starts.setdefault(name, start)
        for name, start in starts.items():
            yield Completion(name, start - len(text))
