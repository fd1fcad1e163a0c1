"""The houses that faults befall: processes and services that are stopped, killed, frozen."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from conftest import DAPHNE, migrate
from programs import Running, assert_quiet, listening, running, until
from services import PostgreSQL, Redis, postgresql_server, redis_server

from .clients import Recorder
from .history import Complained, Restarted, Terms
from .plan import OF_SERVERS, Fault, Trouble
from .proxy import Address

DEAD = "3"
"""Seconds after which a process of the hosted site is taken for dead: it comes to that."""

HASTY = {"BROADCAST_DEAD": DEAD, "BROADCAST_RATE": "0"}


class Process:
    """One server: what runs it, and whether it runs."""

    def __init__(
        self, command: tuple[str, ...], where: Callable[[Running], str], **variables: Any
    ) -> None:
        self.address: Address | None = None
        self._command = command
        self._where = where
        self._variables = variables
        self._stack = ExitStack()
        self._running: Running | None = None

    def start(self) -> None:
        """Start it until it listens, as a supervisor would, and wait for that."""
        program = self._once()
        while program.process.poll() is not None:  # what it needs is away
            assert_quiet(program.errors)
            program = self._once()
        self._running = program
        parts = urlsplit(self._where(program))
        assert parts.hostname is not None
        assert parts.port is not None
        self.address = parts.hostname, parts.port

    def _once(self) -> Running:
        program = self._stack.enter_context(running(*self._command, **self._variables))
        until(
            lambda: program.process.poll() is not None or "istening on" in program.errors,
            "a server that listens, or says why not",
        )
        return program

    def end(self, number: signal.Signals) -> str:
        """End it by a signal; return what is wrong with how it went."""
        assert self._running is not None
        program, self._running = self._running, None
        self.address = None
        process, wrong = program.process, ""
        process.send_signal(number)
        code = process.wait(30)
        if number is signal.SIGTERM and code != 0:
            wrong = f"it ended with {code} when it was told to stop"
        try:
            assert_quiet(program.errors)
        except AssertionError:
            wrong += f" it said: {program.errors[-3000:]}"
        self._stack.close()
        return wrong

    def freeze(self) -> None:
        """Let it stand still."""
        if self._running is not None:
            self._running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._running is not None:
            self._running.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Let nothing of it stay, whatever has happened."""
        self._stack.close()


class House:
    """A house whose processes are numbered from 0."""

    def __init__(
        self,
        terms: Terms,
        processes: list[Process],
        redis: Redis | None = None,
        database: PostgreSQL | None = None,
    ) -> None:
        self.terms = terms
        self.processes = processes
        self._redis = redis
        self._database = database
        self._locks: dict[object, asyncio.Lock] = {}

    @property
    def services(self) -> bool:
        """Whether it has a Redis and a PostgreSQL."""
        return self._redis is not None

    def choose(self, random: Random) -> Address | None:
        """Return where a connection is put through to: perhaps to one that does not run."""
        return random.choice(self.processes).address

    async def suffer(self, fault: Fault, record: Recorder) -> bool:
        """Let *fault* happen; False if it cannot, since its target is in trouble already."""
        target = self._target(fault)
        lock = self._locks.setdefault(target, asyncio.Lock())
        if target is None or lock.locked():
            return False
        async with lock:
            match target:
                case Process():
                    await self._process(target, fault, record)
                case Redis():
                    await self._cache(target, fault)
                case PostgreSQL():
                    await asyncio.to_thread(target.kill)
                    await asyncio.sleep(fault.seconds)
                    await asyncio.to_thread(target.start)
        return True

    def _target(self, fault: Fault) -> Process | Redis | PostgreSQL | None:
        if fault.trouble in OF_SERVERS:
            return self.processes[int(fault.target)]
        return self._database if fault.trouble is Trouble.POSTGRESQL_KILL else self._redis

    async def _process(self, process: Process, fault: Fault, record: Recorder) -> None:
        if fault.trouble is Trouble.FREEZE:
            process.freeze()
            await asyncio.sleep(fault.seconds)
            process.thaw()
            return
        number = signal.SIGTERM if fault.trouble is Trouble.STOP else signal.SIGKILL
        record(Restarted)
        wrong = await asyncio.to_thread(process.end, number)
        if wrong:
            record(Complained, f"server {fault.target}: {wrong}")
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(process.start)

    async def _cache(self, redis: Redis, fault: Fault) -> None:
        if fault.trouble is Trouble.REDIS_FREEZE:
            redis.freeze()
            await asyncio.sleep(fault.seconds)
            redis.thaw()
            return
        await asyncio.to_thread(redis.stop)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(redis.start)

    def close(self) -> list[str]:
        """Stop all processes; return what is wrong with how they went."""
        return [wrong for each in self.processes if (wrong := each.end(signal.SIGTERM))]


@contextmanager
def file_house(
    program: tuple[str, ...], *options: str, lasting: bool = False, reach: int | None = None
) -> Iterator[House]:
    """Run the single file, or what is installed; *options* are those of ``start``."""
    command = *program, "start", "--port", "0", *options
    process = Process(command, lambda running: running.url)
    with _started(House(Terms(lasting, reach), [process])) as house:
        yield house


@contextmanager
def daphne_house() -> Iterator[House]:
    """Run the hosted site on its embedded database."""
    with tempfile.TemporaryDirectory() as data:
        process = Process(
            DAPHNE, listening, BROADCAST_DATA=data, BROADCAST_DEAD=DEAD, BROADCAST_RATE="0"
        )
        with _started(House(Terms(lasting=True), [process])) as house:
            yield house


@contextmanager
def cluster_house() -> Iterator[House]:
    """Run two processes of the hosted site on one Redis and one PostgreSQL."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(redis_server())
        database = stack.enter_context(postgresql_server(Path(folder, "postgresql")))
        variables = {"REDIS_URL": redis.url, "DATABASE_URL": database.url}
        migrate(**variables)
        both = [Process(DAPHNE, listening, **HASTY, **variables) for _ in range(2)]
        terms = Terms(lasting=True)
        yield stack.enter_context(_started(House(terms, both, redis, database)))


@contextmanager
def _started(house: House) -> Iterator[House]:
    try:
        for process in house.processes:
            process.start()
        yield house
        wrong = house.close()
        assert not wrong, wrong
    finally:
        for process in house.processes:
            process.kill()
