"""The completer: what a word that was begun may become."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from .commands import COMMANDS
from .names import MAX_NAME
from .safe import safe_text

KNOWN = 1000
"""So many names can be completed."""


class Names(Completer):
    """Completes commands, the names of those who are here or were heard, and *rooms*."""

    def __init__(self, rooms: Callable[[], list[str]] = list) -> None:
        self._known: dict[str, None] = {}  # the last that was heard of comes last
        self._rooms = rooms

    def add(self, name: str) -> None:
        """Note that *name* is here."""
        name = safe_text(name)
        self._known.pop(name, None)
        self._known[name] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]

    def remove(self, name: str) -> None:
        """Note that *name* is here no more."""
        self._known.pop(safe_text(name), None)

    def clear(self) -> None:
        """Note that we are elsewhere."""
        self._known.clear()

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """List what the words before the cursor may become."""
        text = document.text_before_cursor
        if text.startswith("/room "):
            begun = text.removeprefix("/room ")
            for room in self._rooms():
                if room.startswith(begun):
                    yield Completion(room, -len(begun))
            return
        if text.startswith("/") and " " not in text:
            for command, (takes, what) in COMMANDS.items():
                if command.startswith(text):
                    yield Completion(f"{command} " if takes else command, -len(text), command, what)
            return
        # A name may hold spaces, so that it may have begun some words ago.
        found: dict[str, int] = {}
        for place, char in enumerate(text[-MAX_NAME:], start=max(0, len(text) - MAX_NAME)):
            if not char.isspace() and (place == 0 or text[place - 1].isspace()):
                begun = text[place:].casefold()
                for name in reversed(self._known):
                    if name.casefold().startswith(begun):
                        found.setdefault(name, place)
        for name, place in found.items():
            yield Completion(name, place - len(text))
