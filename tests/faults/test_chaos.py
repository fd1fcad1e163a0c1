"""Runs of the deployments under faults, and of servers with a planted fault under the checker.

The seeds are fixed, so that a failure is caused by a change. For other seeds and longer runs, see
``python -m benchmarks.chaos --help``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from deployments import INSTALLED

from broadcast_server.admission.admission import AdmissionLimits
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import LogEntry, Message
from broadcast_server.protocol.rejection import STOPPING
from broadcast_server.protocol.timestamp import rfc3339
from broadcast_server.rooms.actions import Publish
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import DEFAULT_MAX_MESSAGES, MessageLog
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.receiver import Receiver
from broadcast_server.rooms.room import Room
from broadcast_server.server.room_registry import RoomRegistry
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings
from faults import mutants
from faults.clients import FINAL_SUFFIX, Recorder
from faults.deployment import Deployment, cluster_deployment, file_deployment
from faults.evidence import Rule
from faults.history import Kind, Terms
from faults.plan import Fault, FaultKind
from faults.proxy import Address
from faults.run import Run

MUTANT_RESUMES = {"skip-at-cursor": 700, "lost-leave": 200}
"""How many resumes each mutant is played with. Of 700, 500 are with a cursor, so a fault at one in
fifty is missed once in 20,000 runs. Of the leaves, which are as many, every tenth is lost."""

# -- the deployments --


def assert_holds(deployment: AbstractContextManager[Deployment], seed: int, seconds: float) -> None:
    """Play a run, and assert that no promise was broken."""
    with deployment as running:
        result = asyncio.run(Run(running, seed, seconds).play())
    print(f"seed {seed}: {result.figures}")  # noqa: T201  # pytest shows it if it fails
    assert result.violations == (), "\n".join(map(str, result.violations[:50]))
    assert result.figures.restarts
    assert sum(result.figures.faults.values()) > 10


def test_the_single_file_under_faults() -> None:
    """Whatever happens to server and connections, every client receives what is promised."""
    assert_holds(file_deployment(INSTALLED), 1, 12)


def test_the_django_deployment_under_faults() -> None:
    """The same holds for two Django processes whose Redis and PostgreSQL are killed."""
    assert_holds(cluster_deployment(), 1, 10)


@pytest.mark.parametrize("name", MUTANT_RESUMES)
def test_a_mutant_of_the_server_is_detected(name: str) -> None:
    """A run detects a server that is wrong about one resume in fifty, in a bounded number of them.

    ``python -m benchmarks.chaos --mutants`` plays all mutants.
    """
    assert mutants.is_detected(name, 7, seconds=3.0, resumes=MUTANT_RESUMES[name])


class ClosesAtTheEnd(LocalRoom):
    """Closes a member, which may come back, as soon as it has received the last message."""

    def deliver(self, entry: LogEntry) -> None:
        super().deliver(entry)
        if isinstance(entry, Message) and entry.text.endswith(FINAL_SUFFIX):
            member = next(each for each in self.room.members() if each.name == "independent0")
            asyncio.get_running_loop().call_soon(self.kick, member, STOPPING)


def test_a_client_may_lose_its_connection_at_the_end_of_a_run() -> None:
    """It is not reported as long as it can come back: a connection may end at any moment."""

    async def play() -> set[Rule]:
        planted = Planted(None, ClosesAtTheEnd)
        server = FaultyServer(planted)
        await server.listen()
        try:
            deployment = InThisLoop(server, planted.messages)
            run = Run(deployment, 3, 0.1, clients=FEW_CLIENTS, faults=(), pause=0.05)
            return {each.rule for each in (await run.play()).violations}
        finally:
            await server.stop()

    assert asyncio.run(play()) == set()


# -- planted faults --

FAULT_AT = 12
"""The opportunity, counted from 1, at which a fault that happens once happens."""


class ChangedReceiver:
    """A receiver whose batch of frames number `FAULT_AT` is changed."""

    def __init__(self, receiver: Receiver, change: Callable[[list[bytes]], list[bytes]]) -> None:
        self.receiver = receiver
        self._change = change
        self._count = 0
        self.encode = receiver.encode

    @property
    def paused(self) -> bool:
        """Whether the receiver is paused."""
        return self.receiver.paused

    def write(self, frames: Iterable[bytes]) -> None:
        """Write the frames, changed once."""
        self._count += 1
        written = list(frames)
        self.receiver.write(self._change(written) if self._count == FAULT_AT else written)

    def close(self, code: int, reason: str) -> None:
        """Close the receiver."""
        self.receiver.close(code, reason)


class ChangingRoom(LocalRoom):
    """A room whose members have such receivers."""

    def __init__(self, name: str, log: MessageLog, max_message_bytes: int, closed: Any) -> None:
        super().__init__(
            name,
            log,
            max_message_bytes,
            lambda receiver, code: closed(cast(ChangedReceiver, receiver).receiver, code),
        )

    def change(self, frames: list[bytes]) -> list[bytes]:
        """Change frames."""
        raise NotImplementedError

    def join(self, participant: Participant, receiver: Receiver) -> None:
        super().join(participant, ChangedReceiver(receiver, self.change))


class Drops(ChangingRoom):
    """Drops one batch of one member."""

    def change(self, frames: list[bytes]) -> list[bytes]:
        return []


class Doubles(ChangingRoom):
    """Sends one batch of one member twice."""

    def change(self, frames: list[bytes]) -> list[bytes]:
        return frames * 2


class Swaps(LocalRoom):
    """Delivers two messages in the wrong order, once."""

    held: LogEntry | None = None
    count = 0

    def deliver(self, entry: LogEntry) -> None:
        self.count += 1
        if self.count == FAULT_AT:
            self.held = entry
            return
        super().deliver(entry)
        if self.held is not None:
            super().deliver(self.held)
            self.held = None


class Forges(LocalRoom):
    """Delivers a message with another member's name, once."""

    count = 0

    def deliver(self, entry: LogEntry) -> None:
        self.count += 1
        if self.count == FAULT_AT and isinstance(entry, Message):
            entry = replace(entry, name="mallory")
        super().deliver(entry)


