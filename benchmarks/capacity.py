"""Capacity: what one machine holds, on paper, from the measured bytes and microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broadcast_server.server.file_limit import MAX_FILES, max_clients_for

from . import growth, plan, stores
from .catalogue import OURS
from .load import Figures
from .result import Result
from .table import cpu_per_million, kib_per_connection, rate, table

CORES, MEMORY_GIB = 32, 128
SPARE_CORES = 2
"""Cores left to the kernel's network and to a proxy, beside many processes of the server."""

STORE_CORES = 8
"""Cores left to PostgreSQL, Redis, the kernel and a proxy, beside many processes of the site."""

MEMORY_SHARE, CPU_SHARE = 0.75, 0.6
"""How much of the memory, and of a core, an operator should plan to use."""

BACK_S = 60
"""Seconds within which everyone should be back after a restart."""

ROOM_SIZE, MESSAGES_A_MINUTE = 50, 1


@dataclass(frozen=True)
class Costs:
    """What the standalone server needs: KiB, and microseconds of CPU."""

    connection_kib: float
    kernel_kib: float
    join_us: float
    resume_us: float
    alone_us: float
    """A delivery of a message that is written alone."""
    steady_us: float
    """A delivery at 200 messages a second to 1,000 clients."""
    full_us: float
    """A delivery at the full rate to 1,000 clients."""


def costs(result: Result) -> Costs | None:
    """Read the costs from *result*; None if one of them was not measured."""
    counts = growth.idle_counts(result)
    if not counts:
        return None
    most = growth.idle(counts[-1]).name

    def kernel_kib(figures: Figures) -> float:
        return float(figures["kernel"]) / 1024

    def resume_us(figures: Figures) -> float:
        return growth.cpu_of_all(figures) / 5000 * 1e6

    found = [
        result.median(OURS, most, kib_per_connection),
        result.median(OURS, most, kernel_kib),
        result.median(OURS, plan.JOINS.name, growth.cpu_of_a_join),
        result.median(OURS, plan.stampede(5000).name, resume_us),
        result.median(OURS, plan.steady(20).name, cpu_per_million),
        result.median(OURS, plan.steady(200).name, cpu_per_million),
        result.median(OURS, plan.saturation(1000, 64).name, cpu_per_million),
    ]
    known = [each for each in found if each is not None]
    return Costs(*known) if len(known) == len(found) else None


@dataclass(frozen=True)
class Bound:
    """One thing that runs out, and how many clients it is enough for."""

    what: str
    formula: str
    one: float
    many: float


def bounds(cost: Costs) -> list[Bound]:
    """Return what bounds the number of clients, for one process and for one for each free core."""
    processes = CORES - SPARE_CORES
    each_kib = cost.connection_kib + cost.kernel_kib
    memory = MEMORY_SHARE * MEMORY_GIB * 2**20 / each_kib
    files = float(max_clients_for(MAX_FILES))
    resumed = BACK_S / cost.resume_us * 1e6
    spoken = CPU_SHARE * 60e6 / (MESSAGES_A_MINUTE * ROOM_SIZE * cost.alone_us)
    return [
        Bound(
            "memory",
            f"{MEMORY_SHARE:.0%} of {MEMORY_GIB} GiB / ({cost.connection_kib:.1f} + "
            f"{cost.kernel_kib:.1f} KiB)",
            memory,
            memory,
        ),
        Bound("open files", f"the server asks for {MAX_FILES:,}", files, files * processes),
        Bound(
            f"all back within {BACK_S} s, with 50 missed messages each",
            f"{BACK_S} s / {cost.resume_us:,.0f} us",
            resumed,
            resumed * processes,
        ),
        Bound(
            f"rooms of {ROOM_SIZE}, each client says a message a minute",
            f"{CPU_SHARE:.0%} of 60 s / ({ROOM_SIZE} x {cost.alone_us:.1f} us)",
            spoken,
            spoken * processes,
        ),
    ]


def first(found: list[Bound], many: bool) -> Bound:
    """Return the bound that is reached first."""
    return min(found, key=lambda each: each.many if many else each.one)


def rounded(value: float) -> str:
    """Format a number with two significant figures."""
    digits = max(0, len(str(int(value))) - 2)
    return f"{round(value, -digits):,.0f}"


def server_text(cost: Costs) -> str:
    """Return what the standalone server holds, and where it breaks first."""
    found = bounds(cost)
    processes = CORES - SPARE_CORES
    rows = [[each.what, each.formula, rounded(each.one), rounded(each.many)] for each in found]
    head = ["what runs out", "formula", "clients, one process", f"{processes} processes"]
    one, many = first(found, many=False), first(found, many=True)
    used_gib = one.one * (cost.connection_kib + cost.kernel_kib) / 2**20
    big = 10_000
    before = (
        f"**A machine of {CORES} cores and {MEMORY_GIB} GiB**, on paper, from the figures above. "
        "They were measured over loopback: the interrupts of a network card come on top. "
        f"{CPU_SHARE:.0%} of a core and {MEMORY_SHARE:.0%} of the memory are planned for."
    )
    breaks = (
        f"*One process* uses one core and breaks first by *{one.what}*, at {rounded(one.one)} "
        f"clients, in {used_gib:.1f} GiB. *{processes} processes*, each with rooms of its own "
        f"behind a proxy that chooses by the room, break first by *{many.what}*, at "
        f"{rounded(many.many)}. Raise `--max-clients` beyond 10,000, and the system's limit on "
        "open files with it."
    )
    own = (
        "For a load of your own, count the deliveries: clients x messages a second of each x "
        f"members of a room. A delivery takes {cost.alone_us:.1f} us of CPU if a message is "
        f"written alone, {cost.steady_us:.1f} us at 200 messages a second in a room of 1,000, "
        f"and {cost.full_us:.2f} us at the full rate. One room is always one process's: a single "
        f"message to {big:,} members takes {big * cost.alone_us / 1e6:.2f} s. If more arrive "
        f"meanwhile, they are sent together. A join takes {cost.join_us:.0f} us in a room of "
        f"{ROOM_SIZE}. A join with 50 missed messages in a room of 5,000 takes "
        f"{cost.resume_us:.0f} us."
    )
    return "\n\n".join([before, table(head, rows), breaks, own])


