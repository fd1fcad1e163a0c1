"""The rate: it is one client's, however that client connects, and however often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest
from conftest import Player
from curl import post
from deployments import DeploymentClient, ServedDeployment
from wire import TEXT, Wire

RATE = 5
OPTIONS = (
    *("--rate", str(RATE)),
    # Each test is a client of its own address, so that none has used up what another one needs.
    *("--trusted-proxy", "127.0.0.1"),
    *("--max-clients-per-address", "100"),
)
BURST = 20 * RATE
"""How many tokens a client has at most, see `broadcast_server.admission.allowances`."""

_numbers = itertools.count(1)


def new_address() -> str:
    """Return the header of an address that no test has used."""
    number = next(_numbers)
    return f"X-Forwarded-For: 198.51.{number // 250}.{number % 250 + 1}"


class Share:
    """What one client may publish while this lasts, by the clock of the event loop."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._began = asyncio.get_running_loop().time()

    @property
    def most(self) -> float:
        """How many messages of up to 256 bytes one client may have published by now."""
        elapsed = asyncio.get_running_loop().time() - self._began
        return (BURST + RATE * elapsed) * self._processes + 1


async def published(listener: DeploymentClient, text: str = "x") -> int:
    """Count the messages of the others, from the first one to the answer to a message sent then."""
    count = 0
    while not (line := await listener.line()).endswith(": the end"):
        count += line.endswith(f": {text}")
        if count == 1 and line.endswith(f": {text}"):
            await listener.send("the end")
    return count


SESSIONS: dict[str, Callable[[int], str]] = {
    "one-session": lambda number: "&session=0123456789abcdef",
    "no-session": lambda number: "",
    "new-sessions": lambda number: f"&session=0123456789abc{number:03}",
    "alternating": lambda number: "&session=0123456789abcdef" * (number % 2),
}
JSON = "Sec-WebSocket-Protocol: broadcast.v1.json"


@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize(("line", "headers"), [("x", ()), ('{"type":"say","text":"x"}', (JSON,))])
def test_reconnecting_is_no_way_around_the_rate(
    any_server: Player, session: str, line: str, headers: tuple[str, ...]
) -> None:
    """A client that cuts its connection and connects again publishes no more than another.

    Each time it has sent more than it may. The server still has some of that when it is cut.
    """
    room, address = f"rate-{next(_numbers)}", new_address()

    async def part(deployment: ServedDeployment) -> None:
        listener = await deployment.open(f"/?name=ear&room={room}", as_json=False)
        share = Share(len(deployment._processes))
        for number in range(6):
            target = f"/?name=loud&room={room}{SESSIONS[session](number)}"
            wire = await Wire.open(deployment.next_url(), target, address, *headers)
            wire.send_frame(TEXT, "\n".join([line] * (2 * BURST)).encode())
            await wire.read_frame()
            wire.cut()
        assert await published(listener) <= share.most

    any_server.play_served(part, OPTIONS)


def test_several_rooms_are_no_way_around_the_rate(any_server: Player) -> None:
    """Connections of one session to several rooms at the same time share its rate."""

    async def part(deployment: ServedDeployment) -> None:
        address = new_address()
        rooms = [f"rate-{next(_numbers)}" for _ in range(6)]
        ears = [await deployment.open(f"/?name=ear&room={room}", as_json=False) for room in rooms]
        share = Share(len(deployment._processes))
        for room in rooms:
            target = f"/?name=loud&room={room}&session=0123456789abcdef"
            wire = await Wire.open(deployment.next_url(), target, address)
            wire.send_frame(TEXT, "\n".join(["x"] * (2 * BURST)).encode())
        assert sum([await published(ear) for ear in ears]) <= share.most

    any_server.play_served(part, OPTIONS)


def test_posts_are_no_way_around_the_rate(any_server: Player) -> None:
    """Posts share the rate of their session, and those of other sessions that of their address."""

    async def part(deployment: ServedDeployment) -> None:
        address = new_address()
        share = Share(1)  # of several processes, each has a rate of its own
        statuses: list[int] = []
        for start in range(0, 2 * BURST, 20):
            posts = [
                post(deployment.url, f"/?room=posts&session={number:016}", "x", address)
                for number in range(start, start + 20)
            ]
            statuses += [response.status for response in await asyncio.gather(*posts)]
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) <= share.most

    any_server.play_served(part, OPTIONS)


def test_long_messages_cost_more(any_server: Player) -> None:
    """A message costs as much as one for each 256 bytes of it, on a WebSocket and in a post."""

    async def part(deployment: ServedDeployment) -> None:
        room, address, long = f"rate-{next(_numbers)}", new_address(), "y" * 2047 + "x"
        listener = await deployment.open(f"/?name=ear&room={room}", as_json=False)
        share = Share(len(deployment._processes))
        for url in dict.fromkeys([deployment.next_url(), deployment.next_url()]):
            wire = await Wire.open(url, f"/?name=loud&room={room}", address)
            wire.send_frame(TEXT, "\n".join([long] * 60).encode())
        assert await published(listener, long) <= share.most / 8 + 1

    any_server.play_served(part, OPTIONS)


def test_a_rejected_line_costs_others_nothing(any_server: Player) -> None:
    """Lines that are far too long do not use up what their address may send."""

    async def part(deployment: ServedDeployment) -> None:
        address = new_address()
        for text in ["y" * 1_040_000, "x\n" + "y" * 1_040_000]:
            for _ in deployment._processes:
                room = f"rate-{next(_numbers)}"
                wire = await Wire.open(deployment.next_url(), f"/?name=loud&room={room}", address)
                wire.send_frame(TEXT, text.encode())
                while b"message is 1040000 bytes" not in (await wire.read_frame())[1]:
                    pass
                wire.cut()
        for number in range(len(deployment._processes)):
            target = f"/?room=posts&session=0123456789abc{number:03}"
            response = await post(deployment.next_url(), target, "x", address)
            assert response.status == 200

    any_server.play_served(part, OPTIONS)
