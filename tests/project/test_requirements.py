"""The versions of libraries: what `pyproject.toml` admits is what CONTRIBUTING.md says."""

from __future__ import annotations

import re

from packaging.requirements import Requirement
from packaging.version import Version
from programs import ROOT


def requirements() -> dict[str, Requirement]:
    """Return the libraries that users install, by their names."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    lists = re.findall(r"^(?:dependencies|django) = \[(.*)\]$", project, re.MULTILINE)
    assert len(lists) == 2
    found = [Requirement(each) for part in lists for each in re.findall(r'"([^"]+)"', part)]
    return {each.name: each for each in found}


def documented() -> dict[str, list[Version]]:
    """Return the first version of each line of each library, from the table."""
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d., ]+) \|", page, re.MULTILINE)
    return {name: [Version(each) for each in first.split(", ")] for name, first in rows}


def older(version: Version) -> list[Version]:
    """Return the older patch levels of the line of *version*, or the last of the line before."""
    major, minor, patch = (*version.release, 0, 0)[:3]
    if len(version.release) > 2:
        return [Version(f"{major}.{minor}.{each}") for each in range(patch)]
    return [Version(f"{major}.{minor - 1}.99") if minor else Version(f"{major - 1}.99")]


def test_no_version_with_a_known_vulnerability_is_admitted() -> None:
    """Each line of a library begins where the table says, and continues from there."""
    given, table = requirements(), documented()
    assert set(given) == set(table)
    for name, firsts in table.items():
        admitted = given[name].specifier
        for first in firsts:
            major, minor, patch = (*first.release, 0, 0)[:3]
            assert first in admitted, (name, first)
            assert Version(f"{major}.{minor}.{patch + 1}") in admitted, (name, first)
            for each in older(first):
                assert each not in admitted, (name, each)
        assert Version(f"{max(firsts).release[0] + 1}.0") in admitted, name
