"""The tables of a result, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import plan
from .beside import before
from .catalogue import COALESCING_FLOOR, WEBSOCKETS
from .hosted import tutorial_name
from .load import Figures
from .result import Result

Row = Sequence[str]
Value = Callable[[Figures], float | None]
"""What is read from the figures of a run; None if the run did not get as far."""


def table(head: Row, rows: Sequence[Row]) -> str:
    """Return a table in Markdown; all columns but the first are numbers."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Format a value, or a dash for None."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def short(value: float | None) -> str:
    """Format a value with about three significant figures."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None, to: float | None) -> str:
    """Format the ratio of *value* to *to*."""
    return "-" if value is None or not to else f"{short(value / to)} x"


def rate(figures: Figures) -> float:
    """Return the thousands of deliveries a second."""
    return float(figures["deliveries"]) / float(figures["seconds"]) / 1000


def cpu_share(name: str) -> Callable[[Figures], float]:
    """Return a function that returns the per cent of its core that *name* used."""
    return lambda figures: 100 * float(figures[f"{name}_cpu"]) / float(figures["seconds"])


def percentile(name: str, what: str = "latency") -> Callable[[Figures], float | None]:
    """Return a function that returns a percentile in milliseconds, None if it was not reached."""

    def value(figures: Figures) -> float | None:
        seconds = figures[what][name]
        return None if seconds is None else float(seconds) * 1000

    return value


def cpu_per_million(figures: Figures) -> float:
    """Return the server's CPU seconds for a million deliveries."""
    return float(figures["server_cpu"]) / float(figures["deliveries"]) * 1e6


def deliveries_a_cpu_second(figures: Figures) -> float:
    """Return the deliveries for a second of the server's CPU."""
    return float(figures["deliveries"]) / float(figures["server_cpu"])


def kib_per_connection(figures: Figures) -> float:
    """Return the KiB of memory of an idle connection."""
    return float(figures["held"] - figures["before"]) / float(figures["clients"]) / 1024


def total_mib(figures: Figures) -> float:
    """Return the MiB of a server with all its idle connections."""
    return float(figures["held"]) / 2**20


def handshakes_a_second(figures: Figures) -> float:
    """Return the handshakes a second."""
    return float(figures["handshakes"]) / float(figures["seconds"])


def undelivered(figures: Figures) -> float:
    """Return the share of deliveries still missing two seconds after the end, in per cent."""
    latency = figures["latency"]
    return 100 * (1 - float(latency["count"]) / float(latency["all"]))


def saturation(result: Result, size: int) -> str:
    """Return thousands of deliveries a second, and ratios to websockets' `broadcast()`."""
    names = {n: plan.saturation(n, size).name for n in plan.COUNTS[size]}
    head = ["64 bytes" if size == 64 else f"{size:,} bytes"]
    for clients in names:
        head += [f"{clients:,} clients, k/s", "x"]
    head += ["server CPU", "load CPU"]
    rows = []
    for server in result.servers(names.values()):
        row = [server]
        for name in names.values():
            found = result.median(server, name, rate)
            base = result.median(WEBSOCKETS, name, rate)
            row += [short(found), ratio(found, base)]
        middle = names[1000]
        row += [
            number(result.median(server, middle, cpu_share(who)), 0, " %")
            for who in ("server", "load")
        ]
        rows.append(row)
    return table(head, rows)


def floor(result: Result) -> str:
    """Return the rates beside the coalescing floor: by the clock, and by the server's CPU."""
    head = ["beside the coalescing floor"]
    loads = [(count, 64) for count in plan.FLOOR_COUNTS] + [(1000, 1024)]
    head += [f"{count:,} x {size}: clock, CPU" for count, size in loads]
    names = [plan.saturation(*each).name for each in loads]
    rows = []
    for server in result.servers(names):
        if server.startswith("broadcast-server"):
            row = [server]
            for name in names:
                shares = [
                    ratio(
                        result.median(server, name, value),
                        result.median(COALESCING_FLOOR, name, value),
                    )
                    for value in (rate, deliveries_a_cpu_second)
                ]
                row.append(", ".join(shares))
            rows.append(row)
    return table(head, rows)


