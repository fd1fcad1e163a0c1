"""Longer fault tests: ``python -m benchmarks.chaos --minutes 60 --deployment cluster``.

Runs follow one another against one deployment, each with the next seed and its own rooms. The
docstrings in `tests/faults` say what a run is (`run`), what is checked (`checker`), and what a
seed reproduces (`plan`). This module only counts and prints.
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

from deployments import INSTALLED, zipped  # noqa: E402  # after the path is extended
from faults import mutants  # noqa: E402  # after the path is extended
from faults.deployment import Deployment, cluster_deployment, daphne_deployment, file_deployment  # noqa: E402  # after the path is extended
from faults.run import Figures, Run  # noqa: E402  # after the path is extended


def deployment(options: argparse.Namespace) -> AbstractContextManager[Deployment]:
    """Return the deployment that the options name."""
    match options.deployment:
        case "daphne":
            return daphne_deployment()
        case "cluster":
            return cluster_deployment()
    program = INSTALLED if options.deployment == "server" else zipped(options.zipapp)
    flags = [] if options.log is None else ["--log", str(options.log)]
    if options.log_messages is not None:
        flags += ["--log-messages", str(options.log_messages)]
    return file_deployment(
        program, *flags, durable=options.log is not None, kept_messages=options.log_messages
    )


def main() -> int:
    """Play runs, and return 1 if there was a violation."""
    options = _parser().parse_args()
    if options.mutants:
        detected = [mutants.is_detected(name, options.seed) for name in mutants.MUTANTS]
        return 0 if all(detected) else 1
    end = time.monotonic() + 60 * options.minutes
    figures: list[Figures] = []
    violations: Counter[str] = Counter()
    seed = options.seed
    with deployment(options) as running:
        while (left := end - time.monotonic()) > 0 or not figures:
            seconds = max(5.0, min(options.seconds, left))
            run = Run(running, seed, seconds, floods=options.floods)
            result = asyncio.run(run.play())
            figures.append(result.figures)
            print(f"seed {seed}: {_line(result.figures)}", flush=True)
            for each in result.violations:
                violations[each.rule.name] += 1
                print(f"  {each}", flush=True)
            seed += 1
    print(_summary(options.deployment, figures, violations))
    return 1 if violations else 0


def _line(figures: Figures) -> str:
    return (
        f"{figures.seconds:.0f} s, {figures.published} messages, {figures.received} receipts,"
        f" {sum(figures.faults.values())} faults, {figures.restarts} restarts,"
        f" {figures.resumes} resumes with {figures.replayed} messages,"
        f" {figures.longest_absent} disconnected for {figures.longest_absence:.1f} s"
    )


def _summary(name: str, figures: list[Figures], violations: Counter[str]) -> str:
    faults: Counter[str] = Counter()
    for each in figures:
        faults.update(each.faults)
    return "\n".join(
        [
            f"{name}: {len(figures)} runs, {sum(each.seconds for each in figures):.0f} s",
            (
                f"messages {sum(each.published for each in figures)},"
                f" receipts {sum(each.received for each in figures)},"
                f" connections {sum(each.connections for each in figures)}"
            ),
            "faults " + ", ".join(f"{kind.lower()} {n}" for kind, n in sorted(faults.items())),
            f"longest time disconnected {max(each.longest_absence for each in figures):.1f} s",
            "violations "
            + (", ".join(f"{kind.lower()} {n}" for kind, n in violations.items()) or "none"),
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run")
    parser.add_argument(
        "--seconds", type=float, default=40.0, help="duration of the faults in each run"
    )
    parser.add_argument(
        "--deployment", choices=("server", "zipapp", "daphne", "cluster"), default="server"
    )
    parser.add_argument("--zipapp", type=Path, default=TESTS.parent / "broadcast-server.pyz")
    parser.add_argument("--log", type=Path, help="passed to start: keep the log in a file")
    parser.add_argument("--log-messages", type=int, help="passed to start: keep this many messages")
    parser.add_argument(
        "--mutants", action="store_true", help="plant faults in the server, and detect each of them"
    )
    parser.add_argument("--floods", action="store_true", help="some clients publish 900 KB at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
