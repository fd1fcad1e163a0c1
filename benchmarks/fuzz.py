"""The fuzzer: sends many cases to a deployment, and checks its responses and its state.

`python -m benchmarks.fuzz --minutes 10 --deployment server`. Besides the connections that send
cases, there is a well-behaved client, which no case may delay. At the end, nothing may be left: no
connection, task, file descriptor or memory, and no error in the log. A case depends on the seed
and its number only; `--case` sends one again and shows the response.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from broadcast_server.console.time_limit import run_within
from broadcast_server.protocol.messages import SUBPROTOCOL

from . import inputs
from .answers import classify
from .cases import Case, case
from .fuzz_target import DEPLOYMENTS, run_target

CONCURRENT_CASES = 16
"""How many cases are sent at the same time."""

QUIET_S = 0.05
"""Seconds without further data after which a client that waits for a response stops waiting."""

QUIET_CHECKS = 4
"""How often a waiting client checks whether it was quiet, before it stops waiting.

A room in which others publish need not become quiet: the well-behaved client publishes in the
lobby about once every `QUIET_S` seconds.
"""

CLOSE_TIMEOUT_S, DJANGO_CLOSE_TIMEOUT_S = 15.0, 75.0
"""Seconds within which the server must end a connection whose client sends no more."""

MAX_EARLY_BYTES = 2**14
"""Bytes before the response to a handshake from which on Daphne reads nothing more.

