"""Metrics in the text exposition format of Prometheus, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from broadcast_server.rooms.metrics import BATCH_BUCKETS_S, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Gauges:
    """The values that go up and down, at one moment."""

    clients: int
    """Members and subscribers."""
    rooms: int
    """Rooms with at least one client."""
    behind: int
    """Clients that catch up from the log: they resumed from a cursor, or read slowly."""
    streams: int
    """Subscribers, over HTTP."""


def exposition(metrics: Metrics, gauges: Gauges) -> str:
    """Return all metrics in Prometheus' text format."""
    return "\n".join(_lines(metrics, gauges)) + "\n"


def _lines(metrics: Metrics, gauges: Gauges) -> Iterator[str]:
    yield from _gauge("clients", "Clients that are in a room.", gauges.clients)
    yield from _gauge("streams", "Subscribers, over HTTP.", gauges.streams)
    yield from _gauge("rooms", "Rooms with at least one client.", gauges.rooms)
    yield from _gauge("behind", "Clients that catch up from the log.", gauges.behind)
    yield from _counter("joins_total", "Clients that joined a room.", metrics.joins)
    yield from _counter("messages_total", "Messages that were published.", metrics.messages)
    yield from _counter("posts_total", "Messages that were published over HTTP.", metrics.posts)
    yield from _counter("operator_acts_total", "What operators did in rooms.", metrics.acts)
    yield from _counter("deliveries_total", "Messages times receivers.", metrics.deliveries)
    yield from _counter("received_bytes_total", "Bytes of text from clients.", metrics.received)
    yield from _counter("sent_bytes_total", "Bytes of text to clients.", metrics.sent)
    yield from _closes(metrics.closes)
    yield from _histogram(metrics)


def _header(name: str, type: str, help: str) -> Iterator[str]:
    yield f"# HELP broadcast_{name} {help}"
    yield f"# TYPE broadcast_{name} {type}"


def _gauge(name: str, help: str, value: int) -> Iterator[str]:
    yield from _header(name, "gauge", help)
    yield f"broadcast_{name} {value}"


def _counter(name: str, help: str, value: int) -> Iterator[str]:
    yield from _header(name, "counter", help)
    yield f"broadcast_{name} {value}"


def _closes(closes: Mapping[int, int]) -> Iterator[str]:
    yield from _header("closes_total", "counter", "Closed connections by close code.")
    for code, count in sorted(closes.items()):  # code 0 counts the unknown ones, see `count_close`
        yield f'broadcast_closes_total{{code="{code or "other"}"}} {count}'


def _histogram(metrics: Metrics) -> Iterator[str]:
    help = "Time to encode and write what happened in one turn of the event loop."
    yield from _header("turn_seconds", "histogram", help)
    count = 0  # the buckets of Prometheus are cumulative
    for bound, batches in zip([*map(str, BATCH_BUCKETS_S), "+Inf"], metrics.batches, strict=True):
        count += batches
        yield f'broadcast_turn_seconds_bucket{{le="{bound}"}} {count}'
    yield f"broadcast_turn_seconds_sum {metrics.seconds:.6f}"
    yield f"broadcast_turn_seconds_count {count}"
