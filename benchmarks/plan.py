"""The plan: what is measured, and how often.

Each measurement starts a new server. In each round, a measurement is taken for all servers one
after the other, so that a machine that is slower for a while affects all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .load import Figures, Load
from .servers import Running, Server
from .tls_idle import idle_tls

RATE_SECONDS = 0.7
"""Seconds for which a rate is measured."""

SIZES = (64, 1024)
CLIENT_COUNTS = (100, 1000, 5000)
FLOOR_COUNTS = (10, *CLIENT_COUNTS)
COUNTS = {64: FLOOR_COUNTS, 1024: (100, 1000)}
"""The numbers of clients for each size of a message."""
LARGE_LOAD_BYTES = 100 * 1024
"""What one message to all clients has at least, that a load of them needs much memory."""
LARGE_ROUNDS = 9
"""Rounds of such a load. The CPU time of a delivery differs by 11 % between two runs of the same
server (standard deviation), however long they are: two rounds have shown 1.15 times the CPU time
where nine show 0.92."""
RATES = (20, 200, 2000)
STAMPEDES = (500, 5000)


@dataclass(frozen=True)
class Measurement:
    """One measurement: *take* performs it, *rounds* is how often."""

    name: str
    take: Callable[[Load, Running], Figures]
    rounds: int = 3
    ours: bool = False
    """Whether it needs a feature that only our servers have."""
    brief_rounds: int = 1
    """How often with a server that is brief."""
    variant: str = ""
    """The configuration that it needs; only servers that have it take part."""
    needs_much_memory: bool = False
    """Whether it is rehearsed, see `result`: by far most of the memory is the kernel's."""

    def suits(self, server: Server, number: int) -> bool:
        """Return whether *server* takes part in the round with this number, from 0."""
        rounds = min(self.rounds, self.brief_rounds) if server.brief else self.rounds
        return (
            number < rounds
            and (server.ours or not self.ours)
            and (not self.variant or self.variant in server.variants)
            and (server.only is None or self.name in server.only)
        )

    def within(self, rounds: int) -> Measurement:
        """Return the same measurement in at most *rounds* rounds."""
        return replace(self, rounds=min(self.rounds, rounds))

    def named(self, name: str, ours: bool = False) -> Measurement:
        """Return the same measurement under another name."""
        return replace(self, name=name, ours=ours)


def saturation(clients: int, size: int, window: int = 30, rounds: int = 3) -> Measurement:
    """Eight senders with *window* messages in flight each; all clients receive all messages."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(
            **server.target,
            clients=clients,
            size=size,
            senders=8,
            window=window,
            seconds=RATE_SECONDS,
            drain=2,
        )

    name = f"saturation {clients} x {size}, {window}"
    return Measurement(name, take, rounds, needs_much_memory=size * clients >= LARGE_LOAD_BYTES)


def steady(rate: int, clients: int = 1000, seconds: float = 1.0, rounds: int = 3) -> Measurement:
    """*rate* messages a second in total, by eight senders, even if the server is slower."""

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
    """The private memory of a server without and with *clients* idle connections."""

    def take(load: Load, server: Running) -> Figures:
        before = server.memory
        with load.idle(**server.target, clients=clients):
            held = server.memory
        return {"before": before, "held": held, "clients": clients}

    return Measurement(f"memory {clients}", take, rounds=1)


def memory_tls(clients: int) -> Measurement:
    """The same, with connections over TLS, in rooms of 50."""

    def take(load: Load, server: Running) -> Figures:
        with idle_tls(server.port, 1):  # as in `result`
            pass
        before = server.memory
        with idle_tls(server.port, clients):
            held = server.memory
        return {"before": before, "held": held, "clients": clients}

    return Measurement(f"memory {clients}, TLS", take, rounds=1, variant="tls")


def joins(clients: int, rooms: int, rounds: int = 3, variant: str = "rooms") -> Measurement:
    """All clients join *rooms* rooms, 64 at a time; each join is announced to its room."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(**server.target, mode="joins", clients=clients, rooms=rooms, drain=60)

    return Measurement(
        f"joins {clients} in {rooms}", take, rounds, brief_rounds=rounds, variant=variant
    )


def handshakes(rounds: int = 3) -> Measurement:
    """Sixty-four clients that connect and disconnect repeatedly."""

    def take(load: Load, server: Running) -> Figures:
        return load.run(
            **server.target, mode="handshakes", clients=64, warm=0.3, seconds=RATE_SECONDS
        )

    return Measurement("handshakes", take, rounds, brief_rounds=rounds)


def stampede(clients: int, rounds: int = 3) -> Measurement:
    """All clients are cut, miss 50 messages, and resume at the same time."""

    def take(load: Load, server: Running) -> Figures:
        target = {**server.target, "dialect": "json", "mode": "stampede"}
        return load.run(**target, clients=clients, senders=1, window=50, drain=30)

    return Measurement(f"stampede {clients}", take, rounds, ours=True, brief_rounds=rounds)


def fairness(clients: int, window: int, rounds: int = 3) -> Measurement:
    """One sender with *window* messages in flight, and one with 20 a second, which is timed."""

    def take(load: Load, server: Running) -> Figures:
        target = {**server.target, "mode": "flood"}
        return load.run(**target, clients=clients, senders=2, window=window, rate=20, seconds=1.5)

    return Measurement(f"fairness {clients}, {window}", take, rounds)


def start(rounds: int = 3) -> Measurement:
    """Seconds from the start of the process until it accepts a connection."""

    def take(load: Load, server: Running) -> Figures:
        return {"seconds": server.seconds}

    return Measurement("start", take, rounds)


START_CACHED, START_UNCACHED = "start, code cache", "start, no code cache"
SEND, RUN = "send", "run"
"""What is measured of the single file's start-up: "seconds" of a round."""

IMPORTS = "python, asyncio and websockets.server"
"""The server, so to say, to compare with: only these imports, measured as `START_UNCACHED`."""

TWO_PROCESSES = "hosted, two processes"
"""The messages of two processes of the site beside one of them: "ratio"."""

END_TO_END = "end to end"
"""A message through the unloaded site, and through `PUB_SUB` alone: "latency"."""

PUB_SUB = "Redis pub/sub"

ALONE, FLOOD = fairness(100, 1, rounds=1), fairness(100, 240, rounds=5)
JOINS = joins(1000, 20, rounds=5)
TLS = memory_tls(1000)

# Measurements with a target get three rounds, slow ones get one.
WHOLE = (
    start(),
    *(saturation(clients, 64) for clients in FLOOR_COUNTS),
    *(
        saturation(clients, 1024, rounds=LARGE_ROUNDS if clients == 1000 else 1)
        for clients in COUNTS[1024]
    ),
    steady(20, seconds=1.5),
    steady(200),
    steady(2000, rounds=1),
    JOINS,
    handshakes(),
    ALONE,
    FLOOD,
    stampede(5000),
    memory(1000),
    memory(10_000),
    TLS,
)

QUICK = (
    saturation(100, 64, rounds=1),
    saturation(1000, 64, rounds=1),
    steady(200, rounds=1),
    joins(1000, 20, rounds=1),
    handshakes(rounds=1),
    stampede(500, rounds=1),
    memory(1000),
    TLS,
)

HOSTED = (
    saturation(100, 64, 12).named("hosted, window 12"),
    saturation(100, 64, 30, rounds=1).named("hosted, window 30", ours=True),
    steady(50, 100, rounds=1).named("hosted, steady"),
)
"""The tutorial's channel layer drops messages if over 100 wait in a channel, so it gets a window
of 12 only.
"""
