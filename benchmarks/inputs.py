"""The inputs: what broken and hostile clients sent in a fuzz run, and how the server responded.

`python -m benchmarks.fuzz --save` stores that for one deployment; `python -m benchmarks.inputs`
writes the table in docs/inputs.md from it.
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

DEPLOYMENTS = {"zipapp": "the standalone server", "daphne": "the Django deployment, under Daphne"}

MIN_SHARE = 0.05
"""Outcomes with a smaller share of the cases are left out: a case may have a second defect."""

OUTCOME_TEXTS = {
    "nothing": "no response yet",
    "ended": "cut",
    "101, open": "joined",
    "101, ended": "joined, then ended",
}

Outcomes = Mapping[str, int]


def save(deployment: str, cases: int, minutes: float, outcomes: Mapping[str, Outcomes]) -> None:
    """Store the outcomes of a fuzz run against *deployment*, in place of its older ones."""
    figures = read()
    kinds = {kind: dict(outcomes[kind]) for kind in sorted(outcomes)}
    figures[deployment] = {"cases": cases, "minutes": minutes, "outcomes": kinds}
    FIGURES.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", "utf-8")


def read() -> dict[str, Any]:
    """Return the stored outcomes of all deployments."""
    stored = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    assert isinstance(stored, dict)
    return stored


def describe(outcomes: Outcomes) -> str:
    """Describe the outcomes of one kind of case, the most frequent first."""
    total = sum(outcomes.values())
    common = sorted(outcomes.items(), key=lambda each: (-each[1], each[0]))
    listed = [(what, many / total) for what, many in common if many >= MIN_SHARE * total]
    return ", ".join(f"{_word(what)} ({share:.0%})" for what, share in listed)


def _word(outcome: str) -> str:
    if outcome.isdecimal():
        return f"HTTP {outcome}"
    return OUTCOME_TEXTS.get(outcome) or re.sub(r"^101, closed with ", "closed with ", outcome)


def table(figures: Mapping[str, Any]) -> str:
    """Return the table, one row for each kind of case."""
    kinds = sorted(set().union(*(figures[deployment]["outcomes"] for deployment in DEPLOYMENTS)))
    rows = [
        f"| what is sent | {' | '.join(DEPLOYMENTS.values())} |",
        "|---" * (1 + len(DEPLOYMENTS)) + "|",
    ]
    for kind in kinds:
        cells = (
            describe(figures[deployment]["outcomes"].get(kind, {})) for deployment in DEPLOYMENTS
        )
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(figures: Mapping[str, Any]) -> str:
    """Return how many cases the table covers, by deployment."""
    counts = (
        f"{figures[key]['cases']:,} cases in {figures[key]['minutes']:g} minutes to {name}"
        for key, name in DEPLOYMENTS.items()
    )
    return f"{', '.join(counts)}."


def page(text: str) -> str:
    """Return the page's *text* with the table and counts of the stored outcomes."""
    figures = read()
    return filled(text, {"inputs": table(figures), "cases": summary(figures)})


def main(path: Path = PAGE) -> int:
    """Update the page."""
    path.write_text(page(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
