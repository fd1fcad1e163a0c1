"""Reads metrics as Prometheus does."""

from __future__ import annotations


def samples(text: str) -> dict[str, float]:
    """Return the samples in Prometheus' text format: values by name, labels included."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
