"""The plan: which faults come when, decided by a seed before a run begins.

A seed reproduces the plan, and what clients say and how long they pause. It does not
reproduce what the operating system decides: when a process is scheduled, how bytes
are cut into packets, which of two things that happen at once is first; nor what the
programs under test draw by chance, their jitter and their ids. So a run with the same
seed is the same weather, and a fault that depends on a thousandth of a second may need
it several times.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


class Trouble(enum.Enum):
    """What can happen."""

    # to a connection
    CUT = "both sides end, without a close"
    RESET = "both sides are reset"
    TEAR = "it is reset in the middle of what comes next"
    ORPHAN = "the client is reset, its server is not told for a while"
    DESERT = "the server is reset, its client is not told for a while"
    HALF_UP = "the client's direction ends, the other goes on"
    HALF_DOWN = "the server's direction ends, the other goes on"
    STALL = "nothing passes for a while"
    STALL_UP = "nothing passes from the client for a while"
    STALL_DOWN = "nothing passes to the client for a while"
    DELAY = "all comes late for a while"
    TRICKLE = "all comes in little pieces for a while"
    REFUSE = "whoever dials is reset, for a while"
    LATE = "whoever dials is put through late, even if it has gone"
    # to a client
    FLOOD = "it says very much at once"
    # to a house
    STOP = "a server is told to stop, and started again"
    KILL = "a server is killed, and started again"
    FREEZE = "a server stands still for a while"
    REDIS_KILL = "Redis is killed, and started again"
    REDIS_FREEZE = "Redis stands still for a while"
    POSTGRESQL_KILL = "PostgreSQL is killed, and started again"


OF_CONNECTIONS = tuple(Trouble)[: tuple(Trouble).index(Trouble.FLOOD)]
OF_SERVERS = Trouble.STOP, Trouble.KILL, Trouble.FREEZE
OF_SERVICES = Trouble.REDIS_KILL, Trouble.REDIS_FREEZE, Trouble.POSTGRESQL_KILL


EVERY = 3.0
"""Seconds between two faults of one client, on average."""

HOUSE_EVERY = 3.5
"""Seconds between two faults of the house."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. *at* and *seconds*, how long it lasts, are seconds of the run."""

    at: float
    trouble: Trouble
    target: str  # a client's name, the number of a server, or nothing
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
    """Decide what happens in a run: faults come to each client and to the house."""
    random = Random(f"plan {seed}")
    faults: list[Fault] = []
    for client in clients:
        at = random.expovariate(1 / EVERY)
        while at < seconds:
            trouble = random.choice(OF_CONNECTIONS)
            lasts = random.choice((0.05, 0.3, 1.0, 3.0))
            if trouble is Trouble.LATE:
                lasts *= 2
            faults.append(Fault(at, trouble, client, lasts))
            at += random.expovariate(1 / EVERY)
        if floods and random.random() < 0.1:
            faults.append(Fault(random.uniform(0, seconds), Trouble.FLOOD, client, 0))
    at = random.uniform(0.5, HOUSE_EVERY)
    while servers and at < seconds:
        trouble = random.choice((*OF_SERVERS, *(OF_SERVICES if services else ())))
        target = str(random.randrange(servers)) if trouble in OF_SERVERS else ""
        faults.append(Fault(at, trouble, target, random.choice((0.05, 0.5, 1.5, 3.0))))
        at += random.uniform(0.5, 2 * HOUSE_EVERY - 0.5)
    return tuple(sorted(faults, key=lambda fault: fault.at))
