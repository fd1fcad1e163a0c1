"""The shown line: what a terminal shows of a line that moves back and overwrites itself.

Progress bars are such lines: each state but the first begins with a carriage return, and only the
last one remains. The line is as wide as it needs to be, and what a sequence does to other lines is
left out: they are messages already.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from broadcast_server.protocol.control_sequences import CONTROL_SEQUENCE

TAB_COLUMNS = 8
"""Columns between two tab stops."""

MAX_MOVE_COLUMNS = 999
"""Columns to which a sequence can move in a line that is shorter. A terminal has fewer."""

MAX_INSERT_COLUMNS = 2**16
"""Columns of a line above which no sequence inserts more: few bytes could fill the memory."""

CELLS_PER_CHARACTER = 256
"""Cells that may be changed for each character of a line, on average.

Changes of up to `MAX_MOVE_COLUMNS` cells do not count. It makes the time for a line linear in its
length: in a long line, each of thousands of short sequences could otherwise erase all of it again.
"""

_CSI = re.compile("(?:\\x1b\\[|\\x9b)(\\d{0,6})(?:;(\\d{0,6}))?([@-~])")
_MOVES = re.compile("[\\r\\b]|(?:\\x1b\\[|\\x9b)[\\d;]*[CDEFGHfsu`]|\\x1b[78]")


def shown_line(line: str) -> str:
    """Return *line*, without its line ending, as a terminal shows it.

    A line that moves back is rendered: the text that is left, without colours. Any other line is
    returned as it is, but for carriage returns at its end.
    """
    line = line.rstrip("\r")
    return line if _MOVES.search(line) is None else _render(line).text


def compact(data: bytearray) -> bytearray:
    """Return a shorter beginning of a line that is shown in the same way as *data*, if possible.

    So a progress bar that runs for hours needs no more memory than its longest state.
    """
    # Neither a character nor a sequence is cut in two by what begins here.
    cut = max(map(data.rfind, (b"\r", b"\b", b"\x1b")))
    if cut <= 0:
        return data
    row = _render(data[:cut].decode(errors="replace"))
    state = f"{row.text}{_move_to(row.saved_column)}\x1b7{_move_to(row.column)}"
    return bytearray(state.encode()) + data[cut:]


def _move_to(column: int) -> str:
    return f"\r\x1b[{column}C" if column else "\r"


@cache
def _tokens() -> re.Pattern[str]:
    """Return the pattern of what is rendered as one. Compiled when needed, which takes 10 ms."""
    return re.compile(f"[ -~]+|{CONTROL_SEQUENCE}|[\\x00-\\U0010ffff]")


def _render(line: str, cells: list[str] | None = None) -> _Row:
    """Return the row after *line*. It is kept in *cells*, an empty list, if that is given."""
    row = _Row([] if cells is None else cells)
    for token in _tokens().findall(line):
        row.allowance += CELLS_PER_CHARACTER * len(token)
        kind = unicodedata.category(token[0])
        if kind == "Cc":
            row.obey(token)
        elif kind in ("Mn", "Me", "Cf"):
            row.combine(token)
        elif unicodedata.east_asian_width(token[0]) in "WF":
            row.put([token, ""])
        else:
            row.put([*token])
    return row


class _Row:
    """One row of a terminal. A cell holds a character, or "" behind one that takes two columns.

    What changes cells, other than by writing text and by cutting the row off, takes them from the
    allowance if they are many. It is left out if the allowance is used up.
    """

    def __init__(self, cells: list[str]) -> None:
        self.column = 0
        self.saved_column = 0
        self.allowance = 0
        self._cells = cells

    @property
    def text(self) -> str:
        """What is shown, without the space at its end: an erased state leaves nothing else."""
        return "".join(self._cells).rstrip(" ")

    def put(self, cells: list[str]) -> None:
        """Write *cells* from the cursor on, and move it behind them."""
        gap = self.column - len(self._cells)
        if gap > 0:
            if self._take(gap):
                self._cells += [" "] * gap
            else:
                self.column -= gap
        start, end = self.column, self.column + len(cells)
        self._erase(start, min(end, len(self._cells)))
        self._cells[start:end] = cells
        self.column = end

    def combine(self, mark: str) -> None:
        """Add a character that takes no column to the one before the cursor."""
        at = min(self.column, len(self._cells)) - 1
        if at > 0 and not self._cells[at]:
            at -= 1
        if at >= 0 and self._take(len(self._cells[at])):
            self._cells[at] += mark

    def obey(self, control: str) -> None:
        """Obey a control character or a control sequence."""
        match control:
            case "\r":
                self.column = 0
            case "\b":
                self.column = max(0, self.column - 1)
            case "\t":
                self._move(self.column + TAB_COLUMNS - self.column % TAB_COLUMNS)
            case "\x1b7":
                self.saved_column = self.column
            case "\x1b8":
                self.column = self.saved_column
        if parts := _CSI.fullmatch(control):
            self._obey_csi(parts[3], int(parts[1] or 0), int(parts[2] or 0))

    def _obey_csi(self, final: str, first: int, second: int) -> None:
        column, count, length = self.column, max(1, first), len(self._cells)
        match final:
            case "C":
                self._move(column + count)
            case "D":
                self.column = max(0, column - count)
            case "G" | "`":
                self._move(count - 1)
            case "H" | "f":
                self._move(max(1, second) - 1)
            case "E" | "F":
                self.column = 0
            case "s":
                self.saved_column = column
            case "u":
                self.column = self.saved_column
            case "K" | "J" if first == 0:
                self._remove(column, length)
            case "K" | "J" if first == 2 or (first == 1 and column >= length):
                self._cells.clear()
            case "K" | "J" if first == 1 and self._take(column + 1):
                self._erase(0, column + 1)
            case "X" if self._take(min(count, length - column)):
                self._erase(column, min(column + count, length))
            case "P" if self._take(length - column):
                self._remove(column, min(column + count, length))
            case "@" if column < length <= MAX_INSERT_COLUMNS and self._take(length - column):
                self._erase(column, column)
                self._cells[column:column] = [" "] * min(count, MAX_MOVE_COLUMNS)

    def _move(self, column: int) -> None:
        self.column = min(column, max(MAX_MOVE_COLUMNS, len(self._cells), self.column))

    def _take(self, cells: int) -> bool:
        """Return whether that many *cells* may be changed, and take them from the allowance."""
        if cells <= MAX_MOVE_COLUMNS:
            return True
        if cells > self.allowance:
            return False
        self.allowance -= cells
        return True

    def _remove(self, start: int, end: int) -> None:
        """Remove the cells from *start* to *end*; those behind them move."""
        if start < end:
            self._erase(start, start)
            self._erase(end, end)
            del self._cells[start:end]

    def _erase(self, start: int, end: int) -> None:
        """Make blanks of the cells from *start* to *end*; a wide character is erased as a whole."""
        cells = self._cells
        if start < len(cells) and not cells[start]:
            cells[start - 1] = " "
        if end < len(cells) and not cells[end]:
            cells[end] = " "
        if start < end:
            cells[start:end] = [" "] * (end - start)
