"""A run: clients of all kinds in two rooms, under a plan of faults, and the check of what happened.

First all clients join, without faults. Then they publish while the faults of the plan are
injected. Then the faults end, and the clients have `JOIN_TIMEOUT_S` to reconnect. When all are
connected and have their answers, one client publishes a last message; a client that has received
it has received everything. Then the whole log is read, and the histories are checked.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from broadcast_server.console.time_limit import run_within

from .checker import check
from .clients import CLIENTS, Member, Recorder
from .evidence import Violation
from .history import (
    Closed,
    FinalState,
    History,
    Kind,
    Line,
    LogRead,
    Opened,
    ProcessFault,
    Published,
    Received,
    Restarted,
    Terms,
    Welcomed,
)
from .plan import Fault, FaultKind, plan
from .proxy import Address, ClientProxy
from .resumer import Resumer

JOIN_TIMEOUT_S = 45.0
"""Time for all clients to join, and again to reconnect: `connect` backs off to 15 seconds."""

LAST_MESSAGE_ATTEMPTS = 5
LAST_MESSAGE_TIMEOUT_S = 10.0
"""How often a last message is published at most, and the time for all clients to receive it."""

EVERYONE = {
    "main": {
        Kind.OURS: 4,
        Kind.INDEPENDENT: 4,
        Kind.TEXT: 3,
        Kind.STATELESS: 2,
        Kind.PIPE: 1,
        Kind.PIPE_JSON: 1,
        Kind.RESUMER: 2,
    },
    "side": {Kind.OURS: 1, Kind.INDEPENDENT: 1, Kind.TEXT: 1, Kind.STATELESS: 1},
}
"""The clients of a run: by room, how many of each kind."""


ALL_CLIENTS: dict[Kind, type[Member]] = {**CLIENTS, Kind.RESUMER: Resumer}


class Deployment(Protocol):
    """What a run needs of a deployment."""

    @property
    def terms(self) -> Terms:
        """What the deployment promises about its log."""

    @property
    def has_services(self) -> bool:
        """Whether the deployment has services that can be killed and frozen."""

    @property
    def processes(self) -> Sequence[object]:
        """The server processes."""

    def choose_address(self, random: Random) -> Address | None:
        """Return the address of a server for a new connection, None if that server is down."""

    async def inject(self, fault: Fault, record: Recorder) -> bool:
        """Inject a fault; return False if that was not possible."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of one run."""

    seconds: float
    published: int
    received: int
    connections: int
    restarts: int
    resumes: int  # of resumers, that were welcomed
    replayed: int  # messages that resumers received
    faults: Mapping[str, int]  # injected faults, by kind
    longest_absence: float  # seconds from a close to the next event
    longest_absent: str  # the client with the longest absence


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run."""

    seed: int
    figures: Figures
    histories: Mapping[str, History]  # by room
    violations: tuple[Violation, ...]


class Run:
    """One run against one deployment.

    The faults begin within *seconds*. After them it goes on until resumers have resumed *resumes*
    times.
    """

    def __init__(
        self,
        deployment: Deployment,
        seed: int,
        seconds: float,
        *,
        clients: Mapping[str, Mapping[Kind, int]] = EVERYONE,
        faults: Sequence[Fault] | None = None,
        pause: float = 0.4,
        timeout: float = JOIN_TIMEOUT_S,
        floods: bool = False,
        resumes: int = 0,
    ) -> None:
        self._deployment = deployment
        self._seed = seed
        self._record = Recorder()
        self._members: dict[str, Member] = {}
        self._proxies: dict[str, ClientProxy] = {}
        self._archives: dict[str, LogRead] = {}
        self._injected: Counter[str] = Counter()
        self._clients = clients
        names = [name for name, *_ in self._names()]
        servers = len(deployment.processes)
        self.plan = plan(
            seed, seconds, names, servers, services=deployment.has_services, floods=floods
        )
        if faults is not None:
            self.plan = tuple(faults)
        self._seconds = seconds
        self._floods = floods
        self._resumes = resumes
        self._pause = pause
        self._timeout = timeout

    def _names(self) -> list[tuple[str, Kind, str]]:
        return [
            (f"{kind.name.lower()}{number}{'' if room == 'main' else room[0]}", kind, room)
            for room, kinds in self._clients.items()
            for kind, count in kinds.items()
            for number in range(count)
        ]

    async def play(self) -> RunResult:
        """Play the run, check the histories, and return the result."""
        try:
            await self._join_all()
            publishing = [
                asyncio.ensure_future(each.publish_at_random(self._pause))
                for each in self._members.values()
            ]
            await self._disturb()
            for task in publishing:
                task.cancel()
            await asyncio.wait(publishing)
            await self._settle()
        finally:
            end = self._record.now
            await self._finish()
        return self._check(end)

    async def _join_all(self) -> None:
        for name, kind, room in self._names():
            random = Random(f"link {name} {self._seed}")
            self._proxies[name] = ClientProxy(self._choosing(random), random)
            url = await self._proxies[name].listen()
            member = ALL_CLIENTS[kind](
                name, f"{room}-{self._seed}", url, self._record, Random(f"{name} {self._seed}")
            )
            self._members[name] = member
            member.start()
            # One after the other: a Django process that has just started is slow at first.
            await self._until(lambda: self._has_joined(member))  # noqa: B023

    def _has_joined(self, member: Member) -> bool:
        """Whether *member* has joined: a process does not say so, but its message is echoed."""
        if member.connected:
            member.publish_first()
        return bool(member.answer_count)

    def _choosing(self, random: Random) -> Callable[[], Address | None]:
        return lambda: self._deployment.choose_address(random)

    async def _disturb(self) -> None:
        begin = self._record.now
        tasks: set[asyncio.Task[None]] = set()
        for fault in self.plan:
            await asyncio.sleep(max(0, begin + fault.at - self._record.now))
            tasks.add(asyncio.ensure_future(self._inject(fault)))
        await asyncio.sleep(max(0, begin + self._seconds - self._record.now))
        while self._resume_count() < self._resumes:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
        for link in self._proxies.values():
            link.restore()
        await asyncio.gather(*tasks)  # no fault lasts longer than a few seconds

    def _resume_count(self) -> int:
        return sum(each.answer_count for each in self._members.values() if not each.kind.publishes)

    async def _inject(self, fault: Fault) -> None:
        if fault.kind is FaultKind.FLOOD:
            self._members[fault.target].flood()
            injected = True
        elif fault.target in self._proxies:
            injected = await self._proxies[fault.target].inject(fault.kind, fault.seconds)
        else:
            injected = await self._deployment.inject(fault, self._record)
        if injected:
            self._injected[fault.kind.name] += 1

    async def _settle(self) -> None:
        for link in self._proxies.values():
            link.restore()
        members = [each for each in self._members.values() if not each.gave_up]
        await self._until(lambda: all(each.connected and not each.unanswered for each in members))
        for room in self._clients:
            here = [each for each in members if each.room == f"{room}-{self._seed}"]
            await self._publish_last([each for each in here if not each.gave_up])
        # While one room is waited for, a client of the other may lose its connection: under load
        # a process counts as dead, or a ping is not answered in time. It has to come back.
        await self._until(lambda: all(each.connected for each in members if not each.gave_up))

    async def _publish_last(self, members: Sequence[Member]) -> None:
        """Have one client publish a last message, and again if not all have received it."""
        for _ in range(LAST_MESSAGE_ATTEMPTS):
            speaker = next(
                (each for each in members if each.kind.resumes and each.can_publish), None
            )
            if speaker is None:
                return
            text = speaker.publish_last()
            if await self._until(
                lambda: all(each.last_received == text for each in members),  # noqa: B023
                LAST_MESSAGE_TIMEOUT_S,
            ):
                return

    async def _until(self, condition: Callable[[], bool], timeout: float = JOIN_TIMEOUT_S) -> bool:
        """Wait for *condition*, and return whether it held in time."""
        end = self._record.now + min(timeout, self._timeout)
        while not (met := condition()) and self._record.now < end:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.02)
        return met

    async def _finish(self) -> None:
        for name, member in self._members.items():
            self._record(FinalState, name, member.connected)
        for room in self._clients:
            with suppress(asyncio.TimeoutError):
                await run_within(self._read_log_until_done(f"{room}-{self._seed}"), self._timeout)
        await asyncio.gather(*(member.stop() for member in self._members.values()))
        for link in self._proxies.values():
            await link.close()

    async def _read_log_until_done(self, room: str) -> None:
        while room not in self._archives:
            with suppress(OSError, EOFError, InvalidHandshake, ConnectionClosed):
                await self._read_log(room)
            await asyncio.sleep(0.1)

    async def _read_log(self, room: str) -> None:
        """Read the whole log of a room, over a connection without a proxy."""
        address = self._deployment.choose_address(Random())
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
                            self._archives[room] = LogRead(self._record.now, epoch, tuple(entries))
                            return

    # -- the result --

    def _check(self, seconds: float) -> RunResult:
        histories = {room: self._history(room) for room in self._clients}
        violations = [each for history in histories.values() for each in check(history)]
        records = self._record.records
        resumers = {name for name, each in self._members.items() if each.kind is Kind.RESUMER}
        absences = {name: self._absence(name) for name in self._members}
        slowest = max(absences, key=lambda name: absences[name])
        figures = Figures(
            seconds=seconds,
            published=sum(isinstance(each, Published) for each in records),
            received=sum(isinstance(each, (Received, Line)) for each in records),
            connections=sum(isinstance(each, (Opened, Welcomed)) for each in records),
            restarts=sum(isinstance(each, Restarted) for each in records),
            resumes=sum(isinstance(each, Welcomed) and each.client in resumers for each in records),
            replayed=sum(
                isinstance(each, Received) and each.client in resumers for each in records
            ),
            faults=dict(self._injected),
            longest_absence=absences[slowest],
            longest_absent=slowest,
        )
        return RunResult(self._seed, figures, histories, tuple(dict.fromkeys(violations)))

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
            records.append(ProcessFault(self._record.now, "the log could not be read at the end"))
        else:
            records.append(archive)
        terms = replace(self._deployment.terms, floods=self._floods)
        return History(terms, clients, tuple(records))

    def _absence(self, client: str) -> float:
        """Return the longest time in seconds from a close to the client's next event."""
        longest, closed_at = 0.0, None
        for each in self._record.records:
            if getattr(each, "client", None) != client:
                continue
            if isinstance(each, Closed):
                closed_at = each.at if closed_at is None else closed_at
            elif isinstance(each, (Welcomed, Received, Line)) and closed_at is not None:
                longest, closed_at = max(longest, each.at - closed_at), None
        return longest
