"""The command line: what to measure, and where the result goes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from . import document, plan, plot
from .catalogue import SERVERS
from .hosted import hosted_servers, services
from .install import install
from .load import LOADS_CORE, Load
from .result import Result, now, read, take
from .servers import BUILT, Server


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this server beside others: everyone gets what anyone says.",
    )
    parser.add_argument("--quick", action="store_true", help="a few measurements, one round")
    parser.add_argument("--hosted", action="store_true", help="the hosted house alone")
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only servers whose name has WORD in it"
    )
    parser.add_argument(
        "--install", action="store_true", help="fetch and build what the peers need, and end"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the result into docs/ and the README"
    )
    parser.add_argument(
        "--render", action="store_true", help="put the result that is in docs/ there again, and end"
    )
    return parser


def chosen(servers: list[Server], only: list[str] | None) -> list[Server]:
    """Return the servers that were asked for."""
    return [each for each in servers if not only or any(word in each.name for word in only)]


def measure(given: argparse.Namespace) -> Result:
    """Run everything that was asked for."""
    result = now()
    begin = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load = Load(scratch)
        if not given.hosted:
            servers = chosen(list(SERVERS), given.only)
            measurements = plan.QUICK if given.quick else plan.WHOLE
            take(result, servers, measurements, load, scratch, tell)
        if given.hosted or not given.quick:
            with services() as environment:
                servers = chosen(hosted_servers(environment), given.only)
                if servers:
                    take(result, servers, plan.HOSTED, load, scratch, tell)
    return result


def main() -> None:
    """Measure, print the tables, and write figures and plot."""
    given = parser().parse_args()
    if given.install:
        install()
        return
    folder = document.DOCS if given.write or given.render else BUILT
    if given.render:
        result = read(document.FIGURES)
    else:
        # The services and whatever else is not a server under test keep off its core.
        os.sched_setaffinity(0, {LOADS_CORE})
        result = measure(given)
        folder.mkdir(parents=True, exist_ok=True)
        result.write(folder / document.FIGURES.name)
    if folder == document.DOCS:
        document.write(result)
    reason = plot.draw(result, folder / document.PLOT.name)
    if reason:
        print(reason, file=sys.stderr)
    for text in document.blocks(result).values():
        print(text, end="\n\n")
