"""Cancellation: wherever a program is cancelled, its client leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from client_harness import SHORT_TIMEOUTS, deployment, play

from broadcast_server import connect, serve
from broadcast_server.library import async_connect
from broadcast_server.server.server import Server


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect at once: the servers of these tests are in the same process."""
    monkeypatch.setattr(async_connect, "TIMEOUTS", SHORT_TIMEOUTS)


class Suspensions:
    """Counts the moments at which any task is suspended, and cancels at one of them.

    It cancels one task, or with *everything* all of them, as Python 3.10 does after Ctrl+C.
    """

    def __init__(self, at: int, *, everything: bool) -> None:
        self._left = at
        self._everything = everything
        self._tasks: set[asyncio.Task[Any]] = set()
        self.victim: asyncio.Task[None] | None = None

    def create_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task, as a loop's task factory, whose suspensions are counted."""
        task = asyncio.Task(self._counted(coro), loop=loop, **options)
        self._tasks.add(task)
        return task

    async def _counted(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return await self._forwarded(coro)

    @types.coroutine
    def _forwarded(self, coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        try:
            awaited = coro.send(None)
            while True:
                self._suspended()
                try:
                    result = yield awaited
                except BaseException as error:
                    awaited = coro.throw(error)
                else:
                    awaited = coro.send(result)
        except StopIteration as stop:
            return stop.value

    def _suspended(self) -> None:
        if self.victim is not None:
            self._left -= 1
            if self._left == 0:
                for task in self._tasks if self._everything else {self.victim}:
                    asyncio.get_running_loop().call_soon(task.cancel)


FILES = Path("/proc/self/fd")


def open_files() -> int:
    """Return how many files this process has open."""
    return len([*FILES.iterdir()])


async def settled(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("something is left behind")


async def chat(url: str, server: Server, *, broken: bool) -> None:
    """Do everything that a client can do, over a *broken* connection too."""
    async with connect(url, name="bot") as room:
        await room.send("a")
        await room.receive()
        if broken:
            server.abort()
        await room.send("b")
        await room.rename("other")
        await room.receive()


async def cancelled_at(at: int, url: str, server: Server, kind: str) -> bool:
    """Cancel `chat`, of a *kind*, at a suspension. Return whether it had ended."""
    loop = asyncio.get_running_loop()
    suspensions, tasks = Suspensions(at, everything=kind == "everything"), asyncio.all_tasks()
    loop.set_task_factory(suspensions.create_task)
    try:
        victim = suspensions.victim = asyncio.ensure_future(
            chat(url, server, broken=kind != "whole")
        )
        await asyncio.wait({victim})
    finally:
        loop.set_task_factory(None)
    await settled(lambda: asyncio.all_tasks() == tasks)
    if not victim.cancelled():
        victim.result()
    return not victim.cancelled()


@pytest.mark.skipif(not FILES.exists(), reason="counts open files on Linux")
@pytest.mark.parametrize("kind", ["whole", "broken", "everything"])
def test_a_client_that_is_cancelled_leaves_nothing_behind(kind: str) -> None:
    """At each moment: no task, no open file, no member, and no name that nobody else can have.

    The server keeps the name of a client whose connection was broken, whatever the client does.
    """

    async def scenario() -> None:
        async with deployment() as (server, url):
            await chat(url, server, broken=False)
            await settled(lambda: not server._connections)
            before = open_files()
            for at in range(1, 1000):
                has_ended = await cancelled_at(at, url, server, kind)
                await settled(lambda: not server._connections and open_files() == before)
                assert len(server._rooms) == 0, at
                kept = [each.name for each in server._rooms._kept_names]
                assert kind != "whole" or kept == [], at
                if has_ended:
                    assert at > 25
                    return

    play(scenario)


async def host() -> None:
    """Do everything that a server in a program can do."""
    async with serve(port=0, grace=1) as server:
        events = server.events()
        async with connect(server.url, name="bot"):
            await server.broadcast("lobby", "x")
            await anext(events)


@pytest.mark.skipif(not FILES.exists(), reason="counts open files on Linux")
@pytest.mark.parametrize("everything", [False, True])
def test_a_server_that_is_cancelled_leaves_nothing_behind(everything: bool) -> None:
    """At each moment of starting, publishing and stopping: no task, and no open file."""

    async def scenario() -> None:
        await host()
        loop, tasks, before = asyncio.get_running_loop(), asyncio.all_tasks(), open_files()
        for at in range(1, 1000):
            suspensions = Suspensions(at, everything=everything)
            loop.set_task_factory(suspensions.create_task)
            try:
                victim = suspensions.victim = asyncio.ensure_future(host())
                await asyncio.wait({victim})
            finally:
                loop.set_task_factory(None)
            await settled(lambda: asyncio.all_tasks() == tasks and open_files() == before)
            if not victim.cancelled():
                victim.result()
                assert at > 15
                return

    play(scenario)


def test_a_cancelled_wait_loses_no_message() -> None:
    """A program can give up waiting, and gets the next message later."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as ann:
            async with connect(url, name="bob") as bob:
                await asyncio.sleep(0)
                for number in range(30):
                    waiting = asyncio.ensure_future(ann.receive())
                    sending = asyncio.ensure_future(bob.send(str(number)))
                    for _ in range(number):
                        await asyncio.sleep(0)
                    waiting.cancel()
                    await asyncio.wait({waiting, sending})
                    if waiting.cancelled():
                        assert (await ann.receive()).text == str(number)
                    else:
                        assert waiting.result().text == str(number)

    play(scenario)


def test_a_cancelled_message_is_not_sent_later() -> None:
    """A message that was withdrawn before it was sent is not published after a reconnect."""

    async def scenario() -> None:
        async with deployment() as (server, url), connect(url, name="ann") as ann:
            server.abort()
            sending = asyncio.ensure_future(ann.send("withdrawn"))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait({sending})
            assert (await ann.send("kept")).seq == 1
            assert (await ann.receive()).text == "kept"
            assert len(ann._core.session) == 0

    play(scenario)


def test_a_message_that_is_cancelled_too_late() -> None:
    """Its echo comes as that of any own message, and nobody waits for it."""

    async def scenario() -> None:
        async with deployment() as (_, url), connect(url, name="ann") as ann:
            await settled(lambda: ann._core.session.live)
            sending = asyncio.ensure_future(ann.send("on its way"))
            await asyncio.sleep(0)
            while ann._core.session._unsent:  # noqa: ASYNC110
                await asyncio.sleep(0)  # the server's answer needs more turns of the loop
            sending.cancel()
            await asyncio.wait({sending})
            assert sending.cancelled()
            message = await ann.receive()
            assert (message.text, message.own) == ("on its way", True)
            assert (await ann.send("next")).seq == 2

    play(scenario)


def test_a_cancellation_together_with_the_end() -> None:
    """The error that nobody gets any more is not logged by asyncio either."""

    async def scenario() -> None:
        logged: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        async with deployment() as (server, url):
            room = await connect(url, name="ann")
            server.abort()
            sending = asyncio.ensure_future(room.send("x"))
            await settled(lambda: room._core._answers)
            room._core._leave()
            sending.cancel()
            await asyncio.wait({sending})
            assert sending.cancelled()
            await room.close()
        gc.collect()
        assert logged == []

    play(scenario)
