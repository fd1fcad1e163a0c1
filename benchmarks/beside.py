"""Another tree of this project beside this one: the commit before, in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from . import plan
from .catalogue import INSTALLED, OURS, UVLOOP, ours, uvloop
from .hosted import hosted_servers
from .servers import Server


def before(name: str) -> str:
    """Return the name of the same server from the tree of the commit before."""
    return f"{name}, before"


def is_before(name: str) -> bool:
    """Return whether *name* is that of a server from the tree of the commit before."""
    return name == before(name.removesuffix(before("")))


FLOOR_MEASUREMENTS = frozenset(
    {
        plan.JOINS.name,
        *(plan.saturation(count, 64).name for count in (10, 100, 1000)),
        plan.saturation(1000, 1024).name,
    }
)
RESUME_MEASUREMENTS = frozenset({plan.JOINS.name, *(plan.stampede(n).name for n in plan.STAMPEDES)})


def standalone_before(tree: Path) -> list[Server]:
    """Return the standalone servers of *tree*, for the measurements with a target."""
    archive = tree / OURS
    return [
        ours(
            before(OURS),
            str(archive),
            missing=lambda: None if archive.exists() else f"no {archive.name} in its tree",
            tree=tree,
        ),
        replace(
            ours(before(INSTALLED), "-m", "broadcast_server", tree=tree), only=FLOOR_MEASUREMENTS
        ),
        replace(uvloop(before(UVLOOP), tree), only=RESUME_MEASUREMENTS),
    ]


def hosted_before(tree: Path, services: Mapping[str, str]) -> list[Server]:
    """Return the Django deployments of *tree*; *services* are its own."""
    return [
        replace(each, name=before(each.name), folder=tree)
        for each in hosted_servers(services)
        if each.ours
    ]
