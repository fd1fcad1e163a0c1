"""The benchmarks: that they count correctly. No test depends on how fast anything is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import cases, document, inputs
from benchmarks.catalogue import SERVERS, compiler_missing
from benchmarks.hosted import DAPHNE, MEMORY, site, tutorial
from benchmarks.load import Load, faults
from benchmarks.result import read
from benchmarks.servers import Server, running

if sys.platform != "linux":
    pytest.skip("the load is made with epoll", allow_module_level=True)

SITES = (tutorial(DAPHNE, MEMORY, {}), site(DAPHNE, MEMORY, {}))
ALL = {each.name: each for each in (*SERVERS, *SITES)}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """The load generator, compiled once."""
    reason = compiler_missing()
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


def test_all_clients_get_all_messages_once_and_in_order(
    server: Server, load: Load, tmp_path: Path
) -> None:
    """With each server that is compared, all clients get all messages once, in the same order."""
    with running(server, tmp_path) as it:
        figures = load.run(**it.target, clients=20, senders=4, window=8, warm=0.1, seconds=0.1)
    assert faults(figures) == []
    assert figures["drained"] and figures["missing"] == 0 and figures["one_order"]
    assert figures["messages"] >= 4


@pytest.mark.parametrize("page", document.PAGES, ids=lambda page: page.name)
def test_every_figure_in_a_page_was_measured(page: Path) -> None:
    """The tables of a page are those of the stored result."""
    assert not document.stale(read(document.FIGURES), page)


def test_only_text_between_markers_is_replaced() -> None:
    """A page keeps its other text, and a table that was not measured becomes a dash."""
    page = "a\n<!-- measured: one -->\nold\n<!-- end -->\nb\n<!-- measured: two -->\n<!-- end -->\n"
    filled = document.filled(page, {"one": "new"})
    assert filled == page.replace("old", "new").replace("two -->\n", "two -->\n-\n")


def test_a_duplicate_message_is_a_fault(load: Load, tmp_path: Path) -> None:
    """The load generator counts a message that a server sends twice as a fault."""
    program = tmp_path / "twice.py"
    program.write_text(TWICE, "utf-8")
    server = Server("twice", lambda port, scratch: [sys.executable, str(program), str(port)])
    with running(server, tmp_path) as it:
        figures = load.run(**it.target, clients=4, senders=1, window=2, warm=0.1, seconds=0.1)
    assert faults(figures) and "twice" in faults(figures)[0]


TWICE = """
import asyncio, sys
from websockets.asyncio.server import broadcast, serve
here = set()
async def chat(connection):
    here.add(connection)
    async for message in connection:
        broadcast(here, message)
        broadcast(here, message)
async def main():
    async with serve(chat, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def test_every_kind_of_case_is_in_the_page() -> None:
    """docs/inputs.md has a row for each kind of case, with the stored outcomes."""
    text = inputs.PAGE.read_text("utf-8")
    assert inputs.page(text) == text
    kinds = {*cases.HEADS, *cases.FRAMES, "garbled"}
    assert {"what is sent", *kinds} == set(re.findall(r"^\| (.+?) \| ", text, re.MULTILINE))


def test_rare_outcomes_are_left_out() -> None:
    """Outcomes are listed with their shares, the most frequent first, without the rare ones."""
    outcomes = {"400": 30, "101, closed with 4500": 68, "nothing": 2}
    assert inputs.describe(outcomes) == "closed with 4500 (68%), HTTP 400 (30%)"
