"""The talk: from room to room, and what becomes of what was said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from houses import serving
from test_client import house, play
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from broadcast_server.client import Client, Pace
from broadcast_server.conversation import Conversation
from broadcast_server.gate import Limits
from broadcast_server.protocol import SUBPROTOCOL, Event
from broadcast_server.screen import Line, lines
from broadcast_server.server import Settings
from broadcast_server.status import Status
from broadcast_server.talk import ROOMS, Talk

SOON = Pace(first=0.05, longest=0.1)


class Person(Talk):
    """Someone who remembers what was shown, without the times."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, bell=True)
        self.seen: list[str] = []
        self.rang = 0
        self._done = asyncio.Event()
        self._news = asyncio.Event()

    async def sees(self, *wanted: str) -> None:
        """Wait until these were the last lines."""
        await self.until(lambda: self.seen[-len(wanted) :] == [*wanted])

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""

        async def wait() -> None:
            while not condition():
                self._news.clear()
                await self._news.wait()

        try:
            await asyncio.wait_for(wait(), 10)
        except asyncio.TimeoutError:
            raise AssertionError(self.seen) from None

    def tell(self, text: str) -> None:
        self._print([[("", text)]])

    def _print(self, found: list[Line]) -> None:
        texts = ("".join(text for _, text in line) for line in found)
        self.seen += [text[9:] if text[2:3] == ":" else text for text in texts]
        self._news.set()

    def _lines(self, event: Event, me: str, *, again: bool) -> list[Line]:
        return lines(event, me, again=again)

    def _greeting(self) -> list[Line]:
        return []

    async def _ask(self) -> None:
        await self._done.wait()

    def _finish(self) -> None:
        self._done.set()

    def _clear(self) -> None:
        self.seen.clear()

    def _ring(self) -> None:
        self.rang += 1

    def _changed(self) -> None:
        self._news.set()


@asynccontextmanager
async def person(url: str, name: str, room: str = "lobby") -> AsyncIterator[Person]:
    """Someone in a room, who leaves it well."""
    one = Person(Client(url, {}, Conversation(name, room), SOON))
    staying = asyncio.ensure_future(one.run())
    try:
        yield one
    finally:
        one.entered("/quit")
        assert await staying == 0


def test_what_is_said_reaches_the_room_it_was_meant_for() -> None:
    """However fast one goes from room to room, a line is said where it was typed."""

    async def part() -> None:
        async with (
            house() as (_, url),
            person(url, "bob", "a") as bob,
            person(url, "cy", "b") as cy,
        ):
            await bob.sees("-- you are bob in a, 1 here: bob --")
            await cy.sees("-- you are cy in b, 1 here: cy --")
            async with person(url, "ann", "a") as ann:
                await ann.sees("-- you are ann in a, 2 here: bob, ann --")
                for text in ("one", "/room b", "two", "/room a", "three", "/room b", "four"):
                    ann.entered(text)
                await cy.sees("  ann joined the chat", "  ann: two", "  ann: four")
                await bob.sees(
                    "  ann joined the chat", "  ann: one", "  ann: three", "  ann left the chat"
                )
                await ann.sees("> ann: two", "> ann: four")
                assert not any("not said" in line for line in ann.seen)
                ann.entered("/room a")
                await bob.sees("  ann left the chat", "  ann joined the chat")
                # A new name goes along, also into rooms that were left under another.
                ann.entered("/name anna")
                await bob.sees("  ann is now anna")
                ann.entered("/room b")
                await cy.sees("  ann left the chat", "  anna joined the chat")
                assert ann.rooms == ["a"]

    play(part)


def test_a_room_that_is_closed_to_one() -> None:
    """Where one may not come in one is told why, and is back where one came from."""

    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        query = {
            key: value[0]
            for key, value in parse_qs(urlsplit(connection.request.path).query).items()
        }
        if query["room"] == "shut":
            await connection.send('{"type":"error","code":"closed","text":"shut is closed"}')
            await connection.close(4503)
            return
        welcome = {"type": "welcome", "room": query["room"], "name": query["name"], "epoch": "e"}
        more = {"seq": 0, "recovered": True, "missed": 0, "count": 1, "members": ["ann"]}
        await connection.send(json.dumps(welcome | more))
        async for frame in connection:
            asked = json.loads(frame)
            if asked["type"] == "ping":
                await connection.send(json.dumps({"type": "pong", "id": asked["id"]}))

    async def part() -> None:
        async with serve(talk, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
            port = server.sockets[0].getsockname()[1]
            one = Person(Client(f"ws://127.0.0.1:{port}/", {}, Conversation("ann", "a"), SOON))
            staying = asyncio.ensure_future(one.run())
            await one.sees("-- you are ann in a, 1 here: ann --")
            one.entered("/room shut")
            one.entered("for nobody")
            await one.sees(
                "no way into shut: shut is closed",
                "1 not said in shut, to be said when you are there again",
                "-- you are ann in a, 1 here: ann --",
            )
            assert one.status.room == "a" and one.status.connected
            one.entered("/quit")
            assert await staying == 1, "since one message came back nowhere"

    play(part)


def test_a_room_that_lets_nobody_in_yet() -> None:
    """What is said to a room that is full waits for it, and is not said where one goes instead."""

    async def part() -> None:
        settings = Settings(port=0, grace=1, limits=Limits(rooms=1))
        async with serving(settings) as server, person(server.url, "ann") as ann:
            url = server.url
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "bob") as bob:
                await bob.sees("-- you are bob in lobby, 2 here: ann, bob --")
                await ann.sees("  bob joined the chat")
                ann.entered("/room ops")
                ann.entered("for ops")
                await ann.until(lambda: ann.seen[-1].endswith("; 1 to be sent then"))
                assert ann.status == Status("ops", "ann", 2, connected=False, unsent=1)
                ann.entered("/who")
                assert ann.seen[-1] == "not connected: asked when we are"
                ann.entered("/room lobby")
                await ann.sees(
                    "1 not said in ops, to be said when you are there again",
                    "-- you are ann in lobby, 2 here: bob, ann --",
                )
            await ann.sees("  bob left the chat")
            ann.entered("/room ops")
            await ann.sees("-- you are ann in ops, 1 here: ann --", "> ann: for ops")
            assert not any("for ops" in line for line in bob.seen)

    play(part)


def test_rooms_that_were_left_are_bounded() -> None:
    """Of very many rooms the last are remembered, and those in which something is to be said."""

    async def part() -> None:
        one = Person(Client("ws://127.0.0.1:1/", {}, Conversation("ann", "a"), SOON))
        one.entered("kept")
        for number in range(ROOMS + 10):
            one.entered(f"/room r{number}")
        assert one.rooms[0] == "a"
        assert len(one.rooms) == ROOMS + 1
        await asyncio.sleep(0)  # so that nobody waits any more for what was said last

    play(part)


def test_the_bell_rests() -> None:
    """Who says a name again and again rings once."""

    async def part() -> None:
        async with house() as (_, url), person(url, "ann") as ann:
            await ann.sees("-- you are ann in lobby, 1 here: ann --")
            async with person(url, "bob") as bob:
                await bob.sees("-- you are bob in lobby, 2 here: ann, bob --")
                await ann.sees("  bob joined the chat")
                for number in range(3):
                    bob.entered(f"ann! {number}")
                    await bob.sees(f"> bob: ann! {number}")
                await ann.sees(*(f"  bob: ann! {number}" for number in range(3)))
                assert (ann.rang, bob.rang) == (1, 0)

    play(part)