def steady(result: Result, rate_: int) -> str:
    """Return latencies at a steady rate to 1,000 clients, and the CPU time of a delivery."""
    name = plan.steady(rate_).name
    head = [
        f"{rate_:,} messages/s",
        "p50, ms",
        "p99",
        "p99.9",
        "last client, p50",
        "CPU s per million",
        "undelivered",
    ]
    rows = []
    for server in result.servers([name]):
        values = [
            percentile("p50"),
            percentile("p99"),
            percentile("p999"),
            percentile("p50", "last"),
            cpu_per_million,
        ]
        row = [server, *(short(result.median(server, name, value)) for value in values)]
        rows.append([*row, number(result.median(server, name, undelivered), 0, " %")])
    return table(head, rows)


def connections(result: Result) -> str:
    """Return the cost of connections: memory, handshakes, and the start of the server."""
    some, many = (plan.memory(n).name for n in (1000, 10_000))
    secure, joined = plan.TLS.name, plan.JOINS.name
    hands, begin = plan.handshakes().name, plan.start().name

    def joins(figures: Figures) -> float:
        return float(figures["joins"]) / float(figures["seconds"])

    head = [
        "connections",
        "KiB each at 1,000",
        "at 10,000",
        "MiB in total",
        "KiB with TLS",
        "joins/s",
        "handshakes/s",
        "s to the first connection",
    ]
    rows = [
        [
            server,
            number(result.median(server, some, kib_per_connection), 1),
            number(result.median(server, many, kib_per_connection), 1),
            number(result.median(server, many, total_mib)),
            number(result.median(server, secure, kib_per_connection), 1),
            number(result.median(server, joined, joins)),
            number(result.median(server, hands, handshakes_a_second)),
            number(result.median(server, begin, lambda figures: float(figures["seconds"])), 2),
        ]
        for server in result.servers([some, many, hands, begin, joined])
    ]
    return table(head, rows)


def stampede(result: Result) -> str:
    """Return how long it takes until all clients have reconnected and caught up."""

    def arrived(figures: Figures) -> float | None:
        return None if figures["in"] < 0 else float(figures["in"])

    head = ["simultaneous reconnects", "all joined, s", "all caught up, s", "p50, ms", "p99, ms"]
    head += ["server CPU, s"]
    rows = []
    for clients in plan.STAMPEDES:
        name = plan.stampede(clients).name
        for server in result.servers([name]):
            values = [
                arrived,
                lambda figures: float(figures["seconds"]),
                percentile("p50"),
                percentile("p99"),
                lambda figures: float(figures["server_cpu"]),
            ]
            told = (short(result.median(server, name, value)) for value in values)
            rows.append([f"{clients:,}, {server}", *told])
    return table(head, rows)


def fairness(result: Result) -> str:
    """Return how long the messages of one client take, alone and alongside a flood."""
    alone, beside = plan.ALONE.name, plan.FLOOD.name
    head = ["alongside a flood", "window 1: p50, ms", "p99", "window 240: p50, ms", "p99", "p99.9"]
    rows = [
        [
            server,
            *(short(result.median(server, alone, percentile(each))) for each in ("p50", "p99")),
            *(
                short(result.median(server, beside, percentile(each)))
                for each in ("p50", "p99", "p999")
            ),
        ]
        for server in result.servers([alone, beside])
    ]
    return table(head, rows)


def tutorial_of(server: str) -> str:
    """Return the name of the tutorial's chat to which *server* is compared."""
    _, kind, *_, where = server.removesuffix(before("")).split(", ")
    return tutorial_name(kind, where)


def hosted(result: Result) -> str:
    """Return the Django deployment beside the Channels tutorial, 100 clients."""
    small, big, calm = (each.name for each in plan.HOSTED)
    head = [
        "100 clients",
        "window 12: k/s",
        "x",
        "window 30: k/s",
        "x",
        "50 messages/s: p50, ms",
        "p99",
    ]
    rows = []
    for server in result.servers([small]):
        names = {"window 12": small, "window 30": big}
        row = [server]
        for name in names.values():
            found = result.median(server, name, rate)
            row += [short(found), ratio(found, result.median(tutorial_of(server), name, rate))]
        row += [short(result.median(server, calm, percentile(each))) for each in ("p50", "p99")]
        rows.append(row)
    return table(head, rows)


def everything(result: Result) -> dict[str, str]:
    """Return all tables that *result* has figures for, by name."""
    found = {
        **{f"saturation {size}": saturation(result, size) for size in plan.SIZES},
        "floor": floor(result),
        **{f"steady {each}": steady(result, each) for each in plan.RATES},
        "connections": connections(result),
        "stampede": stampede(result),
        "fairness": fairness(result),
        "hosted": hosted(result),
    }
    return {name: text for name, text in found.items() if text.count("\n") > 1}
