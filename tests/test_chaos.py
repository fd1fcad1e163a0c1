"""Chaos: the houses under faults, and houses with a planted fault under the checker.

The seeds are fixed, so that a red run is about a change. For others, and for longer:
``python -m benchmarks.chaos --help``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from faults.clients import Recorder
from faults.evidence import Rule
from faults.history import Kind, Terms
from faults.house import House, cluster_house, file_house
from faults.plan import Fault, Trouble
from faults.proxy import Address
from faults.run import Run
from houses import INSTALLED

from broadcast_server.connection import Socket
from broadcast_server.entry import Entry
from broadcast_server.history import MESSAGES, Log
from broadcast_server.memoryroom import MemoryRoom
from broadcast_server.openroom import Line
from broadcast_server.protocol import Message, Numbered
from broadcast_server.room import Peer, Publish, Room
from broadcast_server.server import Server, Settings

# -- the houses --


def assert_holds(house: AbstractContextManager[House], seed: int, seconds: float) -> None:
    """Play a run, which is the same for the same seed but for what the system's timing does."""
    with house as inside:
        verdict = asyncio.run(Run(inside, seed, seconds).play())
    print(f"seed {seed}: {verdict.figures}")  # noqa: T201  # pytest shows it if it fails
    assert verdict.violations == (), "\n".join(map(str, verdict.violations[:50]))
    assert verdict.figures.restarts
    assert sum(verdict.figures.faults.values()) > 10


def test_the_single_file_under_faults() -> None:
    """Whatever befalls server and connections, everyone hears what is promised."""
    assert_holds(file_house(INSTALLED), 1, 12)


def test_the_hosted_site_under_faults() -> None:
    """The same, with Redis and PostgreSQL killed under two processes."""
    assert_holds(cluster_house(), 1, 10)


# -- planted faults --

NTH = 12
"""A fault that comes once comes with the twelfth chance."""


class Wire:
    """A connection whose twelfth frames come out changed."""

    def __init__(self, line: Line, change: Callable[[list[bytes]], list[bytes]]) -> None:
        self.line = line
        self._change = change
        self._count = 0
        self.encode = line.encode

    @property
    def paused(self) -> bool:
        """Whether it takes no more for now."""
        return self.line.paused

    def write(self, frames: Iterable[bytes]) -> None:
        """Write frames, or others."""
        self._count += 1
        given = list(frames)
        self.line.write(self._change(given) if self._count == NTH else given)

    def close(self, code: int, reason: str) -> None:
        """Close it."""
        self.line.close(code, reason)


class BadWires(MemoryRoom):
    """A room whose members are on such connections."""

    def __init__(self, name: str, log: Log, most: int, closed: Any) -> None:
        super().__init__(name, log, most, lambda line, code: closed(cast(Wire, line).line, code))

    def change(self, frames: list[bytes]) -> list[bytes]:
        """Change frames."""
        raise NotImplementedError

    def enter(self, peer: Peer, line: Line) -> None:
        super().enter(peer, Wire(line, self.change))


class Drops(BadWires):
    """Drops what one member gets in one turn."""

    def change(self, frames: list[bytes]) -> list[bytes]:
        return []


class Doubles(BadWires):
    """Sends what one member gets in one turn twice."""

    def change(self, frames: list[bytes]) -> list[bytes]:
        return frames * 2


class Swaps(MemoryRoom):
    """Delivers two messages in the wrong order, once."""

    held: Numbered | None = None
    count = 0

    def deliver(self, entry: Numbered) -> None:
        self.count += 1
        if self.count == NTH:
            self.held = entry
            return
        super().deliver(entry)
        if self.held is not None:
            super().deliver(self.held)
            self.held = None


class Forges(MemoryRoom):
    """Delivers a message under the name of another, once."""

    count = 0

    def deliver(self, entry: Numbered) -> None:
        self.count += 1
        if self.count == NTH and isinstance(entry, Message):
            entry = replace(entry, name="mallory")
        super().deliver(entry)


class Invents(MemoryRoom):
    """Says something of its own, once."""

    count = 0

    def deliver(self, entry: Numbered) -> None:
        super().deliver(entry)
        self.count += 1
        if self.count == NTH and isinstance(entry, Message):
            self.deliver(self.log.append(entry.name, "hello", entry.at, None, ""))


