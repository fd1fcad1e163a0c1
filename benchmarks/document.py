"""Write tables between the markers of Markdown pages; the rest of a page stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from . import capacity, growth, table, targets, verdict
from .result import Result
from .servers import ROOT

DOCS = ROOT / "docs"
FIGURES = DOCS / "performance.json"
PLOT = DOCS / "performance.png"
GROWTH_PLOT = DOCS / "growth.png"
PAGES = (DOCS / "performance.md", ROOT / "README.md")

BLOCK = re.compile(r"(<!-- measured: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def blocks(result: Result) -> dict[str, str]:
    """Return all blocks that a page can show, by name."""
    return {
        "machine": verdict.machine(result),
        "targets": targets.targets(result),
        "summary": verdict.summary(result),
        **table.everything(result),
        **growth.blocks(result),
        **capacity.blocks(result),
    }


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """Return *page* with each block between its markers; a dash if it was not measured."""
    return BLOCK.sub(lambda found: f"{found[1]}{blocks.get(found[2], '-')}\n{found[3]}", page)


def write(result: Result) -> None:
    """Update all pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), blocks(result)), "utf-8")


def stale(result: Result, page: Path) -> bool:
    """Return whether a block of *page* differs from *result*."""
    text = page.read_text("utf-8")
    return filled(text, blocks(result)) != text
