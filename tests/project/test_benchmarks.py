"""The benchmarks: that they count correctly. No test depends on how fast anything is."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from programs import ROOT

from benchmarks import capacity, cases, document, growth, inputs, plan, start_up, table, targets
from benchmarks.beside import before, is_before, standalone_before
from benchmarks.catalogue import INSTALLED, OURS, SERVERS, WEBSOCKETS, compiler_missing
from benchmarks.hosted import DAPHNE, MEMORY, site, site_name, tutorial, tutorial_name
from benchmarks.load import Failed, Load, faults
from benchmarks.result import Result, in_order, now, read, take
from benchmarks.servers import Running, Server, running
from benchmarks.tls_idle import idle_tls

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


def test_every_second_client_uses_the_other_port(load: Load, tmp_path: Path) -> None:
    """With another process that shares nothing, half of the clients get nothing."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with running(ALL[INSTALLED], one) as it, running(ALL[INSTALLED], other) as them:
        target = {**it.target, "other_port": them.port, "other_pid": them.process.pid}
        figures = load.run(**target, clients=6, senders=1, window=2, warm=0.1, seconds=0.1, drain=1)
    assert 0 < figures["messages"] * 3 == figures["missing"]


@pytest.mark.parametrize("name", [INSTALLED, WEBSOCKETS])
def test_every_join_is_announced_once_in_its_room(name: str, load: Load, tmp_path: Path) -> None:
    """The joins that are counted are all seen by the members of the room who came before."""
    with running(ALL[name], tmp_path, "rooms") as it:
        figures = load.run(**it.target, mode="joins", clients=20, rooms=4, drain=20)
    assert faults(figures) == []
    assert (figures["joins"], figures["announced"]) == (20, 4 * 5 * 4 // 2)


@pytest.mark.parametrize(
    ("announce", "fault"),
    [
        ("broadcast(here, text); broadcast(here, text)", "messages twice"),
        ("broadcast(set().union(*rooms.values()), text)", "messages twice"),
        ("here.add(connection); broadcast(here, text)", "messages twice"),
        ("broadcast(set(sorted(here, key=id)[1:]), text)", "deliveries missing"),
    ],
    ids=["twice", "in another room", "to itself", "not to all"],
)
def test_a_wrong_announcement_is_a_fault(
    announce: str, fault: str, load: Load, tmp_path: Path
) -> None:
    """A join that is announced twice, elsewhere or not to everyone is a fault."""
    program = tmp_path / "rooms.py"
    source = Path(ALL[WEBSOCKETS].variants["rooms"](0, tmp_path)[1]).read_text("utf-8")
    line = "broadcast(here, f\"{query['name'][0]} joined the chat\")"
    assert line in source
    text = "text = f\"{query['name'][0]} joined the chat\"; "
    program.write_text(source.replace(line, text + announce), "utf-8")
    server = Server("wrong", lambda port, scratch: [sys.executable, str(program), str(port)])
    with running(server, tmp_path) as it:
        figures = load.run(**it.target, mode="joins", clients=6, senders=1, rooms=2, drain=0.3)
    assert fault in "; ".join(faults(figures))


def test_what_a_server_does_for_its_first_client_does_not_count(load: Load, tmp_path: Path) -> None:
    """Modules that it loads only then are no memory of its idle connections."""
    program, result = tmp_path / "lazy.py", now()
    program.write_text(LAZY, "utf-8")
    lazy = Server("lazy", lambda port, scratch: [sys.executable, str(program), str(port)])
    take(result, [lazy], [plan.memory(10)], load, tmp_path, lambda line: None)
    (figures,) = result.of("lazy", plan.memory(10).name)
    assert figures["before"] > LOADED_LATE_BYTES


def test_what_needs_much_memory_is_rehearsed(load: Load, tmp_path: Path) -> None:
    """The first of such runs does not count."""
    pids, result = [], now()

    def note(load: Load, server: Running) -> dict[str, int]:
        pids.append(server.process.pid)
        return {"pid": server.process.pid}

    large, small = (
        plan.Measurement(f"{much}", note, 1, needs_much_memory=much) for much in (True, False)
    )
    take(result, [ALL[WEBSOCKETS]], [large, small], load, tmp_path, lambda line: None)
    assert [figures["pid"] for figures in result.figures] == pids[1:] and len(pids) == 3
    assert plan.saturation(1000, 1024).needs_much_memory
    assert not plan.saturation(1000, 64).needs_much_memory


def test_no_server_always_has_the_first_turn() -> None:
    """Every other round is in the opposite order."""
    first, second = ALL[INSTALLED], ALL[WEBSOCKETS]
    rounds = [list(in_order([first, second], number)) for number in range(3)]
    assert rounds == [[first, second], [second, first], [first, second]]


def test_idle_tls_connections_are_held(tmp_path: Path) -> None:
    """The connections are open while they are held; a server that cuts them is noticed."""
    with running(ALL[INSTALLED], tmp_path, "tls") as it:
        with idle_tls(it.port, 3):
            pass
        held = ExitStack()
        held.enter_context(idle_tls(it.port, 3))
    with pytest.raises(Failed, match="cut"):  # the server was killed
        held.close()


LOADED_LATE_BYTES = 30_000_000

LAZY = f"""
import asyncio, sys
from websockets.asyncio.server import serve
loaded = []
async def chat(connection):
    if not loaded:
        loaded.append(b"x" * {LOADED_LATE_BYTES})
    await connection.wait_closed()
async def main():
    async with serve(chat, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()
asyncio.run(main())
"""

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


def made(measurement: str, *figures: Mapping[str, object]) -> Result:
    """Return a result with *figures* of the file in one measurement."""
    rounds = [{"server": OURS, "measurement": measurement, **each} for each in figures]
    return Result("2026-01-01", "a machine", figures=rounds)


def test_a_run_with_a_fault_does_not_count() -> None:
    """Neither a failed run nor one with a fault is in a median, and both are listed."""
    good, faulty = {"seconds": 3.0}, {"seconds": 1.0, "faults": 2}
    result = made("start", good, faulty, {"failed": "no"})
    assert result.median(OURS, "start", lambda figures: figures["seconds"]) == 3.0
    told = [f"start, {OURS}: 2 messages twice, out of order or after a gap", f"start, {OURS}: no"]
    assert result.discarded == told


def test_a_target_without_a_measurement_is_not_measured() -> None:
    """An empty result has every target, and each of them says that it was not measured."""
    rows = targets.targets(Result("2026-01-01", "a machine")).splitlines()[2:]
    assert len(rows) == len(targets.TARGETS) > 25
    assert all(row.endswith("| - | - | not measured |") for row in rows)


@pytest.mark.parametrize(("kib", "verdict"), [(3.5, "met"), (3.6, "**missed**")])
def test_a_target_is_met_up_to_its_bound(kib: float, verdict: str) -> None:
    """The bound itself is within the target."""
    result = made(plan.memory(1000).name, {"before": 0, "held": kib * 1024, "clients": 1})
    (row,) = [row for row in targets.targets(result).splitlines() if "idle connection |" in row]
    assert row == f"| idle connection | at most 3.5 KiB | - | {kib} KiB | {verdict} |"


def test_stored_figures_stay_beside_newer_ones() -> None:
    """Figures are replaced for what was measured again only."""
    old = made("start", {"seconds": 1.0}, {"seconds": 1.0})
    old.figures += made("handshakes", {"handshakes": 5}).figures
    both = old.updated(made("start", {"seconds": 2.0}))
    assert [each.get("seconds") for each in both.figures] == [None, 2.0]


def test_the_tree_before_has_names_of_its_own(tmp_path: Path) -> None:
    """Its servers run in its folder, and are told from ours and from the others by their names."""
    servers = standalone_before(tmp_path)
    assert servers[0].name == before(OURS)
    assert all(is_before(each.name) and each.folder == tmp_path for each in servers)
    assert not any(is_before(name) for name in ALL)
    assert servers[0].missing()


def test_a_slope_is_that_of_the_exponent() -> None:
    """What is proportional has a slope of 1, what is constant one of 0."""
    assert growth.slope({10: 3.0, 100: 30.0, 1000: 300.0}) == pytest.approx(1)
    assert growth.slope({10: 3.0, 1000: 3.0}) == pytest.approx(0)
    assert growth.slope({10: 3.0}) is None


def test_the_first_bound_is_the_lowest() -> None:
    """A process breaks first where it holds the fewest clients; memory is shared by all."""
    cost = capacity.Costs(
        connection_kib=3,
        kernel_kib=1,
        join_us=100,
        resume_us=600,
        alone_us=12,
        steady_us=4,
        full_us=0.1,
    )
    memory, files, resumed, spoken = capacity.bounds(cost)
    assert (memory.one, memory.many) == (96 * 2**18, 96 * 2**18)
    assert (files.one, resumed.one, spoken.one) == (2**17 - 64, 100_000, 60_000)
    assert capacity.first([memory, files, resumed, spoken], many=False) == spoken
    assert "at 60,000 clients" in capacity.server_text(cost)


def test_a_deployment_is_compared_with_the_tutorial_on_the_same_server() -> None:
    """So are those of the tree before, wherever they stand in a result."""
    name = site_name(DAPHNE, MEMORY)
    assert table.tutorial_of(name) == table.tutorial_of(before(name))
    assert table.tutorial_of(before(name)) == tutorial_name(DAPHNE, MEMORY)


def test_the_start_up_of_each_command_is_measured(
    zipapp_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each program runs in each round, as often with a cache as without, beside another tree."""
    (tmp_path / "broadcast_server").symlink_to(ROOT / "broadcast_server")
    (tmp_path / OURS).symlink_to(zipapp_path)
    monkeypatch.setattr(start_up, "ROOT", tmp_path)
    result = Result("", "")
    start_up.measure(result, tmp_path, lambda _: None, rounds=1)
    assert [each for each in result.figures if "failed" in each] == []
    measured = [(each["server"], each["measurement"]) for each in result.figures]
    assert len(measured) == len(set(measured)) == 11
    assert all(each["seconds"] > 0 for each in result.figures)
    for target in targets.start_up():
        assert "not measured" not in target.row(result)


def test_a_program_that_does_not_start_is_a_failure() -> None:
    """A command that ends with an error, or says something else, has no time."""
    for code, failure in (("exit(3)", "exit code 3"), ("import sys; exit('no')", "no")):
        program = start_up.Program("x", "y", [sys.executable, "-c", code])
        assert program.run() == {"failed": failure}
