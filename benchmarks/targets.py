"""The targets: what must be true, beside what was measured, and whether it was met.

A target whose measurement is missing in a result is listed as not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import growth, plan
from .beside import before
from .catalogue import COALESCING_FLOOR, FLOOR, INSTALLED, OURS, UVLOOP, WEBSOCKETS
from .hosted import DAPHNE, LOGS, MEMORY, REDIS, UVICORN, site_name, tutorial_name
from .load import Figures
from .result import Result
from .table import (
    Value,
    cpu_per_million,
    deliveries_a_cpu_second,
    handshakes_a_second,
    kib_per_connection,
    number,
    percentile,
    rate,
    short,
    table,
    total_mib,
)
from .verdict import CLIENTS, best, peers

Naming = Callable[[str], str]
"""Returns the name of one of our servers in the tree that is looked at: this one, or the other."""

Found = Callable[[Result, Naming], float | None]


def this(name: str) -> str:
    """Return the name of a server of this tree."""
    return name


def times(share: float | None) -> str:
    """Format a quotient."""
    return "-" if share is None else f"{short(share)} x"


def in_unit(unit: str, digits: int = 1) -> Callable[[float | None], str]:
    """Return a function that formats a value with its unit."""
    return lambda value: number(value, digits, f" {unit}")


@dataclass(frozen=True)
class Target:
    """A target: the value that *found* reads from a result has a lower or an upper bound."""

    what: str
    found: Found
    least: float | None = None
    most: float | None = None
    show: Callable[[float | None], str] = times
    note: Callable[[Result], str] = lambda result: ""
    """What stands behind the measured value, such as the name of the best peer."""

    def verdict(self, value: float | None) -> str:
        """Return whether *value* is within the bounds."""
        if value is None:
            return "not measured"
        low = self.least is not None and value < self.least
        high = self.most is not None and value > self.most
        return "**missed**" if low or high else "met"

    def row(self, result: Result) -> list[str]:
        """Return the target's row."""
        value = self.found(result, this)
        note = self.note(result) if value is not None else ""
        return [
            self.what,
            self.bound(),
            self.show(self.found(result, before)),
            f"{self.show(value)} {note}".strip(),
            self.verdict(value),
        ]

    def bound(self) -> str:
        """Return the bound in words."""
        if self.least is not None:
            return f"at least {self.show(self.least)}"
        return "measured" if self.most is None else f"at most {self.show(self.most)}"


def quotient(value: float | None, by: float | None) -> float | None:
    """Return the quotient, None if a value is missing."""
    return None if value is None or not by else value / by


def of(server: str, measurement: str, value: Value) -> Found:
    """Return the median of one of our servers."""
    return lambda result, at: result.median(at(server), measurement, value)


def to(rival: str, server: str, measurement: str, value: Value) -> Found:
    """Return the ratio of one of our servers to *rival*, which is the same in both trees."""
    return lambda result, at: quotient(
        result.median(at(server), measurement, value), result.median(rival, measurement, value)
    )


JOINS, HANDSHAKES = plan.JOINS.name, plan.handshakes().name
BACK, FLOOD = plan.stampede(5000).name, plan.FLOOD.name
IDLE, MANY, TLS = plan.memory(1000).name, plan.memory(10_000).name, plan.TLS.name
FULL, CALM, SINGLE = plan.saturation(CLIENTS, 64).name, plan.steady(200).name, plan.steady(20).name
LARGE = plan.saturation(CLIENTS, 1024).name
P99 = percentile("p99")


def joins() -> Iterator[Target]:
    """Yield the targets of those who join and come back."""

    def by_cpu(result: Result) -> str:
        share = to(WEBSOCKETS, OURS, JOINS, growth.joins_a_cpu_second)(result, this)
        return f"(by CPU {times(share)})"

    yield Target(
        "joins/s, 1,000 in 20 rooms, each announced: beside websockets",
        to(WEBSOCKETS, OURS, JOINS, growth.joins_a_second),
        least=2.5,
        note=by_cpu,
    )
    for rival, least in (("Node ws", 1), ("picows", 0.6), ("Go gorilla/websocket", 0.3)):
        yield Target(
            f"handshakes/s: beside {rival}",
            to(rival, OURS, HANDSHAKES, handshakes_a_second),
            least=least,
        )
    seconds = in_unit("s")
    yield Target(
        "5,000 back at once: server CPU", of(OURS, BACK, growth.cpu_of_all), most=2, show=seconds
    )

    def loops(result: Result, at: Naming) -> float | None:
        asyncio, uvloop = (
            result.median(at(name), BACK, growth.cpu_of_all) for name in (OURS, UVLOOP)
        )
        return quotient(uvloop, asyncio)

    yield Target("the same on uvloop, beside asyncio", loops, most=1)


def floors() -> Iterator[Target]:
    """Yield the targets beside the coalescing floor, by the clock."""

    def beside(count: int, size: int, server: str, least: float) -> Target:
        name = plan.saturation(count, size).name

        def by_cpu(result: Result) -> str:
            share = to(COALESCING_FLOOR, server, name, deliveries_a_cpu_second)(result, this)
            return f"(by CPU {times(share)})"

        how = "file" if server == OURS else "installed"
        return Target(
            f"coalescing floor, {count:,} clients, {size:,} bytes, {how}",
            to(COALESCING_FLOOR, server, name, rate),
            least=least,
            note=by_cpu,
        )

    for count, installed, archive in (
        (10, 0.28, 0.28),
        (100, 0.65, 0.5),
        (1000, 1, 1),
        (5000, 1, 1),
    ):
        yield beside(count, 64, INSTALLED, installed)
        yield beside(count, 64, OURS, archive)
    yield beside(CLIENTS, 1024, INSTALLED, 0.85)
    yield beside(CLIENTS, 1024, OURS, 0.85)


