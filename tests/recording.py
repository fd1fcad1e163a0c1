"""A recording: what was on a terminal's screen, frame after frame, as an animated SVG.

It holds text, not pixels, and the same frames always make the same file: times of day are
replaced by a clock of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

import pyte

CELL, LINE, MARGIN = 8.4, 18, 12  # pixels of a character, a line, and around them all
GROUND, INK = "#1c1e26", "#d5d8e0"
PALETTE = {
    "default": INK,
    "black": "#3b3f4c",
    "red": "#e06c75",
    "green": "#8fc379",
    "brown": "#d9b36c",
    "yellow": "#d9b36c",
    "blue": "#6ea8f0",
    "magenta": "#c885dc",
    "cyan": "#62c0c8",
    "brightblack": "#8b90a0",
    "brightred": "#ff8a92",
    "brightgreen": "#b0e39a",
    "brightbrown": "#f2cf8d",
    "brightblue": "#96c3ff",
    "brightmagenta": "#e2a8f2",
    "brightcyan": "#8fe0e6",
    "white": INK,
}
_TIME = re.compile(r"\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood on the screen for so many seconds."""

    seconds: float
    svg: str


class Recording:
    """The frames of one screen."""

    def __init__(self, title: str, columns: int, rows: int) -> None:
        self._title = title
        self._columns, self._rows = columns, rows
        self._frames: list[Frame] = []
        self._times: dict[str, str] = {}
        self._lines: dict[str, int] = {}  # each that was ever on the screen, and its number

    def take(self, screen: pyte.Screen, seconds: float) -> None:
        """Add what is on the screen now."""
        shapes: list[str] = []
        for row in range(self._rows):
            line = "".join(self._row(screen, row))
            if line:
                number = self._lines.setdefault(line, len(self._lines))
                shapes.append(f'<use href="#l{number}"/>')
        if not screen.cursor.hidden:
            x, y = _place(screen.cursor.x, screen.cursor.y)
            shapes.append(f'<rect x="{x:g}" y="{y - 13:g}" width="{CELL}" height="16" class="c"/>')
        self._frames.append(Frame(seconds, "".join(shapes)))

    def svg(self) -> str:
        """Return the file. Whoever wants no motion, or has none, sees the last frame."""
        width = self._columns * CELL + 2 * MARGIN
        height = self._rows * LINE + 2 * MARGIN
        whole = sum(frame.seconds for frame in self._frames)
        rules, groups, begin = [], [], 0.0
        for number, frame in enumerate(self._frames):
            end = begin + frame.seconds
            steps = f"0%{{opacity:{0 if number else 1}}}"
            if number:
                steps += f"{100 * begin / whole:.3f}%{{opacity:1}}"
            if number < len(self._frames) - 1:
                steps += f"{100 * end / whole:.3f}%{{opacity:0}}"
            rules.append(f"@keyframes k{number}{{{steps}}}#f{number}{{animation-name:k{number}}}")
            last = " last" if number == len(self._frames) - 1 else ""
            groups.append(f'<g id="f{number}" class="f{last}">{frame.svg}</g>')
            begin = end
        style = (
            "text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
            f"white-space:pre;fill:{INK}}}.c{{fill:{INK};opacity:.7}}.b{{font-weight:bold}}"
            ".u{text-decoration:underline}.f{opacity:0}.last{opacity:1}"
            f".f{{animation:{whole:g}s step-end infinite}}{''.join(rules)}"
            "@media(prefers-reduced-motion:reduce){.f{animation:none!important}}"
        )
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        lines = (f'<g id="l{number}">{line}</g>' for line, number in self._lines.items())
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(self._title)}</title>",
                f"<style>{style}</style>",
                f"<defs>{''.join(lines)}</defs>",
                f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>',
                *groups,
                "</svg>\n",
            ]
        )

    def _row(self, screen: pyte.Screen, row: int) -> list[str]:
        """Draw one line: a text for each run of characters that look the same."""
        cells = [screen.buffer[row][column] for column in range(self._columns)]
        line = "".join(cell.data for cell in cells)
        time = _TIME.match(line)
        if time is not None:  # the same line has the same time in each frame
            told = self._times.setdefault(line[time.end() :], self._clock())
            cells[: len(told)] = [
                cell._replace(data=char) for cell, char in zip(cells, told, strict=False)
            ]
        shapes: list[str] = []
        start = 0
        while start < self._columns:
            end = start + 1
            if _is_wide(cells, start):
                end += 1
            else:
                while (
                    end < self._columns
                    and cells[end][1:] == cells[start][1:]
                    and not _is_wide(cells, end)
                ):
                    end += 1
            shapes += _run(cells[start:end], start, row)
            start = end
        return shapes

    def _clock(self) -> str:
        seconds = 10 * 3600 + 14 * 60 + 2 + 5 * len(self._times)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _is_wide(cells: list[pyte.screens.Char], column: int) -> bool:
    """Whether the character there takes two cells, of which the second is empty."""
    return column + 1 < len(cells) and not cells[column + 1].data


def _place(column: int, row: int) -> tuple[float, float]:
    return MARGIN + column * CELL, MARGIN + row * LINE + 14


def _run(cells: list[pyte.screens.Char], column: int, row: int) -> list[str]:
    text, look = "".join(cell.data for cell in cells), cells[0]
    x, y = _place(column, row)
    width = f"{len(cells) * CELL:.6g}"
    shapes: list[str] = []
    if look.reverse:
        shapes.append(f'<rect x="{x:g}" y="{y - 13:g}" width="{width}" height="17" fill="{INK}"/>')
    if text.strip():
        kept = text.rstrip()
        classes = " ".join(filter(None, ("b" * look.bold, "u" * look.underscore)))
        colour = GROUND if look.reverse else PALETTE[look.fg]
        fill = "" if colour == INK else f' style="fill:{colour}"'
        named = f' class="{classes}"' if classes else ""
        shapes.append(
            f'<text x="{x:g}" y="{y:g}" textLength="{len(kept) * CELL:.6g}"{named}{fill}>'
            f"{escape(kept, quote=False)}</text>"
        )
    return shapes
