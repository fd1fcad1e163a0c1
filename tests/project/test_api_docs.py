"""docs/api.md: its reference is that of the docstrings, and its code is valid."""

from __future__ import annotations

import ast
import re

from make_api_docs import PAGE, page_text, referenced
from programs import ROOT

import broadcast_server

CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_reference_is_up_to_date() -> None:
    """The page has what the docstrings say now: run tests/make_api_docs.py after a change."""
    page = PAGE.read_text("utf-8")
    assert page_text(page) == page


def test_the_reference_is_complete() -> None:
    """The page has each name of the promise, and no other."""
    assert referenced(PAGE.read_text("utf-8")) == {*broadcast_server.__all__} - {"Event"}


def test_the_code_on_the_page_is_valid() -> None:
    """The code before the reference can be compiled, and imports public names only."""
    prose = PAGE.read_text("utf-8").partition("<!-- reference")[0]
    blocks = CODE.findall(prose)
    assert len(blocks) > 2
    for block in blocks:
        body = "".join(f"    {line}\n" for line in block.splitlines())
        for node in ast.walk(ast.parse(f"async def example():\n{body}")):
            if isinstance(node, ast.ImportFrom) and node.module == "broadcast_server":
                assert {each.name for each in node.names} <= {*broadcast_server.__all__}


def test_the_bot_of_the_page_is_the_example() -> None:
    """The five lines at the beginning are those of examples/bot.py, which is run as a test."""
    five = re.findall(r"    async with connect\(.*\n(?:        .*\n)+", PAGE.read_text("utf-8"))[0]
    example = (ROOT / "examples" / "bot.py").read_text("utf-8")
    assert five.replace('"ws://127.0.0.1:8765/"', "url") in example
