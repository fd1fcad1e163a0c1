"""The result: all values of a run, and their medians."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from .load import Failed, Figures, Load, faults
from .plan import Measurement
from .servers import Running, Server, running


@dataclass
class Result:
    """The values of one run of the benchmarks, and where it ran."""

    date: str
    machine: str
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    figures: list[Figures] = field(default_factory=list)

    def of(self, server: str, measurement: str) -> list[Figures]:
        """Return the figures of all rounds that had a result, and no fault."""
        return [
            each
            for each in self.figures
            if (each["server"], each["measurement"]) == (server, measurement) and not outcome(each)
        ]

    @property
    def discarded(self) -> list[str]:
        """The runs that do not count, each with the reason."""
        return [
            f"{each['measurement']}, {each['server']}: {outcome(each)}"
            for each in self.figures
            if outcome(each)
        ]

    def median(
        self, server: str, measurement: str, value: Callable[[Figures], float | None]
    ) -> float | None:
        """Return the median over the rounds, None if at least half of them have no such value."""
        values = [value(each) for each in self.of(server, measurement)]
        known = sorted(each for each in values if each is not None)
        if len(known) * 2 <= len(values) or not values:
            return None
        return float(statistics.median(known))

    def servers(self, measurements: Iterable[str]) -> list[str]:
        """Return the servers that have any of these, in the order of the catalogue."""
        names = set(measurements)
        servers = {each["server"]: None for each in self.figures if each["measurement"] in names}
        return list(servers)

    def updated(self, newer: Result) -> Result:
        """Return *newer* with the figures of this result for all that *newer* has not measured."""
        renewed = {(each["server"], each["measurement"]) for each in newer.figures}
        kept = [
            each for each in self.figures if (each["server"], each["measurement"]) not in renewed
        ]
        missing = {n: why for n, why in self.missing.items() if n not in newer.versions}
        return Result(
            newer.date,
            newer.machine,
            {**self.versions, **newer.versions},
            {**missing, **newer.missing},
            [*kept, *newer.figures],
        )

    def write(self, to: Path) -> None:
        """Write everything as JSON, with one line for each measurement."""
        head = asdict(self)
        lines = ",\n  ".join(json.dumps(each) for each in head.pop("figures"))
        whole = json.dumps(head, indent=1).removesuffix("\n}")
        to.write_text(f'{whole},\n "figures": [\n  {lines}\n ]\n}}\n', "utf-8")


def outcome(figures: Figures) -> str:
    """Return why a run does not count, an empty string if it does."""
    return str(figures.get("failed") or "; ".join(faults(figures)))


def read(path: Path) -> Result:
    """Read what `Result.write` wrote."""
    return Result(**json.loads(path.read_text("utf-8")))


def machine() -> str:
    """Describe this machine."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text("utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = models[0] if models else model
    return (
        f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def now() -> Result:
    """Return an empty result with today's date."""
    return Result(datetime.now(timezone.utc).strftime("%Y-%m-%d"), machine())


def in_order(servers: Sequence[Server], number: int) -> Sequence[Server]:
    """Return *servers* in the order of the round with this number, from 0.

    Every other round is in the opposite order, so that none has always the first turn.
    """
    return servers[::-1] if number % 2 else servers


def take(
    result: Result,
    servers: Sequence[Server],
    measurements: Sequence[Measurement],
    load: Load,
    scratch: Path,
    tell: Callable[[str], None],
) -> None:
    """Take all measurements of all servers in rounds, and add them to *result*."""
    if not measurements:
        return
    for server in servers:
        reason = server.missing()
        if reason:
            result.missing[server.name] = reason
            tell(f"{server.name}: {reason}")
        else:
            result.versions[server.name] = server.version()
    available = [each for each in servers if each.name not in result.missing]
    _rehearse(available, measurements, load, scratch)
    for number in range(max(each.rounds for each in measurements)):
        for measurement in measurements:
            for server in in_order(available, number):
                if not measurement.suits(server, number):
                    continue
                figures = _take(server, measurement, load, scratch)
                result.figures.append(
                    {"server": server.name, "measurement": measurement.name, **figures}
                )
                ending = outcome(figures) or "ok"
                tell(f"round {number + 1}, {measurement.name}, {server.name}: {ending}")


def _rehearse(
    servers: Sequence[Server], measurements: Sequence[Measurement], load: Load, scratch: Path
) -> None:
    """Take each measurement of memory or large messages once, with a server that takes part in it.

    That does not count. A page that this machine has never used costs a virtual machine several
    times the CPU time, since its host has to find one. The first server with 1,000 clients and
    messages of 1 KiB paid that: 0.59 us for each delivery, and 0.26 in the next round.
    """
    for measurement in measurements:
        if measurement.needs_much_memory:
            for server in servers:
                if measurement.suits(server, 0):
                    _take(server, measurement, load, scratch)
                    break


def _warm_up(measurement: Measurement, load: Load, server: Running) -> None:
    """Let *server* serve one client, which is over when the measurement begins.

    Some load a part of what they need only when they listen, or for the first client: ours, 30 to
    50 ms of CPU time and 1.5 to 3.5 MiB. `plan.start` and `start_up` measure the start.
    """
    if measurement.variant == "tls":  # it does so by itself
        return
    with suppress(Failed), load.idle(**server.target, clients=1, senders=1):
        pass  # a server that cuts it, since it lacks a parameter, is warm as well


def _take(server: Server, measurement: Measurement, load: Load, scratch: Path) -> Figures:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        try:
            with running(server, Path(folder), measurement.variant) as it:
                _warm_up(measurement, load, it)
                return measurement.take(load, it)
        except Failed as failed:
            return {"failed": str(failed)}
