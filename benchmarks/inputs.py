"""The inputs: what broken and hostile clients sent in a fuzz, and what each of them got.

`python -m benchmarks.fuzz --save` keeps that for a house; `python -m benchmarks.inputs` makes the
table in docs/inputs.md of it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .document import DOCS, filled

FIGURES = DOCS / "inputs.json"
PAGE = DOCS / "inputs.md"

HOUSES = {"zipapp": "the single file", "daphne": "the site, under Daphne"}

RARE = 0.05
"""What came of fewer than so many is not in the table: a case may have something else odd in it."""

WORDS = {
    "nothing": "nothing yet",
    "ended": "cut",
    "101, open": "in",
    "101, ended": "in, and out at its end",
}

Outcomes = Mapping[str, int]


def save(house: str, cases: int, minutes: float, outcomes: Mapping[str, Outcomes]) -> None:
    """Keep what came of a fuzz of *house*, by the kind of case, in place of what was before."""
    figures = read()
    kinds = {kind: dict(outcomes[kind]) for kind in sorted(outcomes)}
    figures[house] = {"cases": cases, "minutes": minutes, "outcomes": kinds}
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")


def read() -> dict[str, Any]:
    """Return what was kept."""
    found = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    assert isinstance(found, dict)
    return found


def words(outcomes: Outcomes) -> str:
    """Say what came of the cases of one kind, the most frequent first."""
    total = sum(outcomes.values())
    common = sorted(outcomes.items(), key=lambda each: (-each[1], each[0]))
    told = [(what, many / total) for what, many in common if many >= RARE * total]
    return ", ".join(f"{_word(what)} ({share:.0%})" for what, share in told)


def _word(outcome: str) -> str:
    if outcome.isdecimal():
        return f"HTTP {outcome}"
    return WORDS.get(outcome) or re.sub(r"^101, closed with ", "closed with ", outcome)


def table(figures: Mapping[str, Any]) -> str:
    """Return the table, a kind of case a row."""
    kinds = sorted(set().union(*(figures[house]["outcomes"] for house in HOUSES)))
    rows = [
        f"| what is sent | {' | '.join(HOUSES.values())} |",
        "|---" * (1 + len(HOUSES)) + "|",
    ]
    for kind in kinds:
        cells = (words(figures[house]["outcomes"].get(kind, {})) for house in HOUSES)
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(figures: Mapping[str, Any]) -> str:
    """Say of how many cases the table is."""
    counts = (
        f"{figures[house]['cases']:,} cases in {figures[house]['minutes']:g} minutes to {name}"
        for house, name in HOUSES.items()
    )
    return f"{', '.join(counts)}."


def page(text: str) -> str:
    """Return the page's *text* with what was kept."""
    figures = read()
    return filled(text, {"inputs": table(figures), "cases": summary(figures)})


def main(path: Path = PAGE) -> int:
    """Bring the page up to date."""
    path.write_text(page(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
