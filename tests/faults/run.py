"""A run: clients of all kinds in two rooms, a plan of faults, a calm, and the verdict.

First everyone comes in, undisturbed; then they talk while the plan goes on; then
nothing is disturbed any more, and they have so long to come together again. When
everyone is there and has its answers, one says last words: who has heard those has
heard everything. Then the log is read as a whole, and the histories are checked.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from .checker import check
from .clients import CLIENTS, Member, Recorder
from .evidence import Violation
from .history import (
    Archived,
    Closed,
    Complained,
    Ended,
    Heard,
    History,
    Kind,
    Line,
    Opened,
    Restarted,
    Said,
    Terms,
    Welcomed,
)
from .plan import Fault, Trouble, plan
from .proxy import Address, Link

PATIENCE = 45.0
"""Seconds that everyone has to come in, and again to come together: `connect` backs off to 15."""

ATTEMPTS = 5
SOON = 10.0
"""So often last words are said, and so many seconds they have to be heard by all."""

EVERYONE = {
    "main": {
        Kind.OURS: 4,
        Kind.APART: 4,
        Kind.TEXT: 3,
        Kind.VISITOR: 2,
        Kind.PIPE: 1,
        Kind.PIPE_JSON: 1,
    },
    "side": {Kind.OURS: 1, Kind.APART: 1, Kind.TEXT: 1, Kind.VISITOR: 1},
}
"""Who is in which room, of a run."""


class House(Protocol):
    """What a run needs of a house."""

    @property
    def terms(self) -> Terms:
        """What it promises of its log."""

    @property
    def services(self) -> bool:
        """Whether it has services that can be disturbed."""

    @property
    def processes(self) -> Sequence[object]:
        """Its processes."""

    def choose(self, random: Random) -> Address | None:
        """Return where a connection is put through to."""

    async def suffer(self, fault: Fault, record: Recorder) -> bool:
        """Let a fault happen."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run was."""

    seconds: float
    said: int
    heard: int
    connections: int
    restarts: int
    faults: Mapping[str, int]  # that befell anyone, by their kinds
    longest: float  # seconds that a client was without the stream
    slowest: str  # that client


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a run."""

    seed: int
    figures: Figures
    histories: Mapping[str, History]  # by room
    violations: tuple[Violation, ...]


class Run:
    """One run of one house."""

    def __init__(
        self,
        house: House,
        seed: int,
        seconds: float,
        *,
        crew: Mapping[str, Mapping[Kind, int]] = EVERYONE,
        faults: Sequence[Fault] | None = None,
        pause: float = 0.4,
        patience: float = PATIENCE,
        floods: bool = False,
    ) -> None:
        self._house = house
        self._seed = seed
        self._record = Recorder()
        self._members: dict[str, Member] = {}
        self._links: dict[str, Link] = {}
        self._archives: dict[str, Archived] = {}
        self._injected: Counter[str] = Counter()
        self._crew = crew
        names = [name for name, *_ in self._names()]
        servers = len(house.processes)
        self.plan = plan(seed, seconds, names, servers, services=house.services, floods=floods)
        if faults is not None:
            self.plan = tuple(faults)
        self._seconds = seconds
        self._pause = pause
        self._patience = patience

    def _names(self) -> list[tuple[str, Kind, str]]:
        return [
            (f"{kind.name.lower()}{number}{'' if room == 'main' else room[0]}", kind, room)
            for room, kinds in self._crew.items()
            for kind, count in kinds.items()
            for number in range(count)
        ]

    async def play(self) -> Verdict:
        """Play it, and judge."""
        try:
            await self._come()
            talking = [
                asyncio.ensure_future(each.talk(self._pause)) for each in self._members.values()
            ]
            await self._disturb()
            for task in talking:
                task.cancel()
            await asyncio.wait(talking)
            await self._calm()
        finally:
            end = self._record.now
            await self._part()
        return self._judge(end)

    async def _come(self) -> None:
        for name, kind, room in self._names():
            random = Random(f"link {name} {self._seed}")
            self._links[name] = Link(self._choosing(random), random)
            url = await self._links[name].listen()
            member = CLIENTS[kind](
                name, f"{room}-{self._seed}", url, self._record, Random(f"{name} {self._seed}")
            )
            self._members[name] = member
            member.start()
            # One after the other: a site that has just started is slow at first.
            await self._until(lambda: self._came(member))  # noqa: B023

    def _came(self, member: Member) -> bool:
        """Whether *member* is in: a process does not say so, but what it says comes back."""
        if member.connected:
            member.say_first()
        return bool(member.answers)

    def _choosing(self, random: Random) -> Callable[[], Address | None]:
        return lambda: self._house.choose(random)

    async def _disturb(self) -> None:
        begin = self._record.now
        tasks: set[asyncio.Task[None]] = set()
        for fault in self.plan:
            await asyncio.sleep(max(0, begin + fault.at - self._record.now))
            tasks.add(asyncio.ensure_future(self._inject(fault)))
        await asyncio.sleep(max(0, begin + self._seconds - self._record.now))
        for link in self._links.values():
            link.calm()
        await asyncio.gather(*tasks)  # nothing lasts for longer than some seconds

    async def _inject(self, fault: Fault) -> None:
        if fault.trouble is Trouble.FLOOD:
            self._members[fault.target].flood()
            befell = True
        elif fault.target in self._links:
            befell = await self._links[fault.target].suffer(fault.trouble, fault.seconds)
        else:
            befell = await self._house.suffer(fault, self._record)
        if befell:
            self._injected[fault.trouble.name] += 1

    async def _calm(self) -> None:
        for link in self._links.values():
            link.calm()
        members = [each for each in self._members.values() if not each.gone]
        await self._until(lambda: all(each.connected and not each.owed for each in members))
        for room in self._crew:
            here = [each for each in members if each.room == f"{room}-{self._seed}"]
            await self._close([each for each in here if not each.gone])

    async def _close(self, members: Sequence[Member]) -> None:
        """Have one say last words until all have heard the newest: some may still be away."""
        for _ in range(ATTEMPTS):
            speaker = next((each for each in members if each.kind.returns and each.speaks), None)
            if speaker is None:
                return
            words = speaker.say_last()
            if await self._until(lambda: all(each.last == words for each in members), SOON):  # noqa: B023
                return

    async def _until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait for *condition*, in vain perhaps: the checker will say what is missing."""
        end = self._record.now + min(patience, self._patience)
        while not (met := condition()) and self._record.now < end:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
        return met

    async def _part(self) -> None:
        for name, member in self._members.items():
            self._record(Ended, name, member.connected)
        for room in self._crew:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._archived(f"{room}-{self._seed}"), self._patience)
        await asyncio.gather(*(member.stop() for member in self._members.values()))
        for link in self._links.values():
            await link.close()

    async def _archived(self, room: str) -> None:
        while room not in self._archives:
            with suppress(OSError, EOFError, InvalidHandshake, ConnectionClosed):
                await self._archive(room)
            await asyncio.sleep(0.1)

    async def _archive(self, room: str) -> None:
        """Read the whole log of a room, past the links."""
        address = self._house.choose(Random())
        if address is None:
            return
        query = urlencode({"room": room, "name": "archivist", "history": 10**9})
        async with connect(
            f"ws://{address[0]}:{address[1]}/?{query}",
            subprotocols=[Subprotocol("broadcast.v1.json")],
            compression=None,
            proxy=None,
            max_size=2**24,
        ) as socket:
            await socket.send('{"type":"ping","id":"end"}')
            epoch = ""
            entries: list[tuple[int, str, str]] = []
            while True:
                for line in str(await socket.recv()).split("\n"):
                    event = json.loads(line)
                    match event["type"]:
                        case "welcome":
                            epoch = event["epoch"]
                        case "message":
                            entries.append((event["seq"], event["name"], event["text"]))
                        case "pong":
                            self._archives[room] = Archived(self._record.now, epoch, tuple(entries))
                            return

    # -- the verdict --

    def _judge(self, seconds: float) -> Verdict:
        histories = {room: self._history(room) for room in self._crew}
        violations = [each for history in histories.values() for each in check(history)]
        records = self._record.records
        absences = {name: self._absence(name) for name in self._members}
        slowest = max(absences, key=lambda name: absences[name])
        figures = Figures(
            seconds=seconds,
            said=sum(isinstance(each, Said) for each in records),
            heard=sum(isinstance(each, (Heard, Line)) for each in records),
            connections=sum(isinstance(each, (Opened, Welcomed)) for each in records),
            restarts=sum(isinstance(each, Restarted) for each in records),
            faults=dict(self._injected),
            longest=absences[slowest],
            slowest=slowest,
        )
        return Verdict(self._seed, figures, histories, tuple(dict.fromkeys(violations)))

    def _history(self, room: str) -> History:
        clients = {
            name: each.kind
            for name, each in self._members.items()
            if each.room == f"{room}-{self._seed}"
        }
        records = [
            each
            for each in self._record.records
            if getattr(each, "client", None) is None or getattr(each, "client", "") in clients
        ]
        archive = self._archives.get(f"{room}-{self._seed}")
        if archive is None:
            records.append(Complained(self._record.now, "the log could not be read at the end"))
        else:
            records.append(archive)
        return History(self._house.terms, clients, tuple(records))

    def _absence(self, client: str) -> float:
        """Return for how long a client was without the stream at the most."""
        longest, gone = 0.0, None
        for each in self._record.records:
            if getattr(each, "client", None) != client:
                continue
            if isinstance(each, Closed):
                gone = each.at if gone is None else gone
            elif isinstance(each, (Welcomed, Heard, Line)) and gone is not None:
                longest, gone = max(longest, each.at - gone), None
        return longest
