"""Names after a restart: every client comes back under the name that it had."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from client_harness import RecordingSink
from deployments import INSTALLED, ServedDeployment
from programs import running, until
from restarted import Restarted

from broadcast_server.client.client import ClientTimeouts, ReconnectingClient
from broadcast_server.client.session import ClientSession
from broadcast_server.console.time_limit import run_within

RESTARTS = signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL
"""The signals with which a server is ended, one after the other."""

PATIENCE_S = 20.0

KINDS = ("memory", "logged", "daphne")


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Restarted]:
    """Each kind of server in turn."""
    with ExitStack() as stack:
        yield Restarted(request.param, stack)


@dataclass(frozen=True)
class Delays(ClientTimeouts):
    """Delays in an order that changes with each attempt, so that anyone may be the first."""

    def delay(self, attempt: int) -> float:
        """Return a delay that is short or long."""
        return random.choice((0.01, 0.1, 0.3))


@asynccontextmanager
async def client_of(url: str, name: str) -> AsyncIterator[ReconnectingClient]:
    """A client that is in the room inside the block."""
    client = ReconnectingClient(url, {}, ClientSession(name, "ops"), timeouts=Delays())
    running = asyncio.ensure_future(client.run(RecordingSink()))
    try:
        await confirmed(client)
        yield client
    finally:
        client.leave()
        await running


async def confirmed(*clients: ReconnectingClient) -> None:
    """Have each client publish a message, and wait until it is confirmed."""
    for client in clients:
        client.send("here")
    waiting = asyncio.gather(*(client.wait_confirmed() for client in clients))
    await run_within(waiting, PATIENCE_S)


def test_nobody_swaps_names(server: Restarted) -> None:
    """However the server ends, and in whatever order its clients return, names stay."""

    async def part() -> None:
        async with (
            client_of(server.url, "max") as one,
            client_of(server.url, "max") as two,
            client_of(server.url, "max") as three,
            client_of(server.url, "MAX") as four,
        ):
            clients = one, two, three, four
            names = [client.session.name for client in clients]
            assert names == ["max", "max-2", "max-3", "MAX-4"]
            for number in RESTARTS:
                await server.restart(number)
                await confirmed(*clients)
                assert [client.session.name for client in clients] == names

    asyncio.run(part())


def test_pipes_keep_their_names(server: Restarted) -> None:
    """Two pipes of one name publish under the same two names before and after each restart."""
    pipe = (*INSTALLED, "connect", server.url, "--room", "ops", "--name", "max", "--listen")
    with running(*pipe) as one:
        one.say("one\n")
        until(lambda: "one" in one.output, "one")
        with running(*pipe) as two:
            two.say("two\n")
            until(lambda: "max-2: two" in two.output, "two")
            for round in range(2):
                server.stop(signal.SIGTERM)
                server.start()
                one.say(f"one {round}\n")
                two.say(f"two {round}\n")
                wanted = {f"max: one {round}", f"max-2: two {round}"}
                until(lambda: wanted <= {*two.lines}, str(wanted))  # noqa: B023  # called at once


def test_a_stranger_does_not_get_a_name_first(server: Restarted) -> None:
    """If the server can remember, a stranger who comes first after a restart gets a number."""
    if server.kind == "memory":
        pytest.skip("a server without a log knows nothing of its clients after a restart")
    target = "/?name=bob&room=ops"
    one, two = f"{target}&session=0123456789abcdef", f"{target}&session=fedcba9876543210"

    async def join(*targets: str) -> list[str]:
        names = []
        for each in targets:
            client = await deployment.open(each, as_json=True)
            names.append(json.loads(await client.line())["name"])
        return names

    async def play(number: int) -> None:
        assert await join(one, two) == ["bob", "bob-2"]
        await server.restart(number)
        assert await join(target, two, one) == ["bob-3", "bob-2", "bob"]
        await deployment.close()

    # A log file has the names only if the server could stop; the database has them anyway.
    for number in [signal.SIGTERM] if server.kind == "logged" else [signal.SIGKILL, signal.SIGTERM]:
        deployment = ServedDeployment(server.url)
        asyncio.run(play(number))
