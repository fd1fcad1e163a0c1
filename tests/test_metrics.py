"""The metrics: what is counted, and how it is written."""

from __future__ import annotations

import re
from pathlib import Path

from broadcast_server.metrics import TURNS, Metrics, Now, exposition


def samples(text: str) -> dict[str, float]:
    """Read Prometheus' text format."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_everything_is_described_once() -> None:
    """Each name has a help and a type before its samples, and begins with ours."""
    metrics = Metrics()
    metrics.closed(4001)
    described: list[str] = []
    for line in exposition(metrics, Now(1, 2, 3, 4)).splitlines():
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
    """Buckets count all that took so long or less, and the last counts all."""
    metrics = Metrics()
    for seconds in (0.00005, 0.0001, 0.002, 5.0):
        metrics.turn(seconds)
    found = samples(exposition(metrics, Now(0, 0, 0, 0)))
    buckets = [found[f'broadcast_turn_seconds_bucket{{le="{bound}"}}'] for bound in TURNS]
    assert buckets == [2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert found['broadcast_turn_seconds_bucket{le="+Inf"}'] == 4
    assert found["broadcast_turn_seconds_count"] == 4
    assert found["broadcast_turn_seconds_sum"] == 5.00215


def test_closes_are_told_by_code() -> None:
    """Each code by which a client ended is a sample of its own, if it means anything."""
    metrics = Metrics()
    for code in (1000, 4001, 4001, *range(3000, 4000)):
        metrics.closed(code)
    found = samples(exposition(metrics, Now(0, 0, 0, 0)))
    assert found['broadcast_closes_total{code="1000"}'] == 1
    assert found['broadcast_closes_total{code="4001"}'] == 2
    assert found['broadcast_closes_total{code="other"}'] == 1000
    assert sum("closes" in name for name in found) == 3


def test_every_metric_is_told() -> None:
    """Every name is in the documents with its type, and no other is."""
    document = (Path(__file__).parent.parent / "docs/metrics.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `(\w+)(?:\{code\})?` \| (\w+) \|", document, re.MULTILINE))
    text = exposition(Metrics(), Now(0, 0, 0, 0))
    assert told == dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
