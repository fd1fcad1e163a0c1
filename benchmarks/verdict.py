"""The comparison with the targets, a summary for the README, and the conditions of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import plan
from .catalogue import COALESCING_FLOOR, FLOOR, FLOORS, OURS, OURS_ALL, WEBSOCKETS
from .hosted import DAPHNE, MEMORY, REDIS, site_name, tutorial_name
from .load import Figures
from .result import Result
from .table import (
    cpu_per_million,
    kib_per_connection,
    number,
    percentile,
    rate,
    ratio,
    short,
    table,
    total_mib,
)

CLIENTS = 1000
Value = Callable[[Figures], float | None]


def peers(result: Result) -> list[str]:
    """Return the servers that a user could choose instead of ours."""
    return [name for name in result.versions if name not in (*OURS_ALL, *FLOORS)]


def best(
    result: Result, servers: Iterable[str], measurement: str, value: Value, most: bool
) -> tuple[str, float | None]:
    """Return the server with the highest (*most*) or lowest value, and that value."""
    values = {name: result.median(name, measurement, value) for name in servers}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return "none", None
    name = (max if most else min)(known, key=lambda name: known[name])
    return name, known[name]


def quotient(value: float | None, by: float | None) -> float | None:
    """Return the quotient, None if a value is missing."""
    return None if value is None or not by else value / by


def times(share: float | None) -> str:
    """Format a quotient."""
    return "-" if share is None else f"{short(share)} x"


def met_or_missed(
    share: float | None, least: float | None = None, most: float | None = None
) -> str:
    """Return whether a quotient is within its target."""
    if share is None:
        return "not measured"
    met = (least is None or share >= least) and (most is None or share <= most)
    return "met" if met else "**missed**"


def targets(result: Result) -> str:
    """Return a table of the targets, the measured values, and whether each was met."""
    full = plan.saturation(CLIENTS, 64).name
    calm, single = plan.steady(200).name, plan.steady(20).name
    idle, many = plan.memory(1000).name, plan.memory(10_000).name

    def of(server: str, measurement: str, value: Value) -> float | None:
        return result.median(server, measurement, value)

    ours = of(OURS, full, rate)
    rows = []

    def add(what: str, share: float | None, told: str, **bound: float) -> None:
        rows.append([what, told, met_or_missed(share, **bound)])

    share = quotient(ours, of(WEBSOCKETS, full, rate))
    add(f"saturation: 100 x websockets at {CLIENTS:,}", share, times(share), least=100)
    for count in plan.CLIENT_COUNTS:
        name = plan.saturation(count, 64).name
        rival, value = best(result, [*peers(result), FLOOR], name, rate, most=True)
        share = quotient(of(OURS, name, rate), value)
        add(f"ahead of all peers at {count:,}", share, f"{times(share)} {rival}", least=1)
    for count in plan.CLIENT_COUNTS:
        name = plan.saturation(count, 64).name
        share = quotient(of(OURS, name, rate), of(COALESCING_FLOOR, name, rate))
        add(f"the coalescing floor's rate at {count:,}", share, times(share), least=1)
    rival, value = best(result, peers(result), calm, percentile("p99"), most=False)
    share = quotient(of(OURS, calm, percentile("p99")), value)
    told = f"{times(share)} {rival}"
    add("steady 200/s: p99 a third of the best peer's", share, told, most=1 / 3)
    share = quotient(of(OURS, single, cpu_per_million), of(FLOOR, single, cpu_per_million))
    add("CPU of a single message: 1.7 x the floor's", share, times(share), most=1.7)
    share = quotient(of(OURS, idle, kib_per_connection), of(WEBSOCKETS, idle, kib_per_connection))
    add("idle memory: half of websockets'", share, times(share), most=0.5)
    share = of(OURS, many, total_mib)
    add("10,000 idle in 250 MiB", share, number(share, 0, " MiB"), most=250)
    for where in (MEMORY, REDIS):
        name = plan.HOSTED[0].name
        base = of(tutorial_name(DAPHNE, where), name, rate)
        share = quotient(of(site_name(DAPHNE, where), name, rate), base)
        add(f"Django, {where}: 40 x the tutorial", share, times(share), least=40)
    return table(["target", "measured", "verdict"], rows)


def summary(result: Result) -> str:
    """Return the three lines for the README."""
    full, calm = plan.saturation(CLIENTS, 64).name, plan.steady(200).name
    idle, many = plan.memory(1000).name, plan.memory(10_000).name
    ours = result.median(OURS, full, rate)
    base = result.median(WEBSOCKETS, full, rate)
    rival, rival_rate = best(result, peers(result), full, rate, most=True)
    quickest, quickest_p99 = best(result, peers(result), calm, percentile("p99"), most=False)
    return "\n".join(
        [
            (
                f"- {CLIENTS:,} clients and as many messages as it can take: "
                f"{number(ours and ours / 1000, 1)} million deliveries a second on one core, "
                f"{ratio(ours, base)} websockets' `broadcast()`, {ratio(ours, rival_rate)} {rival}."
            ),
            (
                f"- 200 messages a second to {CLIENTS:,} clients: "
                f"{short(result.median(OURS, calm, percentile('p99')))} ms for 99 of 100, "
                f"{short(quickest_p99)} ms with {quickest}."
            ),
            (
                f"- 10,000 idle clients in {number(result.median(OURS, many, total_mib))} MiB, "
                f"{number(result.median(OURS, idle, kib_per_connection), 1)} KiB each; "
                "with websockets "
                f"{number(result.median(WEBSOCKETS, idle, kib_per_connection), 1)} KiB."
            ),
        ]
    )


def machine(result: Result) -> str:
    """Return when, where and with which versions it was measured, and what was left out."""
    lines = [f"Measured on {result.date}: {result.machine}.", ""]
    lines += [f"- {name}: {version}" for name, version in result.versions.items() if version]
    lines += [f"- {name}: left out, {reason}" for name, reason in result.missing.items()]
    return "\n".join(lines)
