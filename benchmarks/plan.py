"""The plan: what is measured, and how often.

Every measurement gets a server of its own that has just started, and every round takes
each measurement of all servers one after the other, so that a machine that is slower for
a while is so for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .load import Figures, Load
from .servers import Running

SECONDS = 0.7
"""How long a rate is taken."""

SIZES = (64, 1024)
CROWDS = (100, 1000, 5000)
RATES = (20, 200, 2000)
STAMPEDES = (500, 5000)


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured: *take* says how, *rounds* how often."""

    name: str
    take: Callable[[Load, Running], Figures]
    rounds: int = 3
    ours: bool = False
    """Whether it asks for what others do not have."""

    def named(self, name: str, ours: bool = False) -> Measurement:
        """Return the same under another name."""
        return replace(self, name=name, ours=ours)


def saturation(clients: int, size: int, window: int = 30, rounds: int = 3) -> Measurement:
    """Eight senders with so many messages under way each; everyone gets them all."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(
            **server.target,
            clients=clients,
            size=size,
            senders=8,
            window=window,
            seconds=SECONDS,
            drain=2,
        )

    return Measurement(f"saturation {clients} x {size}, {window}", take, rounds)


def steady(rate: int, clients: int = 1000, seconds: float = 1.0, rounds: int = 3) -> Measurement:
    """So many messages a second in all, by eight senders, however slow the server is."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(
            **server.target,
            mode="rate",
            clients=clients,
            rate=rate,
            warm=0.3,
            seconds=seconds,
            drain=2,
        )

    return Measurement(f"steady {rate} to {clients}", take, rounds)


def memory(clients: int) -> Measurement:
    """What a server's own memory is with so many connections that say nothing."""

    def take(load: Load, server: Running) -> Figures:
        before = server.memory
        with load.idle(**server.target, clients=clients):
            held = server.memory
        return {"before": before, "held": held, "clients": clients}

    return Measurement(f"memory {clients}", take, rounds=1)


def handshakes(rounds: int = 3) -> Measurement:
    """Sixty-four clients that connect and hang up, again and again."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(**server.target, mode="handshakes", clients=64, warm=0.3, seconds=SECONDS)

    return Measurement("handshakes", take, rounds)


def stampede(clients: int, rounds: int = 3) -> Measurement:
    """All are cut, miss 50 messages, and come back at once to resume."""

    def take(load: Load, server: Running) -> Figures:
        target = {**server.target, "dialect": "json", "mode": "stampede"}
        return load.run(**target, clients=clients, senders=1, window=50, drain=30)

    return Measurement(f"stampede {clients}", take, rounds, ours=True)


def fairness(clients: int, window: int, rounds: int = 3) -> Measurement:
    """One who has *window* messages under way, and one who says 20 a second, who is timed."""

    def take(load: Load, server: Running) -> Figures:
        target = {**server.target, "mode": "flood"}
        return load.run(**target, clients=clients, senders=2, window=window, rate=20, seconds=1.5)

    return Measurement(f"fairness {clients}, {window}", take, rounds)


def start(rounds: int = 3) -> Measurement:
    """Seconds from the start of the process until it takes a connection."""

    def take(load: Load, server: Running) -> Figures:
        return {"seconds": server.seconds}

    return Measurement("start", take, rounds)


ALONE, FLOOD = fairness(100, 1, rounds=1), fairness(100, 240, rounds=1)

# In three rounds what the targets are about, and in one what takes long.
WHOLE = (
    start(),
    saturation(100, 64),
    saturation(1000, 64),
    saturation(5000, 64, rounds=1),
    *(saturation(clients, 1024, rounds=1) for clients in CROWDS),
    steady(20, seconds=1.5),
    steady(200),
    steady(2000, rounds=1),
    handshakes(rounds=1),
    ALONE,
    FLOOD,
    stampede(5000),
    memory(1000),
    memory(10_000),
)

QUICK = (
    saturation(100, 64, rounds=1),
    saturation(1000, 64, rounds=1),
    steady(200, rounds=1),
    handshakes(rounds=1),
    stampede(500, rounds=1),
    memory(1000),
)

HOSTED = (
    saturation(100, 64, 12).named("hosted, window 12"),
    saturation(100, 64, 30, rounds=1).named("hosted, window 30", ours=True),
    steady(50, 100, rounds=1).named("hosted, steady"),
)
"""The tutorial's layer drops messages when over 100 wait in a channel: it gets no wider window."""
