"""The besieged: houses that are fuzzed, and how they can be seen to be well."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("server", "installed", "zipapp", "daphne")

LOOK = 15.0
"""Seconds that a house may take to show its figures."""


@dataclass
class Besieged:
    """A house, and how it can be seen to be well."""

    url: str
    memory: Callable[[], int]
    left: Callable[[], Awaitable[object]]
    """Something that is the same as before when nothing is left of anyone."""
    complaints: Callable[[], list[str]]
    alive: Callable[[], bool] = lambda: True


class Complaints(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(logging.Formatter().format(record))


def resident(pid: int) -> int:
    """Return how much memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


@asynccontextmanager
async def in_here() -> AsyncIterator[Besieged]:
    """Run a server in this very loop."""
    from houses import serving

    from broadcast_server.arrival import Arrival
    from broadcast_server.connection import Socket
    from broadcast_server.exchange import Exchange
    from broadcast_server.server import Settings

    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    try:
        async with serving(Settings(port=0, log_messages=1000)) as server:

            async def left() -> object:
                gc.collect()
                kinds = (Arrival, Exchange, Socket)
                there = sum(type(each) in kinds for each in gc.get_objects())
                return there, len(server._open), len(server._seats), len(asyncio.all_tasks())

            me = os.getpid()
            yield Besieged(server.url, lambda: resident(me), left, lambda: complaints.lines)
    finally:
        logging.getLogger().removeHandler(complaints)


def build(path: Path) -> None:
    """Build the single file."""
    command = [sys.executable, str(ROOT / "build_zipapp.py"), "--output", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def errors_in(log: str, others: Counter[str] | None) -> list[str]:
    """List the errors of a log, but put those that are in no code of ours into *others*."""
    found = []
    plain, *traces = log.split("Traceback (most recent call last):\n")
    pieces = [plain]
    for trace in traces:
        # What is indented is of the trace, then comes the exception, then the log goes on.
        match = re.match(r"(?:[ \t].*\n)*(.*)\n?", trace)
        assert match is not None
        pieces.append(trace[match.end() :])
        if others is None or re.search("broadcast_server/|django_site/", match[0]):
            found.append(match[0])
        else:
            others[re.sub(r"\d+|'.*?'", "…", match[1])] += 1
    pattern = re.compile(r"ERROR|CRITICAL|Exception|Error\b|Warning|never retrieved|Unhandled")
    lines = [line for piece in pieces for line in piece.splitlines() if pattern.search(line)]
    for line in lines:
        if others is None:
            found.append(line)
        elif not line.endswith("ERROR    "):  # the trace follows
            others[re.sub(r"\d[\d:,. -]+|'.*?'", "…", line[:200])] += 1
    return found


@contextmanager
def process(
    *command: str, others: Counter[str] | None = None, **environment: str
) -> Iterator[Besieged]:
    """Run a house in a process of its own.

    *others* gets its errors that are in no code of ours; without it they are errors as well.
    """
    from programs import listening, running, until

    with running(*command, stdin=None, pass_fds=(), **environment) as program:
        pid = program.process.pid
        until(lambda: re.search("isten|running on", program.errors), "a house that listens")
        url = listening(program) if "daphne" in command else program.url

        def look() -> object:
            with urlopen(url.replace("ws:", "http:") + "metrics", timeout=LOOK) as answer:
                counted = re.findall(rb"^broadcast_clients (\d+)", answer.read(), re.MULTILINE)
            sockets = 0
            for each in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    sockets += str(each.readlink()).startswith("socket:")
                except FileNotFoundError:  # it was closed just now
                    pass
            return counted, sockets

        async def left() -> object:
            return await asyncio.to_thread(look)

        def complaints() -> list[str]:
            code = program.process.poll()
            said = program.errors
            ended = [] if code is None else [f"it ended with {code}", *said[-2000:].splitlines()]
            if others is not None:
                others.clear()
            return ended + errors_in(said, others)

        def alive() -> bool:
            return program.process.poll() is None

        yield Besieged(url, lambda: resident(pid), left, complaints, alive)


@asynccontextmanager
async def besieged(kind: str, folder: Path, others: Counter[str]) -> AsyncIterator[Besieged]:
    """Run a house of *kind*, with what it keeps in *folder*.

    *others* gets the errors of Daphne's that are in no code of ours.
    """
    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    start = ("start", "--port", "0", "--log-messages", "1000")
    strict = (sys.executable, "-W", "error")
    if kind == "server":
        async with in_here() as house:
            yield house
    elif kind == "installed":
        with process(*strict, "-m", "broadcast_server", *start) as house:
            yield house
    elif kind == "zipapp":
        path = folder / "broadcast-server.pyz"
        build(path)
        with process(*strict, str(path), *start) as house:
            yield house
    else:
        command = (sys.executable, "-m", "daphne", "-p", "0", "django_site.asgi:application")
        with process(*command, others=others, BROADCAST_DATA=str(folder)) as house:
            yield house
