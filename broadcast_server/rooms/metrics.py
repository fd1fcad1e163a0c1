"""The metrics: what a server counts. `http/prometheus` writes them in Prometheus' text format.

Both servers count the same things, in one `Metrics` for each process. No label comes from a client,
so that strangers cannot create an unlimited number of time series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from broadcast_server.protocol.messages import CloseCode

BATCH_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Upper bounds of the buckets of the histogram of batches, in seconds."""

STANDARD_CODES = range(1000, 1016)
"""The close codes that RFC 6455 and its registry define."""

OUR_CODES = frozenset(map(int, CloseCode))
"""The close codes that this project defines."""

OTHER_CODE = 0
"""Stands for all other close codes."""


@dataclass(slots=True)
class Metrics:
    """The counters of one process, since its start."""

    messages: int = 0
    """Messages that were published."""
    deliveries: int = 0
    """Messages times receivers."""
    received: int = 0
    """Bytes of text from clients."""
    sent: int = 0
    """Bytes of text to clients."""
    joins: int = 0
    """Clients that joined a room."""
    posts: int = 0
    """Messages that were published over HTTP."""
    acts: int = 0
    """What operators did, see `protocol/operators`."""
    closes: Counter[int] = field(default_factory=Counter)
    """Closed connections by close code, with `OTHER_CODE` for codes that nobody defines."""
    seconds: float = 0.0
    """Time that all batches took together, in seconds."""
    batches: list[int] = field(default_factory=lambda: [0] * (len(BATCH_BUCKETS_S) + 1))
    """How many batches fall into each bucket of `BATCH_BUCKETS_S`, and last those beyond all."""

    def count_close(self, code: int) -> None:
        """Count a closed connection.

        A client can choose among three thousand codes. They are counted as one.
        """
        self.closes[code if code in STANDARD_CODES or code in OUR_CODES else OTHER_CODE] += 1

    def observe_batch(self, seconds: float) -> None:
        """Count a batch that was encoded and written in *seconds*."""
        self.seconds += seconds
        self.batches[bisect_left(BATCH_BUCKETS_S, seconds)] += 1
