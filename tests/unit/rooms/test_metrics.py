"""The metrics: what is counted, and how it is written for Prometheus."""

from __future__ import annotations

import re

from metrics_samples import samples
from programs import ROOT

from broadcast_server.http.prometheus import Gauges, exposition
from broadcast_server.rooms.metrics import BATCH_BUCKETS_S, Metrics


def test_everything_is_described_once() -> None:
    """Each metric has one help and one type before its samples; its name begins with our prefix."""
    metrics = Metrics()
    metrics.count_close(4001)
    described: list[str] = []
    for line in exposition(metrics, Gauges(1, 2, 3, 4)).splitlines():
        assert line == line.strip()
        if line.startswith("# TYPE "):
            assert described[-1] == line.split()[2]
        elif line.startswith("# HELP "):
            described.append(line.split()[2])
        else:
            assert line.startswith(described[-1])
    assert len(described) == len(set(described))
    assert all(name.startswith("broadcast_") for name in described)


def test_turns_are_a_histogram() -> None:
    """Each bucket counts the batches that took at most its bound, and the last counts all."""
    metrics = Metrics()
    for seconds in (0.00005, 0.0001, 0.002, 5.0):
        metrics.observe_batch(seconds)
    values = samples(exposition(metrics, Gauges(0, 0, 0, 0)))
    buckets = [
        values[f'broadcast_turn_seconds_bucket{{le="{bound}"}}'] for bound in BATCH_BUCKETS_S
    ]
    assert buckets == [2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert values['broadcast_turn_seconds_bucket{le="+Inf"}'] == 4
    assert values["broadcast_turn_seconds_count"] == 4
    assert values["broadcast_turn_seconds_sum"] == 5.00215


def test_closes_are_counted_by_code() -> None:
    """Each defined close code is a sample of its own, and all other codes are one sample."""
    metrics = Metrics()
    for code in (1000, 4001, 4001, *range(3000, 4000)):
        metrics.count_close(code)
    values = samples(exposition(metrics, Gauges(0, 0, 0, 0)))
    assert values['broadcast_closes_total{code="1000"}'] == 1
    assert values['broadcast_closes_total{code="4001"}'] == 2
    assert values['broadcast_closes_total{code="other"}'] == 1000
    assert sum("closes" in name for name in values) == 3


def test_every_metric_is_documented() -> None:
    """The table in docs/metrics.md has exactly the metrics that exist, with their types."""
    document = (ROOT / "docs/metrics.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| `(\w+)(?:\{code\})?` \| (\w+) \|", document, re.MULTILINE))
    text = exposition(Metrics(), Gauges(0, 0, 0, 0))
    assert documented == dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
