"""The start of a command: how much CPU time it takes until it listens, or has done its work.

Beside it stands what no such program can do without: Python with asyncio and `websockets.server`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from . import plan
from .beside import before
from .catalogue import INSTALLED, OURS
from .load import SERVERS_CORE, Figures, pinned
from .result import Result
from .servers import ROOT

NAME = "start-up"
"""What `--measure` calls it: nothing else is then started."""

ROUNDS = 11
"""Rounds in which each program runs once, after one that fills the cache."""

BARE = [sys.executable, "-c", "import asyncio, websockets.server"]

NO_CACHE = os.devnull
"""A folder for caches that cannot be used."""


class Program(NamedTuple):
    """A command to measure, and under which names."""

    server: str
    measurement: str
    command: list[str]
    cache: str = NO_CACHE
    folder: Path = ROOT

    def run(self) -> Figures:
        """Run it. "seconds" are those of the CPU, user and system; "wall" those of a clock."""
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment = {**kept, "XDG_CACHE_HOME": self.cache}
        begin = time.perf_counter()
        process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        with process.stderr as errors:
            line = errors.readline().decode()  # empty at the end of the process
            wall = time.perf_counter() - begin
            if line.startswith("listening"):
                seconds = _cpu_s(process.pid)
                process.terminate()  # which it does once it has filled its cache
                process.wait()
                return {"seconds": seconds, "wall": wall}
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        if line or process.returncode:
            return {"failed": line.strip() or f"exit code {process.returncode}"}
        return {"seconds": used.ru_utime + used.ru_stime, "wall": wall}


def _cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process so far, in seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text("ascii").split()[0]) for each in tasks) / 1e9


def programs(cache: str, url: str, tree: Path | None) -> list[Program]:
    """Return what is measured, with the commands of *tree* beside ours.

    *cache* is a folder for caches, and *url* the address of a server.
    """
    found = [Program(plan.IMPORTS, plan.START_UNCACHED, BARE)]
    trees = [(ROOT, OURS, INSTALLED)]
    if tree is not None:
        trees.append((tree, before(OURS), before(INSTALLED)))
    start = ["start", "--port", "0"]
    package = [sys.executable, "-m", "broadcast_server"]
    for folder, ours, installed in trees:
        archive = [sys.executable, str(folder / OURS)]
        found += [
            Program(ours, plan.START_CACHED, [*archive, *start], cache),
            Program(ours, plan.START_UNCACHED, [*archive, *start]),
            Program(ours, plan.SEND, [*archive, "send", "hi", url], cache),
            Program(ours, plan.RUN, [*archive, "run", url, "--", "true"], cache),
            Program(installed, plan.START_UNCACHED, [*package, *start], folder=folder),
        ]
    return found


def measure(
    result: Result, tree: Path | None, tell: Callable[[str], None], rounds: int = ROUNDS
) -> None:
    """Take all measurements in rounds, and add them to *result*."""
    if not (ROOT / OURS).exists():
        tell(f"start-up: no {OURS}: python3 build_zipapp.py")
        return
    with tempfile.TemporaryDirectory() as cache, _serving() as url:
        chosen = programs(cache, url, tree)
        for number in range(rounds + 1):
            for program in chosen:
                if number == 0 and program.cache == NO_CACHE:
                    continue
                figures = program.run()
                if number:
                    names = {"server": program.server, "measurement": program.measurement}
                    result.figures.append({**names, **figures})
            tell(f"round {number}, start-up: {len(chosen)} programs")


@contextmanager
def _serving() -> Iterator[str]:
    """Run a server for `send` and `run` on the other core, and yield its address."""
    command = [sys.executable, str(ROOT / OURS), "start", "--port", "0", "--rate", "0"]
    with subprocess.Popen(pinned(command, SERVERS_CORE), stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        try:
            yield server.stderr.readline().split()[-1].decode()
        finally:
            server.kill()
