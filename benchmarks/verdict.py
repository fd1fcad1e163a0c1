"""The verdict: what was promised, what was measured, and three lines for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from . import plan
from .catalogue import EACH, FLOORS, OURS, OURS_ALL, TURN, WEBSOCKETS
from .hosted import DAPHNE, MEMORY, REDIS, site_name, tutorial_name
from .load import Figures
from .result import Result
from .table import at, cost, each, number, rate, ratio, short, table, whole

CROWD = 1000
Value = Callable[[Figures], float | None]


def peers(result: Result) -> list[str]:
    """List what a user would take instead."""
    return [name for name in result.versions if name not in (*OURS_ALL, *FLOORS)]


def best(
    result: Result, servers: Iterable[str], measurement: str, value: Value, most: bool
) -> tuple[str, float | None]:
    """Find the server with the most or the least of a value."""
    found = {name: result.median(name, measurement, value) for name in servers}
    there = {name: value for name, value in found.items() if value is not None}
    if not there:
        return "none", None
    name = (max if most else min)(there, key=lambda name: there[name])
    return name, there[name]


def divided(value: float | None, by: float | None) -> float | None:
    """Divide, if both are there."""
    return None if value is None or not by else value / by


def times(share: float | None) -> str:
    """Write a ratio."""
    return "-" if share is None else f"{short(share)} x"


def judged(share: float | None, least: float | None = None, most: float | None = None) -> str:
    """Tell whether a target was met."""
    if share is None:
        return "not measured"
    met = (least is None or share >= least) and (most is None or share <= most)
    return "met" if met else "**missed**"


def targets(result: Result) -> str:
    """Return each target with what was measured, and whether it was met."""
    full = plan.saturation(CROWD, 64).name
    calm, single = plan.steady(200).name, plan.steady(20).name
    idle, many = plan.memory(1000).name, plan.memory(10_000).name

    def of(server: str, measurement: str, value: Value) -> float | None:
        return result.median(server, measurement, value)

    ours = of(OURS, full, rate)
    rows = []

    def add(what: str, share: float | None, told: str, **bound: float) -> None:
        rows.append([what, told, judged(share, **bound)])

    share = divided(ours, of(WEBSOCKETS, full, rate))
    add(f"saturation: 100 x websockets at {CROWD:,}", share, times(share), least=100)
    for crowd in plan.CROWDS:
        name = plan.saturation(crowd, 64).name
        rival, value = best(result, [*peers(result), EACH], name, rate, most=True)
        share = divided(of(OURS, name, rate), value)
        add(f"ahead of all peers at {crowd:,}", share, f"{times(share)} {rival}", least=1)
    for crowd in plan.CROWDS:
        name = plan.saturation(crowd, 64).name
        share = divided(of(OURS, name, rate), of(TURN, name, rate))
        add(f"the coalescing floor's rate at {crowd:,}", share, times(share), least=1)
    rival, value = best(result, peers(result), calm, at("p99"), most=False)
    share = divided(of(OURS, calm, at("p99")), value)
    told = f"{times(share)} {rival}"
    add("steady 200/s: p99 a third of the best peer's", share, told, most=1 / 3)
    share = divided(of(OURS, single, cost), of(EACH, single, cost))
    add("CPU of a single message: 1.7 x the floor's", share, times(share), most=1.7)
    share = divided(of(OURS, idle, each), of(WEBSOCKETS, idle, each))
    add("idle memory: half of websockets'", share, times(share), most=0.5)
    share = of(OURS, many, whole)
    add("10,000 idle in 250 MiB", share, number(share, 0, " MiB"), most=250)
    for where in (MEMORY, REDIS):
        name = plan.HOSTED[0].name
        base = of(tutorial_name(DAPHNE, where), name, rate)
        share = divided(of(site_name(DAPHNE, where), name, rate), base)
        add(f"hosted, {where}: 40 x the tutorial", share, times(share), least=40)
    return table(["target", "measured", "verdict"], rows)


def summary(result: Result) -> str:
    """Return three lines for the README."""
    full, calm = plan.saturation(CROWD, 64).name, plan.steady(200).name
    idle, many = plan.memory(1000).name, plan.memory(10_000).name
    ours = result.median(OURS, full, rate)
    base = result.median(WEBSOCKETS, full, rate)
    rival, most = best(result, peers(result), full, rate, most=True)
    quick, least = best(result, peers(result), calm, at("p99"), most=False)
    return "\n".join(
        [
            (
                f"- {CROWD:,} clients and as many messages as it can take: "
                f"{number(ours and ours / 1000, 1)} million deliveries a second on one core, "
                f"{ratio(ours, base)} websockets' `broadcast()`, {ratio(ours, most)} {rival}."
            ),
            (
                f"- 200 messages a second to {CROWD:,} clients: "
                f"{short(result.median(OURS, calm, at('p99')))} ms for 99 of 100, "
                f"{short(least)} ms with {quick}."
            ),
            (
                f"- 10,000 idle clients in {number(result.median(OURS, many, whole))} MiB, "
                f"{number(result.median(OURS, idle, each), 1)} KiB each; with websockets "
                f"{number(result.median(WEBSOCKETS, idle, each), 1)} KiB."
            ),
        ]
    )


def machine(result: Result) -> str:
    """Return when and where it was measured, with which versions, and what was left out."""
    lines = [f"Measured on {result.date}: {result.machine}.", ""]
    lines += [f"- {name}: {version}" for name, version in result.versions.items() if version]
    lines += [f"- {name}: left out, {reason}" for name, reason in result.missing.items()]
    return "\n".join(lines)
