"""What the Django deployment asks of PostgreSQL and Redis for each message."""

from __future__ import annotations

import time
from collections.abc import Mapping

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
    """Return the transactions, bytes of WAL, connections and Redis messages so far."""
    import psycopg
    import redis

    with psycopg.connect(environment["DATABASE_URL"], autocommit=True) as database:
        row = database.execute(
            "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),"
            " (SELECT count(*) FROM pg_stat_activity"
            "  WHERE datname = current_database() AND pid <> pg_backend_pid())"
            " FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        calls = client.info("commandstats")
        commands = sum(each["calls"] for each in calls.values())
        published = calls.get("cmdstat_publish", {}).get("calls", 0)
    return {
        "transactions": int(row[0]),
        "wal": int(row[1]),
        "connections": int(row[2]),
        "commands": int(commands),
        "published": int(published),
    }


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


FULL = stores("stores, full", plan.saturation(CLIENTS, 64, 12))
CALM = stores("stores, steady", plan.steady(CALM_RATE, CLIENTS, seconds=3.0))
MEASUREMENTS = (FULL, CALM)


def per_message(key: str) -> Value:
    """Return a function that returns how much of the counter *key* a message costs."""
    return lambda figures: float(figures["stores"][key]) / float(figures["messages"])
