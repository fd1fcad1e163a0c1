"""The document: tables go between markers of Markdown files, and all else there stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from . import table, verdict
from .result import Result
from .servers import ROOT

DOCS = ROOT / "docs"
FIGURES = DOCS / "performance.json"
PLOT = DOCS / "performance.png"
PAGES = (DOCS / "performance.md", ROOT / "README.md")

BLOCK = re.compile(r"(<!-- measured: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def blocks(result: Result) -> dict[str, str]:
    """Return everything that a page can show, by name."""
    return {
        "machine": verdict.machine(result),
        "targets": verdict.targets(result),
        "summary": verdict.summary(result),
        **table.everything(result),
    }


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """Return *page* with each block between its markers; one that is not there stays empty."""
    return BLOCK.sub(lambda found: f"{found[1]}{blocks.get(found[2], '-')}\n{found[3]}", page)


def write(result: Result) -> None:
    """Bring all pages up to date."""
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8"), blocks(result)), "utf-8")


def stale(result: Result, page: Path) -> bool:
    """Tell whether *page* says anything else than *result*."""
    text = page.read_text("utf-8")
    return filled(text, blocks(result)) != text
