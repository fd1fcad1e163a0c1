"""The shown line: a progress bar becomes what a terminal shows of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, SupportsIndex

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.pipe.line_splitter import MAX_LINE_BYTES, LineSplitter
from broadcast_server.pipe.shown_line import (
    MAX_MOVE_COLUMNS,
    _render,
    compact,
    shown_line,
)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a\rb\rc", "c"),
        ("abcdef\rX", "Xbcdef"),
        ("10%\b\b\b20%\b\b\b99%", "99%"),
        ("ab\b\b\b\bc", "cb"),
        ("done\b \b\b \b", "do"),
        ("100 %\r     \rok", "ok"),
        ("100 %\r     \r", ""),
        ("100 %\r\x1b[Kok", "ok"),
        ("\x1b[2K\x1b[1G[1/4] Resolving\x1b[2K\x1b[1G[2/4] Fetching", "[2/4] Fetching"),
        ("abcdef\x1b[3D\x1b[K", "abc"),
        ("abcdef\x1b[3D\x1b[1K", "    ef"),
        ("abcdef\r\x1b[2P\x1b[2@x", "x cdef"),
        ("abcdef\r\x1b[2Xx", "x cdef"),
        ("at \x1b7 10%\x1b8 20%", "at  20%"),
        ("at \x1b[s 10%\x1b[u 20%", "at  20%"),
        ("\x1b[?25l10%\r\x1b[32m100%\x1b[0m\x1b[?25h", "100%"),  # the cursor and colours
        ("\x1b]0;10%\x0710%\r\x1b]0;20%\x0720%", "20%"),
        ("a\tb\rx", "x       b"),
        ("漢字\rx", "x 字"),
        ("漢字\b\bx", "漢x"),
        ("漢字\b\b\bx", " x字"),
        ("e\u0301e\rx", "xe"),
        ("x\r\u0301y", "y"),
        ("\x1b[999999C.\r", " " * 999 + "."),
        ("\t" * 9999 + ".\b", " " * 999 + "."),
        # These do not move back, and keep what they have.
        ("plain", "plain"),
        ("CRLF\r", "CRLF"),
        ("\x1b[31mred\x1b[0m\r\r", "\x1b[31mred\x1b[0m"),
        ("a\tb  ", "a\tb  "),
        ("\x1b[2J\x1b[01m\x1b[Kgcc:\x1b[m\x1b[K", "\x1b[2J\x1b[01m\x1b[Kgcc:\x1b[m\x1b[K"),
        ("", ""),
        ("\r", ""),
    ],
)
def test_what_a_terminal_shows(line: str, shown: str) -> None:
    """Of a line that overwrites itself, the last state is left; another line is as it was."""
    assert shown_line(line) == shown


PARTS = (
    "a", "bc", "xyz", " ", "\r", "\b", "\t", "q\u0304", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[G",
    "\x1b[3G", "\x1b[2C", "\x1b[D", "\x1b[5D", "\x1b[2P", "\x1b[X", "\x1b[3X", "\x1b[2@",
    "\x1b[31m", "\x1b7", "\x1b8", "\x1b]0;t\x07", "\x1b(B",
)  # fmt: skip
LINES = st.lists(st.sampled_from(PARTS), max_size=20).map("".join)


def screen_line(line: str) -> str:
    """Return what pyte, a terminal emulator, shows of *line*. It knows no wide characters."""
    screen = pyte.Screen(300, 1)
    pyte.Stream(screen).feed(f"\x1b7{line}")  # without a saved position it leaves the line
    return screen.display[0].rstrip(" ")


@given(LINES)
def test_a_terminal_emulator_agrees(line: str) -> None:
    """Whatever the line is, it becomes what an independent terminal emulator shows."""
    assert shown_line(f"{line}\b") == screen_line(line)


@given(LINES, LINES)
def test_a_line_is_made_shorter_without_a_difference(start: str, end: str) -> None:
    """The beginning of a line can be replaced by its state at any moment."""
    data = bytearray(start.encode())
    shorter = compact(data).decode() + end
    assert shown_line(f"{shorter}\b") == shown_line(f"{start}{end}\b")


def split(chunks: Iterable[bytes]) -> list[str]:
    """Return the lines of an input that arrives in *chunks*."""
    splitter = LineSplitter(rendered=True)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    lines += splitter.end()
    return lines


@given(st.lists(LINES), st.integers(1, 7))
def test_chunks_make_no_difference(lines: list[str], size: int) -> None:
    """Where an input is cut into chunks, also within a sequence or a character, is not seen."""
    data = "\n".join(lines).encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert split(chunks) == [shown for line in lines if (shown := shown_line(line))]


@pytest.mark.parametrize(
    "template", ["\r[#####     ] {} %", "{0:12} %" + "\b" * 14, "\x1b[2K\x1b[1G{} %   "]
)
def test_a_long_progress_bar(template: str) -> None:
    """A progress bar far beyond the limit of a line is one line, also without a line end."""
    states = [template.format(number).encode() for number in range(20_000)]
    chunks = [b"".join(states[at : at + 4000]) for at in range(0, len(states), 4000)]
    assert sum(map(len, chunks)) > 2 * MAX_LINE_BYTES
    assert [line.split()[-2:] for line in split(chunks)] == [["19999", "%"]]
    chunks[-1] += b"\nnext\n"
    assert [line.split()[-1] for line in split(chunks)] == ["%", "next"]


def test_a_line_that_is_long_in_itself_is_still_too_long() -> None:
    """Only what was overwritten makes a line shorter."""
    splitter = LineSplitter(rendered=True)
    data = b"x" * (MAX_LINE_BYTES + 1)
    assert "".join(splitter.feed(b"old\r" + data) + splitter.feed(b"\n")) == data.decode()
    assert splitter.feed(b"next\n") == ["next"]


class CountingCells(list[str]):
    """Cells that count how many of them were written, moved and removed."""

    def __init__(self) -> None:
        super().__init__()
        self.work = 0

    def _count(self, key: SupportsIndex | slice, new: int) -> None:
        if not isinstance(key, slice):
            self.work += new
            return
        start, stop, _ = key.indices(len(self))
        removed = max(0, stop - start)
        self.work += 1 + new + removed + (len(self) - stop if new != removed else 0)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._count(key, len(value))
        super().__setitem__(key, value)

    def __delitem__(self, key: SupportsIndex | slice) -> None:
        self._count(key, 0)
        super().__delitem__(key)

    def __iadd__(self, more: Iterable[str]) -> CountingCells:  # type: ignore[override, misc]
        before = len(self)
        super().__iadd__(more)
        self.work += len(self) - before
        return self

    def clear(self) -> None:
        self.work += len(self)
        super().clear()


LONG_STARTS = {
    "text": "x" * 40_000,
    "text, at its start": "x" * 40_000 + "\r",
    "wide text, at its start": "漢" * 5_000 + "\r",
    "tabs": "\t" * 15_000 + "x\b",
    "erased text": "x" * 40_000 + "\x1b[2K",
}


@pytest.mark.parametrize(
    "unit",
    ["\t", "\tx", "\t\x1b[1K", "\x1b[1K", "\x1b[1J", "x\b\x1b[1K", "\x1b[2Kx", "\x1b[2J漢",
     "\r\x1b[Kx",
     "\x1b[999999X", "\x1b[999999Cx\r\x1b[K", "\x1b[999999C\x1b[1K\rx", "\x1b[P", "\x1b[2P漢\b\b",
     "\x1b[@", "\x1b[999@\r", "\x1b[999@\x1b[999P", "\x1b[999Ca", "\x1b[999G\x1b[1K\rx", "\u0301",
     "\x9b1K",
     "\x1b7\x1b[2K\x1b8x", "\x1b[s\r\x1b[K\x1b[ux"],
)  # fmt: skip
def test_the_work_grows_with_the_line(unit: str) -> None:
    """Of each line, no more cells are changed than a fixed number for each of its characters."""
    for name, start in LONG_STARTS.items():
        line = start + unit * (15_000 // len(unit))
        cells = CountingCells()
        _render(line, cells)
        assert cells.work < MAX_MOVE_COLUMNS * len(line), name


def test_lines_as_wide_as_a_terminal_are_exact() -> None:
    """However many sequences there are, all are obeyed."""
    assert shown_line("x" * 999 + "\r" + "\x1b[P" * 998) == "x"
    assert shown_line("\x1b[998Cx\r" + "\x1b[P" * 990) == " " * 8 + "x"
    assert shown_line("\x1b[998Cyx\b\b" + "\x9b1Ky\b" * 5000) == " " * 998 + "yx"
