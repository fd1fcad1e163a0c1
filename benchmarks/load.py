"""The load: the generator in C, compiled on the spot, and what it reports."""

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
"""What the generator reports of one run; load/load.c says what each is."""

PATIENCE = 120.0
"""Seconds after which a run is given up."""


class Failed(Exception):
    """A run that came to no result. The text says why."""


def _cores() -> tuple[int, int]:
    if sys.platform != "linux":  # nothing of this runs there, but its help can be read
        return 0, 0
    mine = sorted(os.sched_getaffinity(0))
    return mine[0], mine[-1]


SERVERS_CORE, LOADS_CORE = _cores()
"""Of those that this process was given; one and the same if there is one."""


def pinned(command: list[str], core: int) -> list[str]:
    """Return *command* as one that stays on *core*."""
    return ["taskset", "--cpu-list", str(core), *command]


def compiler() -> str | None:
    """Find the system's C compiler."""
    return shutil.which("cc")


def compile_c(source: Path, to: Path) -> Path:
    """Compile *source* into the folder *to*."""
    program = to / source.stem
    options = ["-O2", "-std=gnu11", "-D_GNU_SOURCE"]
    subprocess.run(["cc", *options, "-o", str(program), str(source)], check=True)
    return program


class Load:
    """The compiled generator, in the folder *to*."""

    def __init__(self, to: Path) -> None:
        self._program = compile_c(HERE / "load" / "load.c", to)

    def command(self, **options: object) -> list[str]:
        """Return the command of a run."""
        words = [str(self._program)]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        return pinned(words, LOADS_CORE)

    def run(self, **options: object) -> Figures:
        """Run it to its end. Raises Failed."""
        try:
            done = subprocess.run(
                self.command(**options),
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the load came to no end in {PATIENCE:.0f} s") from None
        if done.returncode:
            raise Failed(done.stderr.strip() or f"the load ended with {done.returncode}")
        figures: Figures = json.loads(done.stdout)
        if done.stderr:
            figures["note"] = done.stderr.strip()
        return figures

    @contextmanager
    def idle(self, **options: object) -> Iterator[None]:
        """Keep connections open that say nothing. Raises Failed."""
        command = self.command(mode="idle", **options)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                if not process.stdout.readline():
                    raise Failed("the connections did not come about")
                yield
            finally:
                process.stdin.close()


def faults(figures: Figures) -> list[str]:
    """List what a run shows to be wrong with a server, however fast it was."""
    found = []
    if figures.get("faults"):
        found.append(f"{figures['faults']} messages twice, out of order or after a gap")
    if figures.get("gone"):
        found.append(f"{figures['gone']} clients cut")
    if figures.get("drained") and not figures["one_order"]:
        found.append("not one order for all")
    return found
