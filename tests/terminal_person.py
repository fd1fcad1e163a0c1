"""A person at a terminal: runs `connect` in a pseudo-terminal and reads the screen with pyte."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pyte
from programs import PATIENCE, assert_quiet

UP, CTRL_A, CTRL_C, CTRL_D, CTRL_U, TAB, ENTER = (
    "\x1b[A",
    "\x01",
    "\x03",
    "\x04",
    "\x15",
    "\t",
    "\r",
)


class Person:
    """A person at a terminal: waits for lines on the screen, and types."""

    def __init__(self, child: pexpect.spawn[str], columns: int, rows: int) -> None:
        self.child = child
        self.raw = ""
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=1)
        self._stream = pyte.Stream(self.screen)

    def look(self, wait: float = 0.0) -> None:
        """Update the screen with the output that has arrived within *wait* seconds."""
        try:
            data = self.child.read_nonblocking(100_000, wait)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without empty ones and without the status line."""
        return [line.rstrip() for line, bar in self._rows() if line.strip() and not bar]

    @property
    def bars(self) -> list[str]:
        """The status lines on the screen; there should be one at most."""
        return [line.strip() for line, bar in self._rows() if bar]

    def _rows(self) -> list[tuple[str, bool]]:
        buffer = self.screen.buffer
        return [
            (line, buffer[row][0].reverse and not line.startswith(">"))
            for row, line in enumerate(self.screen.display)
        ]

    def has_status(self, text: str) -> None:
        """Wait until *text* is the status line, and the last line that is not empty."""
        end = time.monotonic() + PATIENCE
        while self.bars != [text]:
            assert time.monotonic() < end, f"no {text} but {self.bars}"
            self.look(0.05)
        assert [line for line in self.screen.display if line.strip()][-1].strip() == text

    def rings(self) -> int:
        """Return how often the bell has rung."""
        return self.raw.count("\a")

    def hears_the_bell(self) -> None:
        """Wait until the bell has rung."""
        end = time.monotonic() + PATIENCE
        while not self.rings():
            assert time.monotonic() < end, self.lines
            self.look(0.05)

    def sees(self, *patterns: str) -> None:
        """Wait until each pattern matches a line of the screen, in this order."""
        whole = re.compile("\n(?:.*\n)*?".join(f"{pattern}$" for pattern in patterns), re.MULTILINE)
        end = time.monotonic() + PATIENCE
        while not whole.search("\n".join(self.lines)):
            assert time.monotonic() < end, "\n".join([f"no {patterns} in:", *self.lines])
            self.look(0.05)

    def has_prompt(self, typed: str = "") -> None:
        """Wait until the last line is the prompt with *typed* in it."""
        end = time.monotonic() + PATIENCE
        while not self.lines or self.lines[-1] != f"> {typed}".rstrip():
            assert time.monotonic() < end, "\n".join([f"no prompt with {typed} in:", *self.lines])
            self.look(0.05)

    def types(self, *keys: str) -> None:
        """Press keys."""
        self.child.send("".join(keys))

    def resizes(self, columns: int, rows: int) -> None:
        """Resize the window."""
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def style(self, word: str) -> tuple[str, bool, bool]:
        """Return the style of a word on the screen: its colour, whether bold, underlined."""
        for row, line in enumerate(self.screen.display):
            if word in line:
                char = self.screen.buffer[row][line.index(word)]
                return char.fg, char.bold, char.underscore
        raise AssertionError(f"no {word} in {self.lines}")

    def ends(self) -> int:
        """Wait for the client to exit; return its exit code, and check that it printed no trace."""
        end = time.monotonic() + PATIENCE
        while self.child.isalive():
            assert time.monotonic() < end, self.lines
            self.look(0.02)
        self.look()
        assert_quiet(self.raw)
        assert self.child.signalstatus is None
        assert self.child.exitstatus is not None
        return int(self.child.exitstatus)


@contextmanager
def person(
    program: list[str], *arguments: str, columns: int = 80, rows: int = 24, **variables: str
) -> Iterator[Person]:
    """Run ``connect`` at a terminal of its own, and kill it at the end if necessary."""
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", **variables}
    child = pexpect.spawn(
        program[0],
        [*program[1:], "connect", *arguments],
        env=environment,
        dimensions=(rows, columns),
        encoding="utf-8",
        echo=True,
    )
    child.delaybeforesend = None
    try:
        yield Person(child, columns, rows)
    finally:
        child.close(force=True)


TIME = r"\d\d:\d\d:\d\d "
