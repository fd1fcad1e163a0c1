"""The command line of `python -m benchmarks`: what to measure, and where the result goes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from broadcast_server.server.file_limit import raise_file_limit

from . import document, growth, plan, plot, processes, start_up, stores
from .beside import hosted_before, standalone_before
from .catalogue import OURS, SERVERS
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
        "--measure", metavar="WORD", action="append", help="only measurements with WORD in the name"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="at most so many rounds")
    parser.add_argument(
        "--beside",
        metavar="TREE",
        type=lambda text: Path(text).resolve(),
        help="also measure the project in the folder TREE, such as the commit before",
    )
    parser.add_argument(
        "--add", action="store_true", help="keep what is stored of everything that is not measured"
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


def chosen(servers: Sequence[Server], only: list[str] | None) -> list[Server]:
    """Return the selected servers."""
    return [each for each in servers if not only or any(word in each.name for word in only)]


def measure(options: argparse.Namespace) -> Result:
    """Run all selected measurements."""
    result = now()
    begin = time.monotonic()
    BUILT.mkdir(parents=True, exist_ok=True)

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {text}", file=sys.stderr, flush=True)
        result.write(BUILT / "partial.json")

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        load = Load(scratch)

        def measured(servers: Sequence[Server], measurements: Sequence[plan.Measurement]) -> None:
            words, most = options.measure, options.rounds
            wanted = [
                each if most is None else each.within(most)
                for each in measurements
                if not words or any(word in each.name for word in words)
            ]
            take(result, chosen(servers, options.only), wanted, load, scratch, tell)

        if options.measure == [start_up.NAME]:
            start_up.measure(result, options.beside, tell)
            return result
        if not options.hosted:
            earlier = standalone_before(options.beside) if options.beside else []
            measured([*SERVERS, *earlier], plan.QUICK if options.quick else plan.WHOLE)
            if not options.quick:
                measured([each for each in SERVERS if each.name == OURS], growth.standalone())
                if not options.measure:
                    start_up.measure(result, options.beside, tell)
        if options.hosted or not options.quick:
            with ExitStack() as stack:
                environment = stack.enter_context(services())
                servers = hosted_servers(environment)
                if options.beside:
                    own = stack.enter_context(services(options.beside))
                    servers += hosted_before(options.beside, own)
                measured(servers, plan.HOSTED)
                measured([each for each in servers if each.name == growth.SITE], growth.HOSTED)
                measured(
                    [each for each in servers if each.name == stores.SITE], stores.MEASUREMENTS
                )
                sites = [each for each in servers if each.name in processes.SITES]
                measured(sites, [processes.two_processes()])
                measured(sites[-1:], [processes.end_to_end()])
                measured([processes.PUB_SUB], [processes.pub_sub()])
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
        raise_file_limit()
        result = measure(options)
        if options.add:
            result = read(document.FIGURES).updated(result)
        folder.mkdir(parents=True, exist_ok=True)
        result.write(folder / document.FIGURES.name)
    if folder == document.DOCS:
        document.write(result)
    reason = plot.draw(result, folder / document.PLOT.name)
    reason = reason or plot.draw_growth(result, folder / document.GROWTH_PLOT.name)
    if reason:
        print(reason, file=sys.stderr)
    for text in document.blocks(result).values():
        print(text, end="\n\n")