class Forgets(MemoryRoom):
    """Acknowledges a message that it does not log, once."""

    count = 0
    done = False

    def _publish(self, what: Publish) -> None:
        self.count += 1
        if self.count < NTH or self.done or what.peer.name != "ours0":  # who is never cut
            super()._publish(what)
            return
        self.done = True
        unlogged = Message(self.log.head + 1, what.peer.name, what.text, "", what.id)
        self._fanout.only(what.peer, unlogged)


class SameNumber(Log):
    """Gives a number twice, once."""

    def append(self, name: str, text: str, at: str, id: str | None, source: str) -> Message:
        if self.head == NTH:
            self.head -= 1
        return super().append(name, text, at, id, source)


class NoRepeats(Log):
    """Takes every repeat for new."""

    def seq_of(self, source: str, id: str | None) -> int | None:
        return None


class TellsNot(Room):
    """Tells nobody that anything is missing."""

    def _resume(self, entry: Entry) -> tuple[int, bool, int | None]:
        after, *_ = super()._resume(entry)
        return after, True, 0


class Quiet(MemoryRoom):
    """A room that tells so."""

    def __init__(self, name: str, log: Log, most: int, closed: Any) -> None:
        super().__init__(name, log, most, closed)
        self.room = TellsNot(name, log, most)


class NewLog(MemoryRoom):
    """Begins another log in the middle, once."""

    count = 0

    def enter(self, peer: Peer, line: Line) -> None:
        self.count += 1
        if self.count == 5:
            self.log.epoch = secrets.token_urlsafe(9)
        super().enter(peer, line)


class Faulty(Server):
    """A server whose rooms and logs are of another kind."""

    def __init__(self, kind: type[MemoryRoom], log: type[Log], messages: int) -> None:
        super().__init__(Settings(port=0, grace=0.5))
        self._kind = kind
        self._log = log
        self._messages = messages

    def enter(self, socket: Socket, entry: Entry) -> None:
        if entry.room not in self._rooms:
            log = self._log(self._messages)
            self._rooms[entry.room] = self._kind(entry.room, log, 4096, self._closed)
        super().enter(socket, entry)

    def _tidy(self, room: MemoryRoom) -> None:
        """Keep every room as it is."""


class InThisLoop:
    """A house that is one server in this very loop."""

    services = False
    processes = ()

    def __init__(self, server: Server, reach: int) -> None:
        self.terms = Terms(lasting=False, reach=None if reach == MESSAGES else reach)
        parts = urlsplit(server.url)
        self._address = str(parts.hostname), parts.port or 0

    def choose(self, random: Random) -> Address | None:
        """Return where it listens."""
        return self._address

    async def suffer(self, fault: Fault, record: Recorder) -> bool:
        """Suffer nothing."""
        raise AssertionError(fault)


FEW = {"main": {Kind.OURS: 1, Kind.APART: 2, Kind.TEXT: 1}}
CUTS = tuple(
    Fault(at / 10 + late, trouble, f"apart{at % 2}", 0.3)
    for at in (1, 4, 7, 10)
    for trouble, late in ((Trouble.STALL_DOWN, 0), (Trouble.REFUSE, 0.25), (Trouble.RESET, 0.25))
)
"""Two clients are cut after some time without an echo, and away for some time."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A house, and what is to be found in it."""

    rule: Rule | None
    room: type[MemoryRoom] = MemoryRoom
    log: type[Log] = Log
    messages: int = MESSAGES

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
    Planted(Rule.LOST, Quiet, messages=1),
    Planted(Rule.EPOCHS, NewLog),
    Planted(None),
    Planted(None, messages=1),
)


async def found(planted: Planted) -> set[Rule]:
    """Return the rules that a house breaks."""
    server = Faulty(planted.room, planted.log, planted.messages)
    await server.listen()
    try:
        house = InThisLoop(server, planted.messages)
        # Who waits for what a fault swallowed waits in vain.
        patience = 1.0 if planted.rule else 20.0
        run = Run(house, 3, 1.5, crew=FEW, faults=CUTS, pause=0.05, patience=patience)
        return {each.rule for each in (await run.play()).violations}
    finally:
        await server.stop()


@pytest.fixture(scope="module")
def findings() -> dict[Planted, set[Rule]]:
    """What is found in each of these houses, which are played at the same time."""

    async def play() -> list[set[Rule]]:
        return await asyncio.gather(*map(found, PLANTED))

    return dict(zip(PLANTED, asyncio.run(play()), strict=True))


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_house_with_a_planted_fault(findings: dict[Planted, set[Rule]], planted: Planted) -> None:
    """A server that goes wrong once is found out by what its clients heard, and no other."""
    rules = findings[planted]
    assert planted.rule in rules if planted.rule else rules == set()
