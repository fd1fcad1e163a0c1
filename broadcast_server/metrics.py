"""The metrics: what a house counts of itself, and how Prometheus reads it.

Pure. Whoever does something worth counting adds to a `Metrics`; `exposition` writes it in
Prometheus' text format, version 0.0.4. The names are the same in every house. Nothing in
a label comes from a client: strangers could fill the memory of whoever collects it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .protocol import CloseCode

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TURNS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Bounds of the histogram of turns, in seconds."""

STANDARD = range(1000, 1016)
CODES = frozenset(map(int, CloseCode))
OTHER = 0


@dataclass(slots=True)
class Metrics:
    """What was counted since the start."""

    messages: int = 0
    """Messages that were said."""
    deliveries: int = 0
    """Messages times those who were sent them."""
    received: int = 0
    """Bytes of text that came from clients."""
    sent: int = 0
    """Bytes of text that went to clients."""
    joins: int = 0
    """Clients that came into a room."""
    posts: int = 0
    """Messages that were said over HTTP."""
    closes: Counter[int] = field(default_factory=Counter)
    """Ends of clients, by the code that they ended with, `OTHER` for what is nobody's."""
    seconds: float = 0.0
    """Time that turns took."""
    turns: list[int] = field(default_factory=lambda: [0] * (len(TURNS) + 1))
    """How many turns took so long, by `TURNS`, the last without a bound."""

    def closed(self, code: int) -> None:
        """Count the end of a client. It may have chosen the code: there are three thousand."""
        self.closes[code if code in STANDARD or code in CODES else OTHER] += 1

    def turn(self, seconds: float) -> None:
        """Count a turn: the time in which what happened was encoded and written."""
        self.seconds += seconds
        self.turns[bisect_left(TURNS, seconds)] += 1


@dataclass(frozen=True, slots=True)
class Now:
    """How things are now."""

    clients: int
    rooms: int
    behind: int
    """Clients that do not read as fast as is said, or are being told the past."""
    streams: int
    """Clients that only listen, over HTTP."""


def exposition(metrics: Metrics, now: Now) -> str:
    """Write everything in Prometheus' text format."""
    return "\n".join(_lines(metrics, now)) + "\n"


def _lines(metrics: Metrics, now: Now) -> Iterator[str]:
    yield from _one("clients", "gauge", "Clients that are in a room.", now.clients)
    yield from _one("streams", "gauge", "Clients that only listen, over HTTP.", now.streams)
    yield from _one("rooms", "gauge", "Rooms that someone is in.", now.rooms)
    yield from _one("behind", "gauge", "Clients that read the log to catch up.", now.behind)
    yield from _one("joins_total", "counter", "Clients that came into a room.", metrics.joins)
    yield from _one("messages_total", "counter", "Messages that were said.", metrics.messages)
    yield from _one("posts_total", "counter", "Messages said over HTTP.", metrics.posts)
    yield from _one("deliveries_total", "counter", "Messages times receivers.", metrics.deliveries)
    yield from _one(
        "received_bytes_total", "counter", "Bytes of text from clients.", metrics.received
    )
    yield from _one("sent_bytes_total", "counter", "Bytes of text to clients.", metrics.sent)
    yield from _many("closes_total", "counter", "Ends of clients by code.", "code", metrics.closes)
    yield from _histogram(metrics)


def _head(name: str, type: str, help: str) -> Iterator[str]:
    yield f"# HELP broadcast_{name} {help}"
    yield f"# TYPE broadcast_{name} {type}"


def _one(name: str, type: str, help: str, value: int) -> Iterator[str]:
    yield from _head(name, type, help)
    yield f"broadcast_{name} {value}"


def _many(name: str, type: str, help: str, label: str, values: Mapping[int, int]) -> Iterator[str]:
    yield from _head(name, type, help)
    for key, value in sorted(values.items()):
        yield f'broadcast_{name}{{{label}="{key or "other"}"}} {value}'


def _histogram(metrics: Metrics) -> Iterator[str]:
    yield from _head("turn_seconds", "histogram", "Time to encode and write what happened.")
    count = 0
    for bound, turns in zip([*map(str, TURNS), "+Inf"], metrics.turns, strict=True):
        count += turns
        yield f'broadcast_turn_seconds_bucket{{le="{bound}"}} {count}'
    yield f"broadcast_turn_seconds_sum {metrics.seconds:.6f}"
    yield f"broadcast_turn_seconds_count {count}"