@dataclass(frozen=True)
class SiteCosts:
    """What one process of the site reaches, and what it asks of the stores for each message."""

    messages_a_second: float
    connections: float
    quiet_transactions: float
    full: Mapping[str, float]
    calm: Mapping[str, float]


STORE_COUNTERS = ("transactions", "wal", "published", "postgresql_us", "redis_us")


def site_costs(result: Result) -> SiteCosts | None:
    """Read the costs from *result*; None if one of them was not measured."""

    def counted(measurement: plan.Measurement) -> dict[str, float]:
        values = {
            key: result.median(stores.SITE, measurement.name, stores.per_message(key))
            for key in STORE_COUNTERS
        }
        return {key: value for key, value in values.items() if value is not None}

    def connections(figures: Figures) -> float:
        return float(figures["connections"])

    def quiet(figures: Figures) -> float:
        return float(figures["quiet"]["transactions"])

    full, calm = counted(stores.FULL), counted(stores.CALM)
    speed = result.median(stores.SITE, stores.FULL.name, rate)
    most = result.median(stores.SITE, stores.FULL.name, connections)
    idle = result.median(stores.SITE, stores.CALM.name, quiet)
    if speed is None or most is None or idle is None:
        return None
    if len(full) < len(STORE_COUNTERS) or len(calm) < len(STORE_COUNTERS):
        return None
    return SiteCosts(speed * 1000 / stores.CLIENTS, most, idle, full, calm)


def first_store(cost: SiteCosts) -> str:
    """Return which part of the machine is full first when all rooms are at the full rate."""
    speed, full = cost.messages_a_second, cost.full
    processes = {
        "its own cores are used up": float(CORES - STORE_CORES),
        f"PostgreSQL uses {STORE_CORES - 2} cores": (STORE_CORES - 2)
        * 1e6
        / speed
        / full["postgresql_us"],
        "Redis, which has one thread, uses its core": 1e6 / speed / max(full["redis_us"], 1e-6),
    }
    why = min(processes, key=lambda each: processes[each])
    return f"the site breaks first where {why}, with {processes[why]:.0f} processes"


def site_text(cost: SiteCosts) -> str:
    """Return what the site needs of PostgreSQL and Redis on the same machine."""
    processes = CORES - STORE_CORES
    messages = {"full": processes * cost.messages_a_second, "calm": processes * stores.CALM_RATE}
    rows = []
    for name, each in (("full", cost.full), ("calm", cost.calm)):
        every_second = messages[name]
        rows.append(
            [
                "at the full rate" if name == "full" else f"{stores.CALM_RATE} a second for each",
                rounded(every_second),
                f"{each['transactions']:.2f}",
                rounded(every_second * each["transactions"]),
                f"{each['wal']:,.0f}",
                f"{every_second * each['wal'] / 1e6:.1f}",
                f"{each['published']:.2f}",
                rounded(every_second * each["published"]),
                f"{every_second * each['postgresql_us'] / 1e6:.1f}",
                f"{every_second * each['redis_us'] / 1e6:.2f}",
            ]
        )
    head = [
        f"{processes} processes",
        "messages/s",
        "transactions, each",
        "transactions/s",
        "WAL bytes, each",
        "WAL, MB/s",
        "wake-ups, each",
        "wake-ups/s",
        "PostgreSQL, cores",
        "Redis, cores",
    ]
    many = processes * cost.connections
    before = (
        f"**The Django deployment on the same machine**: {processes} processes under uvicorn, "
        f"each with rooms of {stores.CLIENTS} of its own, and {STORE_CORES} cores for PostgreSQL, "
        "Redis, the kernel and a proxy. Both stores were counted for one process, and multiplied. "
        "A *wake-up* is a notification through Redis that the log has something new:"
    )
    after = (
        f"PostgreSQL holds {many:.0f} connections, {cost.connections:.0f} for each process; its "
        "`max_connections` is 100 unless you raise it. A process without clients does "
        f"{cost.quiet_transactions:.1f} transactions a second. Each transaction waits for the "
        "disk, so the disk's flushes a second bound the quiet rooms, where each message is its "
        "own transaction. A room with members in several processes costs its messages once, and "
        "a wake-up and a read of the log in each of these processes.\n\n"
        f"At the full rate, {first_store(cost)}."
    )
    return "\n\n".join([before, table(head, rows), after])


def blocks(result: Result) -> dict[str, str]:
    """Return the texts for which everything was measured."""
    server, site = costs(result), site_costs(result)
    found = {}
    if server is not None:
        found["capacity"] = server_text(server)
    if site is not None:
        found["capacity of the site"] = site_text(site)
    return found
