"""The load generator, which is written in C and compiled on demand, and its reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

Figures = dict[str, Any]
"""What the generator reports about one run; load/load.c describes each value."""

RUN_TIMEOUT_S = 300.0
"""Seconds after which a run is aborted."""


class Failed(Exception):
    """A run without a result. The text says why."""


def _cores() -> tuple[int, int]:
    if sys.platform != "linux":  # only --help works there
        return 0, 0
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]


SERVERS_CORE, LOADS_CORE = _cores()
"""The first and the last core that this process may use; the same if there is only one."""


def pinned(command: list[str], core: int) -> list[str]:
    """Return *command*, pinned to *core*."""
    return ["taskset", "--cpu-list", str(core), *command]


def compiler() -> str | None:
    """Return the path of the system's C compiler, None if there is none."""
    return shutil.which("cc")


def compile_c(source: Path, to: Path) -> Path:
    """Compile *source* into the folder *to*, and return the program's path."""
    program = to / source.stem
    options = ["-O2", "-std=gnu11", "-D_GNU_SOURCE"]
    subprocess.run(["cc", *options, "-o", str(program), str(source)], check=True)
    return program


class Load:
    """The load generator, compiled into the folder *to*."""

    def __init__(self, to: Path) -> None:
        self._program = compile_c(HERE / "load" / "load.c", to)

    def command(self, **options: object) -> list[str]:
        """Return the command of a run with these options."""
        words = [str(self._program)]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        return pinned(words, LOADS_CORE)

    def run(self, **options: object) -> Figures:
        """Run the generator to its end, and return its report. Raises Failed."""
        try:
            done = subprocess.run(
                self.command(**options),
                check=False,
                capture_output=True,
                text=True,
                timeout=RUN_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the load did not end within {RUN_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            raise Failed(done.stderr.strip() or f"the load ended with {done.returncode}")
        figures: Figures = json.loads(done.stdout)
        if done.stderr:
            figures["note"] = done.stderr.strip()
        return figures

    @contextmanager
    def idle(self, **options: object) -> Iterator[None]:
        """Keep idle connections open. Raises Failed."""
        command = self.command(mode="idle", **options)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                if not process.stdout.readline():
                    raise Failed("the connections could not be opened")
                yield
                process.stdin.close()
                cut = json.loads(process.stdout.readline())["gone"]
                if cut:
                    raise Failed(f"{cut} idle clients cut")
            finally:
                process.stdin.close()


def faults(figures: Figures) -> list[str]:
    """Return the errors of a server that a run has shown, however fast it was."""
    errors = []
    if figures.get("faults"):
        errors.append(f"{figures['faults']} messages twice, out of order or after a gap")
    if figures.get("gone"):
        errors.append(f"{figures['gone']} clients cut")
    if "in" in figures and figures["missing"]:  # the others may be cut off by their time
        errors.append(f"{figures['missing']} deliveries missing")
    if figures.get("drained") and not figures["one_order"]:
        errors.append("different orders for different clients")
    return errors
