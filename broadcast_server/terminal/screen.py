"""The screen: what the chat needs of a terminal, and each interface does in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod

from broadcast_server.protocol.messages import Event

from .render import Line


class Screen(ABC):
    """The screen and the keyboard of one person."""

    @abstractmethod
    def _render(self, event: Event, me: str, *, again: bool) -> list[Line]:
        """Return the lines that show *event* to *me*; *again* is true after a reconnect."""

    @abstractmethod
    def _print(self, lines: list[Line]) -> None:
        """Print whole lines."""

    @abstractmethod
    def _notice_line(self, text: str) -> Line:
        """Return the line that shows a notice of the program itself."""

    @abstractmethod
    async def _read_input(self) -> None:
        """Pass each typed line to `handle_line`, until the user leaves or the terminal is gone."""

    @abstractmethod
    def _stop_reading(self) -> None:
        """Make `_read_input` return."""

    @abstractmethod
    def _greeting(self) -> list[Line]:
        """Return the lines that follow the first welcome."""

    @abstractmethod
    def _put_back(self, line: str) -> None:
        """Let the user edit *line* again, which was not sent, unless there is other text."""

    @abstractmethod
    def _clear(self) -> None:
        """Clear the screen, if the terminal can."""

    @abstractmethod
    def _ring_bell(self) -> None:
        """Ring the terminal's bell."""

    @abstractmethod
    def _status_changed(self) -> None:
        """Redraw the status line, if there is one."""

    def show_notice(self, text: str) -> None:
        """Print a notice of the program itself."""
        self._print([self._notice_line(text)])
