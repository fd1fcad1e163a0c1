"""The groups of tests in conftest: without this test, nobody would notice that they are ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import DEPLOYMENTS, SLOWEST_GROUPS, group_of

DEPLOYMENT_FIXTURES = {"player", "any_server", "own_server", "cluster"}


def test_each_test_of_a_deployment_is_in_its_group(request: pytest.FixtureRequest) -> None:
    """Tests of one deployment are in one group, so that it is started once; others by file."""
    for item in request.session.items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        for name in DEPLOYMENT_FIXTURES & {*params}:
            if params[name] in DEPLOYMENTS:  # and not a server of the test's own process
                assert group_of(item.nodeid) == params[name]
    assert group_of("tests/unit/rooms/test_room.py::test_server[a-server]") == "test_room"
    assert group_of("tests/unit/rooms/test_room.py::test_server") == "test_room"


def test_the_slowest_groups_exist() -> None:
    """Each of the slowest groups is a deployment or a test file."""
    files = {path.stem for path in Path(__file__).parent.parent.rglob("test_*.py")}
    assert files | {*DEPLOYMENTS} >= {*SLOWEST_GROUPS}