It does not notice the end of such a connection either, until a ping times out after 50 s. Waiting
for that would leave no time for other cases.
"""

ECHO_TIMEOUT_S, DJANGO_ECHO_TIMEOUT_S = 5.0, 15.0
"""Seconds within which the well-behaved client must get its echo, on a busy machine."""

CLEANUP_TIMEOUT_S = 60.0
"""Seconds within which a deployment must release everything after the clients are gone."""

MAX_GROWTH_BYTES = 32 * 2**20
"""Bytes by which the memory of a deployment may grow after it has warmed up."""


@dataclass
class Report:
    """The result of a fuzz run."""

    cases: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    foreign_errors: dict[str, int] = field(default_factory=dict)
    """Errors in the log that are outside our code, with their counts."""
    echoes: int = 0
    longest_echo_s: float = 0.0
    """The longest time in seconds that the well-behaved client waited for an echo."""


class Stuck(Exception):
    """The server did not end a connection in time."""


# -- the sender ---------------------------------------------------------------


class Sender:
    """Sends cases to the deployment at *url*, and checks its responses."""

    def __init__(self, url: str, seed: str, *, hosted: bool = False) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._url = url
        self._seed = seed
        self._django = hosted  # Daphne drops data that arrives before the response to a handshake
        self._close_timeout = DJANGO_CLOSE_TIMEOUT_S if hosted else CLOSE_TIMEOUT_S
        self.report = Report()

    def case(self, number: int) -> Case:
        """Return the case of a number."""
        return case(Random(f"{self._seed}/{number}"))

    async def run(self, going: Callable[[], bool]) -> None:
        """Send cases while *going* returns true, with the well-behaved client beside them."""
        stopped = asyncio.Event()
        checking = asyncio.ensure_future(self._publish_and_check(stopped))
        try:
            await asyncio.gather(*(self._send_cases(going) for _ in range(CONCURRENT_CASES)))
        finally:
            stopped.set()
            await checking

    async def _send_cases(self, going: Callable[[], bool]) -> None:
        while going():
            self.report.cases += 1
            number = self.report.cases
            sent_case = self.case(number)
            try:
                outcome = classify(*await self.send(sent_case), hosted=self._django)
            except (ValueError, OSError, Stuck, asyncio.TimeoutError) as fault:
                text = f"seed {self._seed}, case {number} ({sent_case.kind}): {fault}"
                self.report.faults.append(text)
                outcome = "a fault"
            if sent_case.end != "cut":
                kind = "garbled" if sent_case.kind.endswith(", garbled") else sent_case.kind
                self.report.outcomes.setdefault(kind, Counter())[outcome] += 1

    async def send(self, sent_case: Case) -> tuple[bytes, bool]:
        """Send a case; return the response, and whether the server ended the connection.

        Raises `Stuck` if it did not end the connection in time, or did not read the case.
        """
        opening = asyncio.open_connection(self._host, self._port)
        reader, writer = await run_within(opening, self._close_timeout)
        got = bytearray()
        reading = asyncio.ensure_future(_read(reader, got))
        try:
            await run_within(self._send(sent_case, writer, got, reading), 2 * self._close_timeout)
            ended = reading.done()
        except asyncio.TimeoutError:
            raise Stuck(
                f"the connection did not end or not all was read; received {got[-80:]!r}"
            ) from None
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            writer.transport.abort()
        return bytes(got), ended

    async def _send(
        self,
        sent_case: Case,
        writer: asyncio.StreamWriter,
        got: bytearray,
        reading: asyncio.Future[None],
    ) -> None:
        try:
            for number, chunk in enumerate(sent_case.chunks):
                if self._django and number == sent_case.handshake_chunks > 0:
                    while b"\r\n\r\n" not in got and not reading.done():
                        await asyncio.wait({reading}, timeout=0.01)
                writer.write(chunk)
                await run_within(writer.drain(), self._close_timeout)
                await asyncio.sleep(0)  # so that a server in this loop reads this chunk alone
            early = (
                sum(map(len, sent_case.chunks[sent_case.handshake_chunks :])) if self._django else 0
            )
            if sent_case.end == "eof" and not (
                sent_case.handshake_chunks == 0 and early > MAX_EARLY_BYTES
            ):
                writer.write_eof()
                await run_within(asyncio.shield(reading), self._close_timeout)
            elif sent_case.end != "cut":
                for _ in range(QUIET_CHECKS):
                    size = len(got)
                    await asyncio.wait({reading}, timeout=QUIET_S)
                    if reading.done() or size == len(got):
                        break
        except asyncio.TimeoutError:  # a subclass of OSError since Python 3.11
            raise
        except (OSError, RuntimeError):  # the connection was cut before all was sent
            await asyncio.wait({reading}, timeout=self._close_timeout)

    async def _publish_and_check(self, stopped: asyncio.Event) -> None:
        """Publish repeatedly, and check that all messages are received in order."""
        clock = asyncio.get_running_loop().time
        address = self._url + "?name=good"
        try:
            # It reads everything at once, so that a delay is caused by the server.
            async with connect(
                address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                max_queue=None,
            ) as socket:
                last = None
                while not stopped.is_set():
                    self.report.echoes += 1
                    id = str(self.report.echoes)
                    begin = clock()
                    await socket.send(json.dumps({"type": "say", "text": "hello", "id": id}))
                    echoed = False
                    while not echoed:
                        frame = await run_within(socket.recv(), 60)
                        for line in str(frame).split("\n"):
                            event = json.loads(line)
                            if event["type"] == "message":
                                if last is not None and event["seq"] != last + 1:
                                    gap = f"{event['seq']} came after {last}"
                                    self.report.faults.append(gap)
                                last = event["seq"]
                                echoed |= (event["name"], event.get("id")) == ("good", id)
                    self.report.longest_echo_s = max(self.report.longest_echo_s, clock() - begin)
                    await asyncio.wait({asyncio.ensure_future(stopped.wait())}, timeout=QUIET_S)
        except (OSError, ConnectionClosed, asyncio.TimeoutError) as fault:
            self.report.faults.append(f"the well-behaved client: {fault!r}")
        if self.report.longest_echo_s > (DJANGO_ECHO_TIMEOUT_S if self._django else ECHO_TIMEOUT_S):
            text = f"the well-behaved client waited {self.report.longest_echo_s:.1f} s for an echo"
            self.report.faults.append(text)


async def _read(reader: asyncio.StreamReader, to: bytearray) -> None:
    try:
        while data := await reader.read(2**16):
            to += data
    except ConnectionError:
        pass


# -- a run ----------------------------------------------------------------------


async def fuzz(
    kind: str, seed: str, folder: Path, *, cases: float = math.inf, seconds: float = math.inf
) -> tuple[Report, str]:
    """Fuzz a deployment; return the report, and a description of its memory.

    The run ends after *cases* cases or *seconds* seconds, whichever comes first. Before it, the
    deployment is warmed up with a quarter of the cases, or for a quarter of the seconds.
    """
    foreign: Counter[str] = Counter()
    async with run_target(kind, folder, foreign) as deployment:
        hosted = kind == "daphne"
        warm = Sender(deployment.url, seed + " warm", hosted=hosted)
        begin = time.monotonic()
        before = await deployment.leftovers()
        await warm.run(
            lambda: warm.report.cases < cases / 4 and time.monotonic() < begin + seconds / 4
        )
        sender = Sender(deployment.url, seed, hosted=hosted)
        sizes = [deployment.memory()]

        def going() -> bool:
            if sender.report.cases % 100 == 0:
                sizes.append(deployment.memory())
            more = sender.report.cases < cases and time.monotonic() < begin + seconds
            return more and deployment.alive()

        await sender.run(going)
        report = sender.report
        report.faults += warm.report.faults
        end = time.monotonic() + CLEANUP_TIMEOUT_S
        while (now := await deployment.leftovers()) != before:
            if time.monotonic() > end:
                report.faults.append(f"left over: {now}, before it was {before}")
                break
            await asyncio.sleep(0.1)
        report.faults += deployment.errors()
        sizes.append(deployment.memory())
        if sizes[-1] > sizes[0] + MAX_GROWTH_BYTES:
            report.faults.append(f"memory grew from {sizes[0]:,} to {sizes[-1]:,} bytes")
    report.foreign_errors = dict(foreign)
    mib = [round(size / 2**20) for size in (sizes[0], max(sizes), sizes[-1])]
    return report, f"memory {mib[0]} MiB when warm, {mib[1]} at most, {mib[2]} at the end"


# -- the command --------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Send a deployment broken and hostile input, and check that it is unharmed.",
    )
    parser.add_argument("--deployment", choices=DEPLOYMENTS, default="server")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--save", action="store_true", help="store the outcomes for docs/inputs.md")
    parser.add_argument(
        "--case", type=int, help="send only the case of this number, and show the response"
    )
    return parser


async def replay(kind: str, seed: str, number: int, folder: Path) -> None:
    """Send one case, and show the response."""
    async with run_target(kind, folder, Counter()) as deployment:
        sender = Sender(deployment.url, seed, hosted=kind == "daphne")
        sent_case = sender.case(number)
        print(f"{sent_case.kind}, then {sent_case.end}")
        for chunk in sent_case.chunks:
            print("->", repr(chunk[:300]), len(chunk))
        got, ended = await sender.send(sent_case)
        print("<-", repr(got[:1000]), len(got), "ended" if ended else "open")
        print(*deployment.errors(), sep="\n")


def main() -> int:
    """Run the command line, and return 1 if there was a fault."""
    options = make_parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.case is not None:
            asyncio.run(replay(options.deployment, options.seed, options.case, Path(folder)))
            return 0
        run = fuzz(options.deployment, options.seed, Path(folder), seconds=options.minutes * 60)
        report, memory = asyncio.run(run)
    if options.save:
        inputs.save(options.deployment, report.cases, options.minutes, report.outcomes)
    run_name = f"{options.deployment}, seed {options.seed}"
    print(f"{run_name}: {report.cases} cases in {options.minutes:g} minutes")
    print(f"{report.echoes} echoes, the longest wait {report.longest_echo_s:.3f} s; {memory}")
    for kind, outcomes in sorted(report.outcomes.items()):
        print(
            f"| {kind} |",
            ", ".join(f"{outcome} ({count})" for outcome, count in outcomes.most_common()),
            "|",
        )
    for error, count in report.foreign_errors.items():
        print(f"outside our code, {count} times: {error}")
    print(f"{len(report.faults)} faults")
    print(*report.faults[:50], sep="\n")
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
