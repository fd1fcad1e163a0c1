"""Chaos for as long as one likes: ``python -m benchmarks.chaos --minutes 60 --house cluster``.

A run of a minute follows another, each with the next seed and in rooms of its own, in
one house that goes on. What a run is, what is checked, and what a seed reproduces stand
at the head of `tests/faults`' modules; this one only counts and prints.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from faults.house import House, cluster_house, daphne_house, file_house  # noqa: E402  # from there
from faults.run import Figures, Run  # noqa: E402  # the same
from houses import INSTALLED, zipped  # noqa: E402  # the same


def house(options: argparse.Namespace) -> AbstractContextManager[House]:
    """Return the house that is asked for."""
    match options.house:
        case "daphne":
            return daphne_house()
        case "cluster":
            return cluster_house()
    program = INSTALLED if options.house == "server" else zipped(options.zipapp)
    flags = [] if options.log is None else ["--log", str(options.log)]
    if options.log_messages is not None:
        flags += ["--log-messages", str(options.log_messages)]
    return file_house(program, *flags, lasting=options.log is not None, reach=options.log_messages)


def main() -> int:
    """Play runs, and return whether something was violated."""
    options = _parser().parse_args()
    end = time.monotonic() + 60 * options.minutes
    figures: list[Figures] = []
    violations: Counter[str] = Counter()
    seed = options.seed
    with house(options) as inside:
        while (left := end - time.monotonic()) > 0 or not figures:
            seconds = max(5.0, min(options.seconds, left))
            run = Run(inside, seed, seconds, floods=options.floods)
            verdict = asyncio.run(run.play())
            figures.append(verdict.figures)
            print(f"seed {seed}: {_line(verdict.figures)}", flush=True)
            for each in verdict.violations:
                violations[each.rule.name] += 1
                print(f"  {each}", flush=True)
            seed += 1
    print(_summary(options.house, figures, violations))
    return 1 if violations else 0


def _line(figures: Figures) -> str:
    return (
        f"{figures.seconds:.0f} s, {figures.said} messages, {figures.heard} receipts,"
        f" {sum(figures.faults.values())} faults, {figures.restarts} restarts,"
        f" {figures.slowest} without the stream for {figures.longest:.1f} s"
    )


def _summary(name: str, figures: list[Figures], violations: Counter[str]) -> str:
    faults: Counter[str] = Counter()
    for each in figures:
        faults.update(each.faults)
    return "\n".join(
        [
            f"{name}: {len(figures)} runs, {sum(each.seconds for each in figures):.0f} s",
            (
                f"messages {sum(each.said for each in figures)},"
                f" receipts {sum(each.heard for each in figures)},"
                f" connections {sum(each.connections for each in figures)}"
            ),
            "faults " + ", ".join(f"{kind.lower()} {n}" for kind, n in sorted(faults.items())),
            f"longest without the stream {max(each.longest for each in figures):.1f} s",
            "violations "
            + (", ".join(f"{kind.lower()} {n}" for kind, n in violations.items()) or "none"),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--seconds", type=float, default=40.0, help="of faults, in each run")
    parser.add_argument(
        "--house", choices=("server", "zipapp", "daphne", "cluster"), default="server"
    )
    parser.add_argument("--zipapp", type=Path, default=TESTS.parent / "broadcast-server.pyz")
    parser.add_argument("--log", type=Path, help="start --log FILE: the log outlives the process")
    parser.add_argument("--log-messages", type=int, help="start --log-messages N: it is short")
    parser.add_argument("--floods", action="store_true", help="some say very much at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
