"""A recording: the screens of a terminal session as an animated SVG.

The SVG contains text, not pixels. The same frames always produce the same file, because times
of day are replaced by those of a fixed clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

import pyte

CELL, LINE, MARGIN = 8.4, 18, 12  # pixels: width of a character, height of a line, margin
BACKGROUND, FOREGROUND = "#1c1e26", "#d5d8e0"
PALETTE = {
    "default": FOREGROUND,
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
    "white": FOREGROUND,
}
_TIME = re.compile(r"\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Frame:
    """The content of the screen, shown for *seconds*."""

    seconds: float
    svg: str


class Recording:
    """The frames of one terminal."""

    def __init__(self, title: str, columns: int, rows: int) -> None:
        self._title = title
        self._columns, self._rows = columns, rows
        self._frames: list[Frame] = []
        self._times: dict[str, str] = {}
        self._lines: dict[str, int] = {}  # every line that was ever on the screen, and its number

    def take(self, screen: pyte.Screen, seconds: float) -> None:
        """Add a frame with the current content of *screen*, to be shown for *seconds*."""
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
        """Return the SVG file; it shows the last frame where motion is not supported or wanted."""
        width = self._columns * CELL + 2 * MARGIN
        height = self._rows * LINE + 2 * MARGIN
        duration = sum(frame.seconds for frame in self._frames)
        rules, groups, begin = [], [], 0.0
        for number, frame in enumerate(self._frames):
            end = begin + frame.seconds
            steps = f"0%{{opacity:{0 if number else 1}}}"
            if number:
                steps += f"{100 * begin / duration:.3f}%{{opacity:1}}"
            if number < len(self._frames) - 1:
                steps += f"{100 * end / duration:.3f}%{{opacity:0}}"
            rules.append(f"@keyframes k{number}{{{steps}}}#f{number}{{animation-name:k{number}}}")
            last = " last" if number == len(self._frames) - 1 else ""
            groups.append(f'<g id="f{number}" class="f{last}">{frame.svg}</g>')
            begin = end
        style = (
            "text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
            f"white-space:pre;fill:{FOREGROUND}}}.c{{fill:{FOREGROUND};opacity:.7}}.b{{font-weight:bold}}"
            ".u{text-decoration:underline}.f{opacity:0}.last{opacity:1}"
            f".f{{animation:{duration:g}s step-end infinite}}{''.join(rules)}"
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
                f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
                *groups,
                "</svg>\n",
            ]
        )

    def _row(self, screen: pyte.Screen, row: int) -> list[str]:
        """Draw one line of the screen: a text for each run of characters of the same style."""
        cells = [screen.buffer[row][column] for column in range(self._columns)]
        line = "".join(cell.data for cell in cells)
        time = _TIME.match(line)
        if time is not None:  # a line has the same time in each frame
            shown = self._times.setdefault(line[time.end() :], self._clock())
            cells[: len(shown)] = [
                cell._replace(data=char) for cell, char in zip(cells, shown, strict=False)
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
    text, style = "".join(cell.data for cell in cells), cells[0]
    x, y = _place(column, row)
    width = f"{len(cells) * CELL:.6g}"
    shapes: list[str] = []
    if style.reverse:
        shapes.append(
            f'<rect x="{x:g}" y="{y - 13:g}" width="{width}" height="17" fill="{FOREGROUND}"/>'
        )
    if text.strip():
        kept = text.rstrip()
        classes = " ".join(filter(None, ("b" * style.bold, "u" * style.underscore)))
        colour = BACKGROUND if style.reverse else PALETTE[style.fg]
        fill = "" if colour == FOREGROUND else f' style="fill:{colour}"'
        named = f' class="{classes}"' if classes else ""
        shapes.append(
            f'<text x="{x:g}" y="{y:g}" textLength="{len(kept) * CELL:.6g}"{named}{fill}>'
            f"{escape(kept, quote=False)}</text>"
        )
    return shapes
