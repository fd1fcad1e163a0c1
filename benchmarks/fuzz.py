"""The fuzz: one case after another against a house, and what it has to say to that.

`python -m benchmarks.fuzz --minutes 10 --house server`. Beside those who send the cases there
is a client that behaves, and that no case may hold up. At the end nothing may be left: no
connection, no task, no file, no memory, and nothing in the log that is an error. A case is
made from the seed and its number alone; `--case` sends one again and shows what it got.
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

from broadcast_server.protocol import SUBPROTOCOL

from . import inputs
from .answers import understood
from .besieged import HOUSES, besieged
from .cases import Case, case

AT_ONCE = 16
"""So many cases are under way."""

QUIET = 0.05
"""Seconds without an answer after which a client that waits for one stops waiting."""

QUIET_CHECKS = 4
"""A client that waits checks this often whether it was quiet, then stops waiting.

A room in which others speak need not become quiet: the client that behaves speaks in the
lobby about once every `QUIET` seconds.
"""

END, END_HOSTED = 15.0, 75.0
"""Seconds after which a connection whose client sends no more has to have ended."""

EARLY = 2**14
"""Daphne reads no more of who sends so much before its handshake is answered, not even its end.

It is found by the pings, after 50 s; to wait for that would leave no time for other cases.
"""

BOUND, BOUND_HOSTED = 5.0, 15.0
"""Seconds within which the client that behaves has its echo, on a machine that is busy."""

LEFT = 60.0
"""Seconds within which a house is as empty as before, when all are gone."""

KEPT = 32 * 2**20
"""Bytes of memory that a house may hold more of than when it had warmed up."""


@dataclass
class Found:
    """What came of it."""

    cases: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    """Errors in the log that are in no code of ours."""
    echoes: int = 0
    longest: float = 0.0
    """Seconds that the client that behaves waited for an echo."""


class Stuck(Exception):
    """A connection that does not end."""


# -- who sends ----------------------------------------------------------------


class Sender:
    """Sends cases to a house at *url*, and finds faults in its answers."""

    def __init__(self, url: str, seed: str, *, hosted: bool = False) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._url = url
        self._seed = seed
        self._patient = hosted  # Daphne drops what comes before the answer to a handshake
        self._end = END_HOSTED if hosted else END
        self.found = Found()

    def case(self, number: int) -> Case:
        """Make a case again."""
        return case(Random(f"{self._seed}/{number}"))

    async def run(self, going: Callable[[], bool]) -> None:
        """Send cases as long as *going* says so, and behave beside that."""
        over = asyncio.Event()
        behaving = asyncio.ensure_future(self._behave(over))
        try:
            await asyncio.gather(*(self._work(going) for _ in range(AT_ONCE)))
        finally:
            over.set()
            await behaving

    async def _work(self, going: Callable[[], bool]) -> None:
        while going():
            self.found.cases += 1
            number = self.found.cases
            one = self.case(number)
            try:
                outcome = understood(*await self.send(one), hosted=self._patient)
            except (ValueError, OSError, Stuck, asyncio.TimeoutError) as fault:
                said = f"seed {self._seed}, case {number} ({one.kind}): {fault}"
                self.found.faults.append(said)
                outcome = "a fault"
            if one.end != "cut":
                kind = "garbled" if one.kind.endswith(", garbled") else one.kind
                self.found.outcomes.setdefault(kind, Counter())[outcome] += 1

    async def send(self, one: Case) -> tuple[bytes, bool]:
        """Send *one*, and return what came back and whether the connection has ended.

        Raises `Stuck`.
        """
        opening = asyncio.open_connection(self._host, self._port)
        reader, writer = await asyncio.wait_for(opening, self._end)
        got = bytearray()
        reading = asyncio.ensure_future(_read(reader, got))
        try:
            await asyncio.wait_for(self._send(one, writer, got, reading), 2 * self._end)
            ended = reading.done()
        except asyncio.TimeoutError:
            raise Stuck(f"it did not end, or did not take all; it sent {got[-80:]!r}") from None
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            writer.transport.abort()
        return bytes(got), ended

    async def _send(
        self, one: Case, writer: asyncio.StreamWriter, got: bytearray, reading: asyncio.Future[None]
    ) -> None:
        try:
            for number, chunk in enumerate(one.chunks):
                if self._patient and number == one.head > 0:
                    while b"\r\n\r\n" not in got and not reading.done():
                        await asyncio.wait({reading}, timeout=0.01)
                writer.write(chunk)
                await asyncio.wait_for(writer.drain(), self._end)
                await asyncio.sleep(0)  # for a server in this loop to read it alone
            early = sum(map(len, one.chunks[one.head :])) if self._patient else 0
            if one.end == "eof" and not (one.head == 0 and early > EARLY):
                writer.write_eof()
                await asyncio.wait_for(asyncio.shield(reading), self._end)
            elif one.end != "cut":
                for _ in range(QUIET_CHECKS):
                    size = len(got)
                    await asyncio.wait({reading}, timeout=QUIET)
                    if reading.done() or size == len(got):
                        break
        except asyncio.TimeoutError:  # which is an OSError since Python 3.11
            raise
        except (OSError, RuntimeError):  # it was cut before all was sent
            await asyncio.wait({reading}, timeout=self._end)

    async def _behave(self, over: asyncio.Event) -> None:
        """Say something again and again, and see to it that it comes back, in order."""
        clock = asyncio.get_running_loop().time
        address = self._url + "?name=good"
        try:
            # It takes all there is at any time: what it waits for is the server.
            async with connect(
                address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                max_queue=None,
            ) as socket:
                last = None
                while not over.is_set():
                    self.found.echoes += 1
                    id = str(self.found.echoes)
                    begin = clock()
                    await socket.send(json.dumps({"type": "say", "text": "hello", "id": id}))
                    back = False
                    while not back:
                        frame = await asyncio.wait_for(socket.recv(), 60)
                        for line in str(frame).split("\n"):
                            event = json.loads(line)
                            if event["type"] == "message":
                                if last is not None and event["seq"] != last + 1:
                                    gap = f"{event['seq']} came after {last}"
                                    self.found.faults.append(gap)
                                last = event["seq"]
                                back |= (event["name"], event.get("id")) == ("good", id)
                    self.found.longest = max(self.found.longest, clock() - begin)
                    await asyncio.wait({asyncio.ensure_future(over.wait())}, timeout=QUIET)
        except (OSError, ConnectionClosed, asyncio.TimeoutError) as fault:
            self.found.faults.append(f"the client that behaves: {fault!r}")
        if self.found.longest > (BOUND_HOSTED if self._patient else BOUND):
            text = f"the client that behaves waited {self.found.longest:.1f} s for an echo"
            self.found.faults.append(text)


async def _read(reader: asyncio.StreamReader, to: bytearray) -> None:
    try:
        while data := await reader.read(2**16):
            to += data
    except ConnectionError:
        pass


# -- a siege --------------------------------------------------------------------


async def besiege(
    kind: str, seed: str, folder: Path, *, cases: float = math.inf, seconds: float = math.inf
) -> tuple[Found, str]:
    """Send cases to a house, and see whether it is as it was; and its memory.

    It ends after *cases* cases or *seconds* seconds, whichever comes first. Before, the house
    is warmed up by a quarter as many cases, or for a quarter of the seconds.
    """
    others: Counter[str] = Counter()
    async with besieged(kind, folder, others) as house:
        hosted = kind == "daphne"
        warm = Sender(house.url, seed + " warm", hosted=hosted)
        begin = time.monotonic()
        before = await house.left()
        await warm.run(
            lambda: warm.found.cases < cases / 4 and time.monotonic() < begin + seconds / 4
        )
        sender = Sender(house.url, seed, hosted=hosted)
        sizes = [house.memory()]

        def going() -> bool:
            if sender.found.cases % 100 == 0:
                sizes.append(house.memory())
            more = sender.found.cases < cases and time.monotonic() < begin + seconds
            return more and house.alive()

        await sender.run(going)
        found = sender.found
        found.faults += warm.found.faults
        end = time.monotonic() + LEFT
        while (now := await house.left()) != before:
            if time.monotonic() > end:
                found.faults.append(f"left over: {now}, before it was {before}")
                break
            await asyncio.sleep(0.1)
        found.faults += house.complaints()
        sizes.append(house.memory())
        if sizes[-1] > sizes[0] + KEPT:
            found.faults.append(f"memory grew from {sizes[0]:,} to {sizes[-1]:,} bytes")
    found.others = dict(others)
    mib = [round(size / 2**20) for size in (sizes[0], max(sizes), sizes[-1])]
    return found, f"memory {mib[0]} MiB when warm, {mib[1]} at most, {mib[2]} at the end"


# -- the command --------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz",
        description="Send a house what broken and hostile clients might, and see that it is well.",
    )
    parser.add_argument("--house", choices=HOUSES, default="server")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--save", action="store_true", help="keep what came of it for the docs")
    parser.add_argument("--case", type=int, help="send only this one, and show it")
    return parser.parse_args()


async def replay(kind: str, seed: str, number: int, folder: Path) -> None:
    """Send one case, and show what came back."""
    async with besieged(kind, folder, Counter()) as house:
        sender = Sender(house.url, seed, hosted=kind == "daphne")
        one = sender.case(number)
        print(f"{one.kind}, then {one.end}")
        for chunk in one.chunks:
            print("->", repr(chunk[:300]), len(chunk))
        got, ended = await sender.send(one)
        print("<-", repr(got[:1000]), len(got), "ended" if ended else "open")
        print(*house.complaints(), sep="\n")


def main() -> int:
    """Do as told, and return 1 if there was a fault."""
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        if given.case is not None:
            asyncio.run(replay(given.house, given.seed, given.case, Path(folder)))
            return 0
        besieging = besiege(given.house, given.seed, Path(folder), seconds=given.minutes * 60)
        found, memory = asyncio.run(besieging)
    if given.save:
        inputs.save(given.house, found.cases, given.minutes, found.outcomes)
    print(f"{given.house}, seed {given.seed}: {found.cases} cases in {given.minutes:g} minutes")
    print(f"{found.echoes} echoes beside them, the longest wait {found.longest:.3f} s; {memory}")
    for kind, outcomes in sorted(found.outcomes.items()):
        print(
            f"| {kind} |",
            ", ".join(f"{what} ({many})" for what, many in outcomes.most_common()),
            "|",
        )
    for what, many in found.others.items():
        print(f"in no code of ours, {many} times: {what}")
    print(f"{len(found.faults)} faults")
    print(*found.faults[:50], sep="\n")
    return bool(found.faults)


if __name__ == "__main__":
    sys.exit(main())
