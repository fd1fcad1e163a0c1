"""The plan of a run: which fault happens when, as decided by a seed before the run begins.

A seed reproduces the plan, and what clients publish after which pauses. It does not reproduce what
the operating system decides: when a process is scheduled, how bytes are split into packets, and
which of two simultaneous events is first. Nor does it reproduce what the programs under test draw
at random, their jitter and ids. So a violation that depends on a millisecond may need several
runs of its seed to happen again.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


class FaultKind(enum.Enum):
    """Kinds of faults."""

    # of a connection
    CUT = "both sides are closed, without a close frame"
    RESET = "both sides are reset"
    TEAR = "both sides are reset in the middle of the next data"
    CLIENT_RESET = "the client's side is reset, the server's side only after a while"
    SERVER_RESET = "the server's side is reset, the client's side only after a while"
    HALF_UP = "the client's direction ends, the other goes on"
    HALF_DOWN = "the server's direction ends, the other goes on"
    STALL = "no data passes for a while"
    STALL_UP = "no data passes from the client for a while"
    STALL_DOWN = "no data passes to the client for a while"
    DELAY = "all data is delayed for a while"
    TRICKLE = "all data arrives in small pieces for a while"
    REJECT = "new connections are reset for a while"
    LATE = "the next connection reaches the server late, even if its client has given up"
    # of a client
    FLOOD = "it publishes about 900 KB at once"
    # of a deployment
    STOP = "a server is stopped with SIGTERM, and started again"
    KILL = "a server is killed, and started again"
    FREEZE = "a server is frozen for a while"
    REDIS_KILL = "Redis is killed, and started again"
    REDIS_FREEZE = "Redis is frozen for a while"
    POSTGRESQL_KILL = "PostgreSQL is killed, and started again"


CONNECTION_FAULTS = tuple(FaultKind)[: tuple(FaultKind).index(FaultKind.FLOOD)]
SERVER_FAULTS = FaultKind.STOP, FaultKind.KILL, FaultKind.FREEZE
SERVICE_FAULTS = FaultKind.REDIS_KILL, FaultKind.REDIS_FREEZE, FaultKind.POSTGRESQL_KILL


CLIENT_INTERVAL_S = 3.0
"""Average time between two faults of one client."""

DEPLOYMENT_INTERVAL_S = 3.5
"""Average time between two faults of the deployment."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A planned fault, which begins *at* seconds into the plan and lasts for *seconds*."""

    at: float
    kind: FaultKind
    target: str  # a client's name, a server's number, or empty for a service
    seconds: float


def plan(
    seed: int,
    seconds: float,
    clients: Sequence[str],
    servers: int,
    *,
    services: bool = False,
    floods: bool = False,
) -> tuple[Fault, ...]:
    """Return the faults of a run, in the order of time, for each client and for the deployment."""
    random = Random(f"plan {seed}")
    faults: list[Fault] = []
    for client in clients:
        at = random.expovariate(1 / CLIENT_INTERVAL_S)
        while at < seconds:
            kind = random.choice(CONNECTION_FAULTS)
            lasts = random.choice((0.05, 0.3, 1.0, 3.0))
            if kind is FaultKind.LATE:
                lasts *= 2
            faults.append(Fault(at, kind, client, lasts))
            at += random.expovariate(1 / CLIENT_INTERVAL_S)
        if floods and random.random() < 0.1:
            faults.append(Fault(random.uniform(0, seconds), FaultKind.FLOOD, client, 0))
    at = random.uniform(0.5, DEPLOYMENT_INTERVAL_S)
    while servers and at < seconds:
        kind = random.choice((*SERVER_FAULTS, *(SERVICE_FAULTS if services else ())))
        target = str(random.randrange(servers)) if kind in SERVER_FAULTS else ""
        faults.append(Fault(at, kind, target, random.choice((0.05, 0.5, 1.5, 3.0))))
        at += random.uniform(0.5, 2 * DEPLOYMENT_INTERVAL_S - 0.5)
    return tuple(sorted(faults, key=lambda fault: fault.at))
