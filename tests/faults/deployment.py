"""Deployments under fault injection: processes and services that are stopped, killed and frozen."""

from __future__ import annotations

import asyncio
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from conftest import DAPHNE
from programs import Running, assert_quiet, listening, running, until
from services import PostgreSQL, Redis, postgresql_server, redis_server, site_folder

from .clients import Recorder
from .history import ProcessFault, Restarted, Terms
from .plan import SERVER_FAULTS, Fault, FaultKind
from .proxy import Address

DEAD_AFTER_S = "3"
"""Seconds after which a Django process counts as dead: short, so that it happens in a run."""

FAST_TIMEOUTS = {"BROADCAST_DEAD": DEAD_AFTER_S, "BROADCAST_RATE": "0"}


class Process:
    """A server process that can be started again. *where* returns its URL."""

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
        """Start the server until it listens, as a supervisor would."""
        program = self._once()
        while program.process.poll() is not None:  # a service that it needs is down
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

    def stop(self, number: signal.Signals) -> str:
        """Send a signal and wait for the end. Return what went wrong, or an empty string."""
        assert self._running is not None
        program, self._running = self._running, None
        self.address = None
        process, problem = program.process, ""
        process.send_signal(number)
        code = process.wait(30)
        if number is signal.SIGTERM and code != 0:
            problem = f"it ended with {code} after SIGTERM"
        try:
            assert_quiet(program.errors)
        except AssertionError:
            problem += f" it printed: {program.errors[-3000:]}"
        self._stack.close()
        return problem

    def freeze(self) -> None:
        """Freeze the process with SIGSTOP."""
        if self._running is not None:
            self._running.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the frozen process."""
        if self._running is not None:
            self._running.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process, whatever state it is in."""
        self._stack.close()


class Deployment:
    """A deployment: its server processes, numbered from 0, and its services."""

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
    def has_services(self) -> bool:
        """Whether the deployment has a Redis and a PostgreSQL."""
        return self._redis is not None

    def choose_address(self, random: Random) -> Address | None:
        """Return the address of a random process, None if that process is down."""
        return random.choice(self.processes).address

    async def inject(self, fault: Fault, record: Recorder) -> bool:
        """Inject *fault*, and return after it ended; False if its target has a fault already."""
        target = self._target(fault)
        lock = self._locks.setdefault(target, asyncio.Lock())
        if target is None or lock.locked():
            return False
        async with lock:
            match target:
                case Process():
                    await self._disturb_process(target, fault, record)
                case Redis():
                    await self._disturb_redis(target, fault)
                case PostgreSQL():
                    await asyncio.to_thread(target.kill)
                    await asyncio.sleep(fault.seconds)
                    await asyncio.to_thread(target.start)
        return True

    def _target(self, fault: Fault) -> Process | Redis | PostgreSQL | None:
        if fault.kind in SERVER_FAULTS:
            return self.processes[int(fault.target)]
        return self._database if fault.kind is FaultKind.POSTGRESQL_KILL else self._redis

    async def _disturb_process(self, process: Process, fault: Fault, record: Recorder) -> None:
        if fault.kind is FaultKind.FREEZE:
            process.freeze()
            await asyncio.sleep(fault.seconds)
            process.thaw()
            return
        number = signal.SIGTERM if fault.kind is FaultKind.STOP else signal.SIGKILL
        record(Restarted)
        problem = await asyncio.to_thread(process.stop, number)
        if problem:
            record(ProcessFault, f"server {fault.target}: {problem}")
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(process.start)

    async def _disturb_redis(self, redis: Redis, fault: Fault) -> None:
        if fault.kind is FaultKind.REDIS_FREEZE:
            redis.freeze()
            await asyncio.sleep(fault.seconds)
            redis.thaw()
            return
        await asyncio.to_thread(redis.stop)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(redis.start)

    def close(self) -> list[str]:
        """Stop all processes, and return what went wrong."""
        return [problem for each in self.processes if (problem := each.stop(signal.SIGTERM))]


@contextmanager
def file_deployment(
    program: tuple[str, ...], *options: str, durable: bool = False, kept_messages: int | None = None
) -> Iterator[Deployment]:
    """Run the standalone server, by the command *program*, with *options* of ``start``.

    It has no rate: the load is as fast as it can be, as in the other deployments.
    """
    command = *program, "start", "--port", "0", "--rate", "0", *options
    process = Process(command, lambda running: running.url)
    with _started(Deployment(Terms(durable, kept_messages), [process])) as deployment:
        yield deployment


@contextmanager
def daphne_deployment() -> Iterator[Deployment]:
    """Run the Django deployment under Daphne, on its embedded SQLite database."""
    with tempfile.TemporaryDirectory() as data:
        process = Process(DAPHNE, listening, BROADCAST_DATA=site_folder(data), **FAST_TIMEOUTS)
        with _started(Deployment(Terms(durable=True), [process])) as deployment:
            yield deployment


@contextmanager
def cluster_deployment() -> Iterator[Deployment]:
    """Run two Django processes that share a Redis and a PostgreSQL."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(redis_server())
        database = stack.enter_context(postgresql_server(Path(folder, "postgresql")))
        variables = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": database.url,
            "SECRET_KEY": secrets.token_urlsafe(48),
        }
        both = [Process(DAPHNE, listening, **FAST_TIMEOUTS, **variables) for _ in range(2)]
        terms = Terms(durable=True)
        yield stack.enter_context(_started(Deployment(terms, both, redis, database)))


@contextmanager
def _started(deployment: Deployment) -> Iterator[Deployment]:
    try:
        for process in deployment.processes:
            process.start()
        yield deployment
        problems = deployment.close()
        assert not problems, problems
    finally:
        for process in deployment.processes:
            process.kill()
