"""The best of the other servers, a summary for the README, and the conditions of the run."""

from __future__ import annotations

from collections.abc import Iterable

from . import plan
from .beside import is_before
from .catalogue import FLOORS, OURS, OURS_ALL, WEBSOCKETS
from .result import Result
from .table import Value, kib_per_connection, number, percentile, rate, ratio, short, total_mib

CLIENTS = 1000


def peers(result: Result) -> list[str]:
    """Return the servers that a user could choose instead of ours."""
    own = (*OURS_ALL, *FLOORS)
    return [name for name in result.versions if name not in own and not is_before(name)]


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
    lines += [f"- does not count: {each}" for each in result.discarded]
    return "\n".join(lines)
