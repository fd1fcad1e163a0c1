"""The targets of the fuzzer: deployments, and how to check that they are unharmed."""

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
DEPLOYMENTS = ("server", "installed", "zipapp", "daphne")

METRICS_TIMEOUT_S = 15.0
"""Seconds that a deployment may take to return its metrics."""


@dataclass
class FuzzTarget:
    """A running deployment, and functions that check its state."""

    url: str
    memory: Callable[[], int]
    leftovers: Callable[[], Awaitable[object]]
    """Returns a value that is the same before and after a run if nothing is left of the clients."""
    errors: Callable[[], list[str]]
    alive: Callable[[], bool] = lambda: True


class ErrorLog(logging.Handler):
    """Collects the records of level ERROR and above."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as text."""
        self.lines.append(logging.Formatter().format(record))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


@asynccontextmanager
async def in_process() -> AsyncIterator[FuzzTarget]:
    """Run the standalone server in this event loop."""
    from deployments import serving

    from broadcast_server.admission.admission import AdmissionLimits
    from broadcast_server.server.first_request import FirstRequest
    from broadcast_server.server.http_connection import HTTPConnection
    from broadcast_server.server.settings import Settings
    from broadcast_server.server.websocket import WebSocketConnection

    complaints = ErrorLog()
    logging.getLogger().addHandler(complaints)
    try:
        settings = Settings(port=0, log_messages=1000, limits=AdmissionLimits(rate=0))
        async with serving(settings) as server:

            async def left() -> object:
                gc.collect()
                kinds = (FirstRequest, HTTPConnection, WebSocketConnection)
                connections = sum(type(each) in kinds for each in gc.get_objects())
                return (
                    connections,
                    len(server._connections),
                    len(server._participants),
                    len(asyncio.all_tasks()),
                )

            pid = os.getpid()
            yield FuzzTarget(
                server.url, lambda: resident_bytes(pid), left, lambda: complaints.lines
            )
    finally:
        logging.getLogger().removeHandler(complaints)


def build(path: Path) -> None:
    """Build the single file."""
    command = [sys.executable, str(ROOT / "build_zipapp.py"), "--output", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def errors_in(log: str, foreign: Counter[str] | None) -> list[str]:
    """Return the errors in a log. With *foreign*, errors outside our code are counted there."""
    errors = []
    plain, *traces = log.split("Traceback (most recent call last):\n")
    pieces = [plain]
    for trace in traces:
        # The indented lines are the traceback, then comes the exception, then the log continues.
        match = re.match(r"(?:[ \t].*\n)*(.*)\n?", trace)
        assert match is not None
        pieces.append(trace[match.end() :])
        if foreign is None or re.search("broadcast_server/|django_site/", match[0]):
            errors.append(match[0])
        else:
            foreign[re.sub(r"\d+|'.*?'", "…", match[1])] += 1
    pattern = re.compile(r"ERROR|CRITICAL|Exception|Error\b|Warning|never retrieved|Unhandled")
    lines = [line for piece in pieces for line in piece.splitlines() if pattern.search(line)]
    for line in lines:
        if foreign is None:
            errors.append(line)
        elif not line.endswith("ERROR    "):  # the traceback follows
            foreign[re.sub(r"\d[\d:,. -]+|'.*?'", "…", line[:200])] += 1
    return errors


@contextmanager
def in_own_process(
    *command: str, foreign: Counter[str] | None = None, **environment: str
) -> Iterator[FuzzTarget]:
    """Run a deployment in its own process.

    Errors outside our code are counted in *foreign*; without it, they are errors like any other.
    """
    from programs import listening, running, until

    with running(*command, stdin=None, pass_fds=(), **environment) as program:
        pid = program.process.pid
        until(lambda: re.search("isten|running on", program.errors), "a deployment that listens")
        url = listening(program) if "daphne" in command else program.url

        def resources() -> object:
            with urlopen(
                url.replace("ws:", "http:") + "metrics", timeout=METRICS_TIMEOUT_S
            ) as response:
                counted = re.findall(rb"^broadcast_clients (\d+)", response.read(), re.MULTILINE)
            sockets = 0
            for each in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    sockets += str(each.readlink()).startswith("socket:")
                except FileNotFoundError:  # the descriptor was closed in the meantime
                    pass
            return counted, sockets

        async def left() -> object:
            return await asyncio.to_thread(resources)

        def complaints() -> list[str]:
            code = program.process.poll()
            log = program.errors
            ended = [] if code is None else [f"it ended with {code}", *log[-2000:].splitlines()]
            if foreign is not None:
                foreign.clear()
            return ended + errors_in(log, foreign)

        def alive() -> bool:
            return program.process.poll() is None

        yield FuzzTarget(url, lambda: resident_bytes(pid), left, complaints, alive)


@asynccontextmanager
async def run_target(kind: str, folder: Path, foreign: Counter[str]) -> AsyncIterator[FuzzTarget]:
    """Run a deployment of *kind*, which stores its data in *folder*.

    Errors that Daphne logs and that are outside our code are counted in *foreign*.
    """
    if str(ROOT / "tests") not in sys.path:
        sys.path.append(str(ROOT / "tests"))
    # Without a rate, so that a case reaches the rooms at once and not bit by bit.
    start = ("start", "--port", "0", "--rate", "0", "--log-messages", "1000")
    strict = (sys.executable, "-W", "error")
    if kind == "server":
        async with in_process() as deployment:
            yield deployment
    elif kind == "installed":
        with in_own_process(*strict, "-m", "broadcast_server", *start) as deployment:
            yield deployment
    elif kind == "zipapp":
        path = folder / "broadcast-server.pyz"
        build(path)
        with in_own_process(*strict, str(path), *start) as deployment:
            yield deployment
    else:
        command = (sys.executable, "-m", "daphne", "-p", "0", "django_site.asgi:application")
        variables = {"BROADCAST_DATA": str(folder), "BROADCAST_RATE": "0"}
        with in_own_process(*command, foreign=foreign, **variables) as deployment:
            yield deployment