def connections() -> Iterator[Target]:
    """Yield the targets of memory and of fairness."""
    kib = in_unit("KiB")
    yield Target("idle connection", of(OURS, IDLE, kib_per_connection), most=3.5, show=kib)
    yield Target("idle TLS connection", of(OURS, TLS, kib_per_connection), most=60, show=kib)
    yield Target(
        "idle connection: beside websockets",
        to(WEBSOCKETS, OURS, IDLE, kib_per_connection),
        most=0.5,
    )
    yield Target(
        "10,000 idle connections", of(OURS, MANY, total_mib), most=250, show=in_unit("MiB", 0)
    )
    milliseconds = in_unit("ms")

    def flood_before(result: Result, at: Naming) -> float | None:
        return quotient(
            result.median(at(OURS), FLOOD, P99), result.median(before(OURS), FLOOD, P99)
        )

    yield Target(
        "beside a flooding sender, window 240: p99 of the others, beside the commit before",
        flood_before,
        most=1,
        note=lambda result: f"({milliseconds(result.median(OURS, FLOOD, P99))})",
    )


def start_up() -> Iterator[Target]:
    """Yield the targets of the single file's start."""

    def seconds(figures: Figures) -> float:
        return float(figures["seconds"])

    for name, what, most in (
        (plan.START_CACHED, "with a code cache", 1.4),
        (plan.START_UNCACHED, "without a code cache", 1.9),
    ):

        def beside_imports(result: Result, at: Naming, name: str = name) -> float | None:
            imports = result.median(plan.IMPORTS, plan.START_UNCACHED, seconds)
            return quotient(result.median(at(OURS), name, seconds), imports)

        yield Target(f"`start` {what}: beside its imports alone", beside_imports, most=most)
    for name in (plan.SEND, plan.RUN):

        def beside_before(result: Result, at: Naming, name: str = name) -> float | None:
            earlier = result.median(before(OURS), name, seconds)
            return quotient(result.median(at(OURS), name, seconds), earlier)

        yield Target(f"`{name}`: beside the commit before", beside_before, most=0.8)


def site() -> Iterator[Target]:
    """Yield the targets of the Django deployment."""
    least = {
        (MEMORY, DAPHNE): 130,
        (MEMORY, UVICORN): 160,
        (REDIS, DAPHNE): 130,
        (REDIS, UVICORN): 130,
    }
    for (where, kind), bound in least.items():
        yield Target(
            f"Django, {LOGS[where]}, {where}, {kind}: beside the tutorial",
            to(tutorial_name(kind, where), site_name(kind, where), plan.HOSTED[0].name, rate),
            least=bound,
        )


def site_in_processes() -> Iterator[Target]:
    """Yield the targets of several processes of the deployment, and of its latency."""

    def ratio(figures: Figures) -> float:
        return float(figures["ratio"])

    for kind in (DAPHNE, UVICORN):
        name = site_name(kind, REDIS)
        yield Target(
            f"Django, {LOGS[REDIS]}, {REDIS}, {kind}, two processes: messages beside one",
            of(name, plan.TWO_PROCESSES, ratio),
            least=1.7,
        )

    def pub_sub(result: Result) -> str:
        p99 = result.median(plan.PUB_SUB, plan.END_TO_END, P99)
        return f"({in_unit('ms')(p99)} through {plan.PUB_SUB} alone)"

    yield Target(
        "Django, a message from end to end, unloaded: p99",
        of(site_name(UVICORN, REDIS), plan.END_TO_END, P99),
        show=in_unit("ms"),
        note=pub_sub,
    )


def peers_and_floor() -> Iterator[Target]:
    """Yield the targets of the first releases, which still stand."""
    yield Target(
        f"saturation at {CLIENTS:,}: beside websockets", to(WEBSOCKETS, OURS, FULL, rate), least=100
    )
    for count in plan.CLIENT_COUNTS:
        name = plan.saturation(count, 64).name
        yield beside_best(f"saturation at {count:,}: beside the best peer", name, rate, least=1)
    yield beside_best("p99 at 200/s: beside the best peer", CALM, P99, most=1 / 3)
    yield Target(
        "CPU of a single message: beside the floor",
        to(FLOOR, OURS, SINGLE, cpu_per_million),
        most=1.7,
    )


def beside_best(
    what: str,
    measurement: str,
    value: Value,
    least: float | None = None,
    most: float | None = None,
) -> Target:
    """Return a target beside the best of all peers: that with the highest value, if *least*."""

    def rival(result: Result) -> tuple[str, float | None]:
        names = peers(result) if most is not None else [*peers(result), FLOOR]
        return best(result, names, measurement, value, most=most is None)

    def share(result: Result, at: Naming) -> float | None:
        return quotient(result.median(at(OURS), measurement, value), rival(result)[1])

    return Target(what, share, least, most, note=lambda result: rival(result)[0])


TARGETS = (
    *joins(),
    *floors(),
    *connections(),
    *start_up(),
    *site(),
    *site_in_processes(),
    *peers_and_floor(),
)


def targets(result: Result) -> str:
    """Return the table of all targets."""
    head = ["what", "target", "the commit before", "measured", "verdict"]
    return table(head, [target.row(result) for target in TARGETS])
