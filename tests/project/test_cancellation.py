"""Cancellations: nothing is called that loses one on a Python that the project supports."""

from __future__ import annotations

import ast

import pytest
from programs import ROOT

FORBIDDEN = {
    "wait_for": "until Python 3.11 it swallows a cancellation that comes with the result",
    "staggered": "the race of asyncio's Happy Eyeballs calls wait_for",
    "happy_eyeballs_delay": "the same",
    "timeout": "Python 3.10 does not have it",
    "timeout_at": "Python 3.10 does not have it",
    "TaskGroup": "Python 3.10 does not have it",
}
"""Names of asyncio, and why they are not used: `console.time_limit.run_within` is right."""


def forbidden_names(source: str) -> set[str]:
    """Return which of the `FORBIDDEN` names of asyncio *source* uses."""
    found: set[str] = set()
    if not any(name in source for name in FORBIDDEN):
        return found
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="asyncio" | "tasks"), attr=name):
                found.add(name)
            case ast.ImportFrom(module=str(module), names=names) if module[:7] == "asyncio":
                found |= {*module.split("."), *(each.name for each in names)}
            case ast.Import(names=names):
                found |= {part for each in names for part in each.name.split(".")[1:]}
            case ast.keyword(arg="happy_eyeballs_delay"):
                found.add("happy_eyeballs_delay")
    return found & FORBIDDEN.keys()


@pytest.mark.parametrize("folder", ["broadcast_server", "django_site", "benchmarks", "tests"])
def test_nothing_that_loses_a_cancellation_is_called(folder: str) -> None:
    """No module calls `asyncio.wait_for`, or what calls it in turn."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in (ROOT / folder).rglob("*.py")
        if (names := forbidden_names(path.read_text("utf-8"))) and "peers" not in path.parts
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "await asyncio.wait_for(x, 1)",
        "from asyncio import wait_for",
        "from asyncio.tasks import wait_for as w",
        "import asyncio.staggered",
        "loop.create_connection(p, h, 1, happy_eyeballs_delay=0.25)",
        "async def f():\n  async with asyncio.timeout(1): pass",
    ],
)
def test_each_way_to_call_it_is_found(source: str) -> None:
    """The test above notices each way to use one of the names."""
    assert len(forbidden_names(source)) == 1
