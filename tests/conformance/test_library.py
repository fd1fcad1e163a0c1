"""The bot of the documentation against each kind of server, which is killed under it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
from conftest import DAPHNE, Processes
from deployments import zipped
from faults.proxy import ClientProxy
from programs import PATIENCE, ROOT, Running, listening, running
from restarted import Restarted
from services import free_port

from broadcast_server import ClientRoom, Disconnected, Gap, Message, connect
from broadcast_server.console.time_limit import run_within

PINGS = 24
KILLED_AFTER = 9
"""The server is killed after so many pings, while further ones are under way."""


class Killable:
    """A server that is killed, and that clients find at the same address afterwards."""

    def __init__(self, url: str, kill: Callable[[], None]) -> None:
        self.url = url
        self.kill = kill


def killable_zipapp(stack: ExitStack, path: Path, log: Path) -> Killable:
    """The single file with a log file, which is started again on the same port."""
    port = str(free_port())
    command = (*zipped(path), "start", "--port", port, "--log", str(log), "--rate", "0")

    def start() -> Running:
        server = stack.enter_context(running(*command))
        assert server.url
        return server

    first = start()

    def kill() -> None:
        assert first.signal(signal.SIGKILL) == -signal.SIGKILL
        start()

    return Killable(first.url, kill)


def killable_daphne(stack: ExitStack) -> Killable:
    """One Daphne over SQLite, which is started again on the same port."""
    site = Restarted("daphne", stack, BROADCAST_RATE="0")

    def kill() -> None:
        site.stop(signal.SIGKILL)
        site.start()

    return Killable(site.url, kill)


async def ping(room: ClientRoom, kill: Callable[[], None]) -> None:
    """Send pings, one after the other, and kill the server meanwhile."""
    killing: asyncio.Future[None] | None = None
    for number in range(PINGS):
        if number == KILLED_AFTER:
            killing = asyncio.ensure_future(asyncio.to_thread(kill))
        sent = await room.send("ping")
        assert sent.text == "ping"
    assert killing is not None
    await killing


async def heard(room: ClientRoom) -> list[Message]:
    """Return all messages up to the last pong. None may be missing, over a broken connection."""
    found: list[Message] = []
    was_disconnected = False
    async for event in room.events():
        was_disconnected |= isinstance(event, Disconnected)
        assert not isinstance(event, Gap)
        if isinstance(event, Message):
            found.append(event)
            if Counter(each.text for each in found)["pong"] == PINGS:
                assert was_disconnected
                return found
    raise AssertionError(found)


async def check_bot(url: str, url_of_bot: str, kill: Callable[[], None]) -> None:
    """Check that each ping gets one answer, and that everything has its place in one order."""
    with running(sys.executable, "-W", "error", str(ROOT / "examples/bot.py"), url_of_bot) as bot:
        async with connect(url, name="ann", room="ops") as ann:
            while "bot" not in ann.members:
                await ann.receive_event()
            hearing = asyncio.ensure_future(heard(ann))
            await ping(ann, kill)
            found = await run_within(hearing, PATIENCE)
            assert Counter((each.name, each.text) for each in found) == {
                ("ann", "ping"): PINGS,
                ("bot", "pong"): PINGS,
            }
            assert [each.seq for each in found] == [*range(1, 2 * PINGS + 1)]
        bot.process.send_signal(signal.SIGINT)
        bot.process.wait(PATIENCE)
        assert bot.errors.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize("kind", ["zipapp", "daphne"])
def test_the_bot_survives_its_server(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A server that is killed and started again loses no ping and no answer."""
    with ExitStack() as stack:
        if kind == "zipapp":
            path = request.getfixturevalue("zipapp_path")
            server = killable_zipapp(stack, path, tmp_path / "log")
        else:
            server = killable_daphne(stack)
        asyncio.run(check_bot(server.url, server.url, server.kill))


def test_the_bot_moves_to_the_other_daphne(cluster: list[str], processes: Processes) -> None:
    """If one of two processes is killed, the bot continues in the other one, and so does ann."""
    with ExitStack() as stack:
        sites = [
            stack.enter_context(running(*DAPHNE, **processes.services, BROADCAST_RATE="0"))
            for _ in range(2)
        ]
        places = [urlsplit(listening(site)) for site in sites]

        def living() -> tuple[str, int]:
            """Return where a load balancer would connect to: the first one that lives."""
            place = places[0] if sites[0].process.poll() is None else places[1]
            return str(place.hostname), place.port or 0

        def kill() -> None:
            assert sites[0].signal(signal.SIGKILL) == -signal.SIGKILL

        async def scenario() -> None:
            balancer = ClientProxy(living, Random(1))
            url = await balancer.listen()
            await check_bot(url, url, kill)
            await balancer.close()

        asyncio.run(scenario())
        assert sites[1].signal(signal.SIGTERM) == 0
