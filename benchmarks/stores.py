"""What the Django deployment asks of PostgreSQL and Redis for each message."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from . import plan
from .hosted import REDIS, UVICORN, site_name
from .load import Figures, Load
from .servers import Running
from .table import Value

SITE = site_name(UVICORN, REDIS)

CLIENTS = 100
CALM_RATE = 50
"""Messages a second: so few that each is its own transaction."""

QUIET_S = 3.0
"""Seconds for which the stores are watched while nobody is connected."""


def counters(environment: Mapping[str, str]) -> dict[str, int]:
    """Return the transactions, bytes of WAL, Redis commands and CPU of both so far.

    The number of PostgreSQL's connections is that of this moment.
    """
    import psycopg
    import redis

    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as database:
        row = database.execute(
            "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),"
            " (SELECT count(*) FROM pg_stat_activity"
            "  WHERE datname = current_database() AND pid <> pg_backend_pid()),"
            " pg_backend_pid()"
            " FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        postgresql_us = _cpu_us(_parent(int(row[3])))
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        calls = client.info("commandstats")
        commands = sum(each["calls"] for each in calls.values())
        published = calls.get("cmdstat_publish", {}).get("calls", 0)
        used = client.info("cpu")
    return {
        "transactions": int(row[0]),
        "wal": int(row[1]),
        "connections": int(row[2]),
        "commands": int(commands),
        "published": int(published),
        "postgresql_us": postgresql_us,
        "redis_us": int(1e6 * (used["used_cpu_sys"] + used["used_cpu_user"])),
    }


def _stat(pid: int) -> list[str]:
    """Return the fields of a process in /proc that follow its name."""
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _cpu_us(pid: int) -> int:
    """Return the microseconds of CPU of a process and its children, those that ended included."""
    ticks = sum(map(int, _stat(pid)[11:15]))
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        ticks += sum(map(int, _stat(int(child))[11:13]))
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


def full() -> plan.Measurement:
    """Measure the full rate with the window of `plan.HOSTED`, for longer: a tick is 10 ms."""

    def take(load: Load, server: Running) -> Figures:
        options = {"size": 64, "senders": 8, "window": 12, "seconds": 4, "drain": 2}
        return load.run(**server.target, **options, clients=CLIENTS)

    return plan.Measurement("", take)


def stores(name: str, load_it: plan.Measurement) -> plan.Measurement:
    """Return *load_it* with the counters of the stores before and after, under another name.

    PostgreSQL counts a transaction up to a second late, so the counters are read after that.
    """

    def take(load: Load, server: Running) -> Figures:
        environment = server.server.environment
        time.sleep(1.2)
        idle = counters(environment)
        time.sleep(QUIET_S)
        before = counters(environment)
        begin = time.monotonic()
        figures = load_it.take(load, server)
        busy = time.monotonic() - begin
        time.sleep(1.2)
        after = counters(environment)
        return {
            **figures,
            "busy": busy,
            "stores": {key: after[key] - before[key] for key in after},
            "quiet": {key: (before[key] - idle[key]) / QUIET_S for key in after},
            "connections": after["connections"],
        }

    return plan.Measurement(name, take, rounds=1)


FULL = stores("stores, full", full())
CALM = stores("stores, steady", plan.steady(CALM_RATE, CLIENTS, seconds=6.0))
MEASUREMENTS = (FULL, CALM)


def per_message(key: str) -> Value:
    """Return a function that returns how much of the counter *key* a message costs."""
    return lambda figures: float(figures["stores"][key]) / float(figures["messages"])
