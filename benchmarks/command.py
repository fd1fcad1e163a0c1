"""The command line of `python -m benchmarks`: what to measure, and where the result goes."""

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
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare this server to others: every message goes to every client.",
    )
    parser.add_argument("--quick", action="store_true", help="a few measurements, one round")
    parser.add_argument("--hosted", action="store_true", help="only the Django deployment")
    parser.add_argument(
        "--only", metavar="WORD", action="append", help="only servers whose name has WORD in it"
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="fetch and build what the other servers need, and exit",
    )
    parser.add_argument(
        "--write", action="store_true", help="write the result into docs/ and the README"
    )
    parser.add_argument(
        "--render",
        action="store_true",
        help="write the stored result into the pages again, and exit",
    )
    return parser


def chosen(servers: list[Server], only: list[str] | None) -> list[Server]:
    """Return the selected servers."""
    return [each for each in servers if not only or any(word in each.name for word in only)]


def measure(options: argparse.Namespace) -> Result:
    """Run all selected measurements."""
    result = now()
    begin = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load = Load(scratch)
        if not options.hosted:
            servers = chosen(list(SERVERS), options.only)
            measurements = plan.QUICK if options.quick else plan.WHOLE
            take(result, servers, measurements, load, scratch, tell)
        if options.hosted or not options.quick:
            with services() as environment:
                servers = chosen(hosted_servers(environment), options.only)
                if servers:
                    take(result, servers, plan.HOSTED, load, scratch, tell)
    return result


def main() -> None:
    """Measure, print the tables, and write the figures and the plot."""
    options = parser().parse_args()
    if options.install:
        install()
        return
    folder = document.DOCS if options.write or options.render else BUILT
    if options.render:
        result = read(document.FIGURES)
    else:
        # Only the server under test runs on its core: all other processes inherit this one.
        os.sched_setaffinity(0, {LOADS_CORE})
        result = measure(options)
        folder.mkdir(parents=True, exist_ok=True)
        result.write(folder / document.FIGURES.name)
    if folder == document.DOCS:
        document.write(result)
    reason = plot.draw(result, folder / document.PLOT.name)
    if reason:
        print(reason, file=sys.stderr)
    for text in document.blocks(result).values():
        print(text, end="\n\n")