class Invents(LocalRoom):
    """Publishes a message of its own, once."""

    count = 0

    def deliver(self, entry: LogEntry) -> None:
        super().deliver(entry)
        self.count += 1
        if self.count == FAULT_AT and isinstance(entry, Message):
            self.deliver(self.log.append(entry.name, "hello", entry.at, None, ""))


class Forgets(LocalRoom):
    """Acknowledges a message that it does not log, once."""

    count = 0
    done = False

    def _publish(self, what: Publish) -> None:
        self.count += 1
        never_cut = what.author.name == "ours0"
        if self.count < FAULT_AT or self.done or not never_cut:
            super()._publish(what)
            return
        self.done = True
        now = rfc3339(datetime.now(timezone.utc))
        unlogged = Message(self.log.head + 1, what.author.name, what.text, now, what.id)
        self._fanout.send_to(what.author, unlogged)


class SameNumber(MessageLog):
    """Gives the same number to two messages, once."""

    def append(self, name: str, text: str, at: str, id: str | None, source: str) -> Message:
        if self.head == FAULT_AT:
            self.head -= 1
        return super().append(name, text, at, id, source)


class NoRepeats(MessageLog):
    """Treats every resent message as new."""

    def seq_of(self, source: str, id: str | None) -> int | None:
        return None


class SilentGaps(Room):
    """Tells no client that messages are missing."""

    def _resume_position(self, entry: JoinRequest) -> tuple[int, bool, int | None]:
        after, *_ = super()._resume_position(entry)
        return after, True, 0


class SilentGapsRoom(LocalRoom):
    """A room with that fault."""

    def __init__(self, name: str, log: MessageLog, max_message_bytes: int, closed: Any) -> None:
        super().__init__(name, log, max_message_bytes, closed)
        self.room = SilentGaps(name, log, max_message_bytes)


class NewLog(LocalRoom):
    """Changes the epoch of the log in the middle, once."""

    count = 0

    def join(self, participant: Participant, receiver: Receiver) -> None:
        self.count += 1
        if self.count == 5:
            self.log.epoch = secrets.token_urlsafe(9)
        super().join(participant, receiver)


class FaultyRegistry(RoomRegistry):
    """Creates rooms and logs with a planted fault, and never closes an idle room."""

    def __init__(self, server: Server, planted: Planted) -> None:
        super().__init__(server.settings, Metrics(), server._closed_by_room)
        self._planted = planted

    def _create(self, name: str) -> LocalRoom:
        log = self._planted.log(self._planted.messages)
        return self._planted.room(name, log, 4096, self._on_close)

    def close_if_empty(self, room: LocalRoom) -> None:
        """Keep every room open."""


