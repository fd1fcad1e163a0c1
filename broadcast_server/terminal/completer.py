"""The completer: what Tab completes at the prompt: commands, names and rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from broadcast_server.protocol.names import MAX_NAME_CHARS

from .commands import ALIASES, COMMANDS
from .known_names import KnownNames


class NameCompleter(Completer):
    """Completes commands, *names*, and after /room the rooms that were left, which *rooms* returns.

    After a command that takes a name, only a whole name is completed, from its beginning. Where a
    text follows it, as after /msg, a colon ends the name: one with spaces could end anywhere.
    """

    def __init__(self, names: KnownNames, rooms: Callable[[], list[str]] = list) -> None:
        self._names = names
        self._rooms = rooms

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
        word, _, rest = text.lstrip().partition(" ")
        argument, _ = COMMANDS.get(ALIASES.get(word.lower(), word.lower()), ("", ""))
        if argument.startswith("NAME") and word != text.lstrip():
            yield from self._complete_name(rest.lstrip(), ": " if argument != "NAME" else "")
            return
        yield from self._complete_words(text)

    def _complete_name(self, prefix: str, end: str) -> Iterable[Completion]:
        """Return the names that begin with *prefix*, those of who has left last."""
        for name in self._names.latest_first:
            if name.casefold().startswith(prefix.casefold()):
                yield Completion(f"{name}{end}", -len(prefix), display=name)

    def _complete_words(self, text: str) -> Iterable[Completion]:
        """Return the names that the last words of *text* begin."""
        # A name can contain spaces, so it may have begun some words before the cursor.
        starts: dict[str, int] = {}
        for start, char in enumerate(
            text[-MAX_NAME_CHARS:], start=max(0, len(text) - MAX_NAME_CHARS)
        ):
            if not char.isspace() and (start == 0 or text[start - 1].isspace()):
                prefix = text[start:].casefold()
                for name in reversed(self._names):
                    if name.casefold().startswith(prefix):
                        starts.setdefault(name, start)
        for name, start in starts.items():
            yield Completion(name, start - len(text))
