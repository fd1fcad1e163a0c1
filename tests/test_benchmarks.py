"""The benchmark: that what it counts is right. How fast anything is, is not a test's business."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.catalogue import SERVERS, no_compiler
from benchmarks.hosted import DAPHNE, site, tutorial
from benchmarks.load import Load, faults
from benchmarks.servers import Server, running

SITES = (tutorial(DAPHNE, "in memory", {}), site(DAPHNE, "SQLite, in memory", {}))
ALL = {each.name: each for each in (*SERVERS, *SITES)}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The load generator, compiled once."""
    reason = no_compiler()
    if reason:
        pytest.skip(reason)
    return Load(tmp_path_factory.mktemp("load"))


@pytest.fixture(params=ALL)
def server(request: pytest.FixtureRequest) -> Server:
    """Each server that this machine can run, in turn."""
    server = ALL[request.param]
    reason = server.missing()
    if reason:
        pytest.skip(reason)
    return server


def test_everyone_gets_every_message_once_and_in_order(
    server: Server, load: Load, tmp_path: Path
) -> None:
    """Of each server that is compared, all clients get all messages once, and in one order."""
    with running(server, tmp_path) as it:
        figures = load.run(**it.target, clients=20, senders=4, window=8, warm=0.1, seconds=0.1)
    assert faults(figures) == []
    assert figures["drained"] and figures["missing"] == 0 and figures["one_order"]
    assert figures["messages"] >= 4