class FaultyServer(Server):
    """A server whose rooms and logs have a planted fault."""

    def __init__(self, planted: Planted) -> None:
        super().__init__(Settings(port=0, grace=0.5, limits=AdmissionLimits(rate=0)))
        self._rooms = FaultyRegistry(self, planted)


class InThisLoop:
    """A deployment of one server in this event loop."""

    has_services = False
    processes = ()

    def __init__(self, server: Server, reach: int) -> None:
        self.terms = Terms(
            durable=False, kept_messages=None if reach == DEFAULT_MAX_MESSAGES else reach
        )
        parts = urlsplit(server.url)
        self._address = str(parts.hostname), parts.port or 0

    def choose_address(self, random: Random) -> Address | None:
        """Return the address of the server."""
        return self._address

    async def inject(self, fault: Fault, record: Recorder) -> bool:
        """Fail: the plan has no faults for the server."""
        raise AssertionError(fault)


FEW_CLIENTS = {"main": {Kind.OURS: 1, Kind.INDEPENDENT: 2, Kind.TEXT: 1}}
CONNECTION_FAULTS = tuple(
    Fault(at / 10 + late, trouble, f"independent{at % 2}", 0.3)
    for at in (1, 4, 7, 10)
    for trouble, late in (
        (FaultKind.STALL_DOWN, 0),
        (FaultKind.REJECT, 0.25),
        (FaultKind.RESET, 0.25),
    )
)
"""Two clients are cut after some time without echoes, and cannot reconnect for some time."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A planted fault, and the rule that the checker must find violated; None for no fault."""

    rule: Rule | None
    room: type[LocalRoom] = LocalRoom
    log: type[MessageLog] = MessageLog
    messages: int = DEFAULT_MAX_MESSAGES

    def __str__(self) -> str:
        return f"{self.room.__name__} {self.log.__name__} {self.messages}"


PLANTED = (
    Planted(Rule.LOST, Drops),
    Planted(Rule.DOUBLED, Doubles),
    Planted(Rule.REORDERED, Swaps),
    Planted(Rule.FORGED, Forges),
    Planted(Rule.INVENTED, Invents),
    Planted(Rule.RENUMBERED, Forgets),
    Planted(Rule.RENUMBERED, log=SameNumber),
    Planted(Rule.REPEATED, log=NoRepeats),
    Planted(Rule.LOST, SilentGapsRoom, messages=1),
    Planted(Rule.EPOCHS, NewLog),
    Planted(None),
    Planted(None, messages=1),
)


async def violated_rules(planted: Planted) -> set[Rule]:
    """Return the rules that a server with a planted fault violates."""
    server = FaultyServer(planted)
    await server.listen()
    try:
        deployment = InThisLoop(server, planted.messages)
        # Waiting longer is useless where the fault has dropped what is waited for.
        timeout = 1.0 if planted.rule else 20.0
        run = Run(
            deployment,
            3,
            1.5,
            clients=FEW_CLIENTS,
            faults=CONNECTION_FAULTS,
            pause=0.05,
            timeout=timeout,
        )
        return {each.rule for each in (await run.play()).violations}
    finally:
        await server.stop()


@pytest.fixture(scope="module")
def findings() -> dict[Planted, set[Rule]]:
    """The violated rules for each planted fault. All the servers run at the same time."""

    async def play(planted: Sequence[Planted]) -> list[set[Rule]]:
        return await asyncio.gather(*map(violated_rules, planted))

    found: dict[Planted, set[Rule]] = {}
    missing: Sequence[Planted] = PLANTED
    # On a busy machine, a client may have published nothing just before a fault of its connection.
    for _ in range(3):
        found |= zip(missing, asyncio.run(play(missing)), strict=True)
        missing = [each for each in missing if each.rule and each.rule not in found[each]]
    return found


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_deployment_with_a_planted_fault(
    findings: dict[Planted, set[Rule]], planted: Planted
) -> None:
    """The checker detects each planted fault, and reports nothing about a correct server."""
    rules = findings[planted]
    assert planted.rule in rules if planted.rule else rules == set()
