"""The groups in which tests are shared out: nothing else would tell that they do not count."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOUSES, LONGEST, group_of

PLAYERS = {"player", "anywhere", "dialled", "cluster"}


def test_each_test_of_a_house_is_in_its_group(request: pytest.FixtureRequest) -> None:
    """Tests of a house go to one process, so that it is not started twice; others by file."""
    for item in request.session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        for name in PLAYERS & {*params}:
            assert group_of(item.nodeid) == params[name]
    assert group_of("tests/test_room.py::test_server[a-server]") == "test_room"
    assert group_of("tests/test_room.py::test_server") == "test_room"


def test_the_longest_groups_are_groups() -> None:
    """Each group that is to begin first is that of a house or of a file."""
    files = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    assert files | {*HOUSES} >= {*LONGEST}
