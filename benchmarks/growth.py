"""How it grows: joins, memory, fan-out, catch-up and the site's rate by the number of clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from broadcast_server.server.file_limit import raise_file_limit

from . import plan
from .catalogue import OURS
from .hosted import MEMORY, UVICORN, site_name
from .load import Figures, Load
from .result import Result
from .servers import Running
from .table import Value, cpu_per_million, rate, short, table

COUNTS = (100, 1000, 10_000)

MOST_IDLE = 30_000
"""The largest number of idle clients, if the limit on open files allows as many."""

ROOM_SIZE = 50
LONE_RATE = 3
"""Messages a second that are so few that each is written alone, to 10,000 clients too."""

SITE = site_name(UVICORN, MEMORY)

Series = Mapping[int, float]


def idle(clients: int) -> plan.Measurement:
    """Measure *clients* idle connections in rooms of 50: private memory, and the kernel's."""

    def take(load: Load, server: Running) -> Figures:
        before, kernel = server.memory, _slab()
        options = {**server.target, "rooms": math.ceil(clients / ROOM_SIZE), "opening": 200}
        with load.idle(**options, clients=clients):
            held, kernel_held = server.memory, _slab()
        # Both ends of each connection are on this machine.
        kernel_each = (kernel_held - kernel) / clients / 2
        return {"before": before, "held": held, "clients": clients, "kernel": kernel_each}

    return plan.Measurement(f"growth, {clients} idle", take, rounds=1, variant="many")


def _slab() -> int:
    """Return the kernel's memory for its objects, sockets among them, in bytes."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("SUnreclaim:"))


def joins(clients: int, rounds: int = 1) -> plan.Measurement:
    """Measure *clients* that join rooms of 50."""
    return plan.joins(clients, clients // ROOM_SIZE, rounds, variant="many")


def lone(clients: int) -> plan.Measurement:
    """Measure single messages to *clients* clients."""
    return plan.steady(LONE_RATE, clients, seconds=2.0, rounds=1)


def site(clients: int) -> plan.Measurement:
    """Measure the rate of the Django deployment with *clients* clients."""

    def take(load: Load, server: Running) -> Figures:
        options = {"size": 64, "senders": 8, "window": 12, "opening": 220, "drain": 20}
        seconds = 1 if clients <= 1000 else 4
        return load.run(**server.target, **options, clients=clients, seconds=seconds)

    return plan.Measurement(f"growth, site with {clients}", take, rounds=1)


def _many(measurement: plan.Measurement) -> plan.Measurement:
    return replace(measurement, variant="many")


def standalone() -> Sequence[plan.Measurement]:
    """Return what is measured beyond `plan.WHOLE`, which has the other counts."""
    files = raise_file_limit()
    most = MOST_IDLE if files is None else min(MOST_IDLE, files - 1000)
    return (
        joins(100, rounds=3),
        joins(10_000),
        *(idle(count) for count in (*COUNTS, most)),
        _many(plan.saturation(10_000, 64, rounds=1)),
        *(lone(count) for count in COUNTS),
        *(_many(plan.stampede(count, rounds=1)) for count in COUNTS),
    )


HOSTED = (site(1000), site(10_000))


def joins_a_cpu_second(figures: Figures) -> float:
    """Return the joins for a second of the server's CPU."""
    return 1e6 / cpu_of_a_join(figures)


def joins_a_second(figures: Figures) -> float:
    """Return the joins a second, until all have seen the joins of all later members."""
    return float(figures["joins"]) / float(figures["seconds"])


def cpu_of_a_join(figures: Figures) -> float:
    """Return the microseconds of the server's CPU for a join."""
    return float(figures["server_cpu"]) / float(figures["joins"]) * 1e6


def cpu_of_all(figures: Figures) -> float:
    """Return the seconds of the server's CPU for the measurement."""
    return float(figures["server_cpu"])


def held_mib(figures: Figures) -> float:
    """Return the MiB that the idle connections of a run added to the server."""
    return float(figures["held"] - figures["before"]) / 2**20


def _by_count(result: Result, server: str, names: Mapping[int, str], value: Value) -> Series:
    values = {count: result.median(server, name, value) for count, name in sorted(names.items())}
    return {count: each for count, each in values.items() if each is not None}


def idle_counts(result: Result) -> list[int]:
    """Return for how many idle clients *result* has the memory."""
    counts = {each["clients"] for each in result.figures if each["measurement"].endswith(" idle")}
    return sorted(counts)


def series(result: Result) -> dict[str, Series]:
    """Return the measured values by the number of clients, for each thing that grows."""
    joined = {count: joins(count).name for count in COUNTS}
    alone = {count: lone(count).name for count in COUNTS}
    back = {count: plan.stampede(count).name for count in (*COUNTS, 5000)}
    full = {count: plan.saturation(count, 64).name for count in (*COUNTS, 10, 5000)}
    hosted = {100: plan.HOSTED[0].name, **{n: site(n).name for n in COUNTS[1:]}}
    held = {count: idle(count).name for count in idle_counts(result)}

    def message_ms(count: int, million: float) -> float:
        return million * count / 1000

    return {
        "joins for a second of CPU": _by_count(result, OURS, joined, joins_a_cpu_second),
        "idle, MiB": _by_count(result, OURS, held, held_mib),
        "deliveries/s, k": _by_count(result, OURS, full, rate),
        "CPU of one message to all, ms": {
            count: message_ms(count, each)
            for count, each in _by_count(result, OURS, alone, cpu_per_million).items()
        },
        "CPU of all back at once, s": _by_count(result, OURS, back, cpu_of_all),
        "site, deliveries/s, k": _by_count(result, SITE, hosted, rate),
    }


def slope(values: Series) -> float | None:
    """Return the slope of *values* on logarithmic scales: 0 is constant, 1 is proportional.

    The fit is that of least squares. None for fewer than two values.
    """
    points = [(math.log(count), math.log(value)) for count, value in values.items() if value > 0]
    if len(points) < 2:
        return None
    middle = sum(x for x, _ in points) / len(points)
    level = sum(y for _, y in points) / len(points)
    spread = sum((x - middle) ** 2 for x, _ in points)
    return sum((x - middle) * (y - level) for x, y in points) / spread


def blocks(result: Result) -> dict[str, str]:
    """Return the table of growth, with its plot above; nothing if it was not measured."""
    found = series(result)
    if not found["idle, MiB"]:
        return {}
    counts = sorted({count for values in found.values() for count in values})
    rows = [
        [f"{count:,}", *(short(values.get(count)) for values in found.values())] for count in counts
    ]
    slopes = [slope(values) for values in found.values()]
    rows.append(["slope", *("-" if each is None else f"{each:.2f}" for each in slopes)])
    image = "![each of these by the number of clients, on logarithmic scales](growth.png)"
    return {"growth": f"{image}\n\n{table(['clients', *found], rows)}"}
