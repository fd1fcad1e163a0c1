"""Private messages in the Django deployment: across processes, and when something is in the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.exceptions import ChannelFull
from channels.layers import get_channel_layer
from django_client import run_async
from site_member import until

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Format
from broadcast_server.rooms.participant import Participant
from django_site import models
from django_site.replication import private_messages
from django_site.replication.private_messages import MAX_QUEUED
from django_site.replication.replica import RoomReplica
from django_site.replication.replica_registry import ReplicaRegistry

ROOM = "private"


class Client:
    """A member of a replica, with the connection that it is sent events on."""

    encode = staticmethod(bytes.decode)

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        self.events: list[dict[str, Any]] = []
        self.code: int | None = None
        self.replica: RoomReplica
        self.participant: Participant

    async def join(self, registry: ReplicaRegistry) -> None:
        """Join the room in the process of *registry*."""
        self.replica = await registry.get(ROOM)
        join = JoinRequest(self.name, ROOM, format=Format.JSON)
        self.participant = await self.replica.admit(join, None, f"of-{self.name}", self)

    def leave(self) -> None:
        """Leave the room."""
        self.replica.leave_roster(self.participant, f"of-{self.name}")

    def send(self, to: str, *texts: str) -> None:
        """Send private messages to *to*, each with its text as the id."""
        requests = [{"type": "private", "to": to, "text": each, "id": each} for each in texts]
        self.replica.receive(self.participant, "\n".join(map(json.dumps, requests)))

    def write(self, frames: Iterable[str]) -> None:
        """Take frames."""
        self.events += [json.loads(line) for frame in frames for line in frame.split("\n")]

    def close(self, code: int, reason: str) -> None:
        """Be closed."""
        self.code = code

    def texts(self) -> list[tuple[str, str]]:
        """Return the sender and the text of each private message."""
        return [(each["name"], each["text"]) for each in self.events if each["type"] == "private"]

    async def answer(self, id: str) -> dict[str, Any]:
        """Return the answer to the message *id*."""
        await until(lambda: any(each.get("id") == id for each in self.events), id)
        return next(each for each in self.events if each.get("id") == id)

    async def error(self, id: str) -> tuple[str, str]:
        """Return the code and the text of the error that answers the message *id*."""
        answer = await self.answer(id)
        return answer["code"], answer["text"]


@asynccontextmanager
async def two_processes() -> AsyncIterator[tuple[Client, Client]]:
    """Two processes with alice and bob, as far as the replicas can tell."""
    registries = ReplicaRegistry(), ReplicaRegistry()
    clients = Client("alice"), Client("bob")
    try:
        for client, registry in zip(clients, registries, strict=True):
            await client.join(registry)
        yield clients
    finally:
        for client in clients:
            client.leave()
        for registry in registries:
            await registry.stop()


def play(part: Callable[[Client, Client], Awaitable[None]]) -> None:
    """Play *part* with alice and bob in two processes."""

    async def whole() -> None:
        async with two_processes() as (alice, bob):
            await part(alice, bob)

    run_async(whole)


@pytest.fixture
def change_layer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Return a function that puts *change*, with the layer's own `send`, in the place of `send`."""

    def change(changed: Callable[..., Any]) -> None:
        layer = get_channel_layer()
        assert layer is not None
        send = layer.send

        async def instead(channel: str, content: dict[str, Any]) -> None:
            if channel.startswith("broadcast.private."):
                await changed(send, channel, content)
            else:
                await send(channel, content)

        monkeypatch.setattr(layer, "send", instead)

    return change


def test_across_processes() -> None:
    """Messages of one sender arrive once, in order, and are confirmed by copies; none is kept."""
    texts = [f"secret-{number}" for number in range(8)]

    async def part(alice: Client, bob: Client) -> None:
        alice.send("B0b", *texts)
        await alice.answer(texts[-1])
        assert alice.texts() == bob.texts() == [("alice", text) for text in texts]
        assert all("id" not in each for each in bob.events if each["type"] == "private")
        bob.send("alice", "back")
        assert (await bob.answer("back"))["to"] == "alice"
        await until(lambda: alice.texts()[-1] == ("bob", "back"), "an answer")
        alice.send("carol", "nobody")
        text = "carol is not here, the message was not sent"
        assert await alice.error("nobody") == ("not_here", text)
        count = await asyncio.to_thread(models.Message.objects.filter(room__name=ROOM).count)
        assert count == 0

    play(part)


def test_a_channel_layer_that_repeats(change_layer: Callable[..., None]) -> None:
    """What the channel layer delivers twice, the recipient gets once."""

    async def twice(send: Any, channel: str, content: dict[str, Any]) -> None:
        await send(channel, content)
        await send(channel, content)

    async def part(alice: Client, bob: Client) -> None:
        change_layer(twice)
        alice.send("bob", "a", "b")
        assert (await alice.answer("b"))["type"] == "private"
        assert bob.texts() == [("alice", "a"), ("alice", "b")]

    play(part)


def test_a_channel_layer_that_fails(
    monkeypatch: pytest.MonkeyPatch, change_layer: Callable[..., None]
) -> None:
    """The sender is told what is known: not delivered, or that this cannot be known."""
    monkeypatch.setattr(private_messages, "ANSWER_TIMEOUT_S", 0.5)
    state = {"now": "drops"}

    async def fail(send: Any, channel: str, content: dict[str, Any]) -> None:
        match state["now"], content["type"]:
            case "drops", _:
                return
            case "drops answers", "private.answer":
                return
            case "is full", _:
                raise ChannelFull
            case "breaks", _:
                raise ConnectionError("no Redis")
        await send(channel, content)

    async def part(alice: Client, bob: Client) -> None:
        change_layer(fail)
        unknown = "bob may not have got the message: no answer within 0.5 seconds"
        for now, code, text in (
            ("drops", "not_confirmed", unknown),
            ("drops answers", "not_confirmed", unknown),
            ("breaks", "not_confirmed", unknown),
            ("is full", "not_delivered", "bob did not get the message: its connection"),
        ):
            state["now"] = now
            alice.send("bob", now)
            found = await alice.error(now)
            assert found[0] == code and found[1].startswith(text), (now, found)
        assert bob.texts() == [("alice", "drops answers")]
        state["now"] = ""
        alice.send("bob", "works")
        assert (await alice.answer("works"))["type"] == "private"

    play(part)


def test_connections_that_take_nothing() -> None:
    """A recipient whose connection takes nothing gets nothing, and the sender is told so."""

    async def part(alice: Client, bob: Client) -> None:
        bob.paused = True
        alice.send("bob", "x")
        reason = "its connection takes nothing just now, try again in a moment"
        assert await alice.error("x") == ("not_delivered", f"bob did not get the message: {reason}")
        bob.paused = False
        alice.paused = True
        alice.send("bob", "y")
        alice.paused = False
        assert (await alice.error("y"))[0] == "not_delivered"
        alice.send("bob", *map(str, range(MAX_QUEUED + 4)))
        answers = [await alice.answer(str(number)) for number in range(MAX_QUEUED + 4)]
        refused = [each["id"] for each in answers if each["type"] == "error"]
        assert refused == [str(MAX_QUEUED + number) for number in range(4)]
        assert bob.texts() == [("alice", str(number)) for number in range(MAX_QUEUED)]

    play(part)


def test_a_sender_that_was_removed() -> None:
    """A member that was removed sends nothing more, even before its process knows that."""

    async def part(alice: Client, bob: Client) -> None:
        row = models.Member.objects.filter(room__name=ROOM, name="alice")
        await asyncio.to_thread(row.update, end_code=4503, end_fault="banned", end_text="banned")
        alice.send("bob", "x")
        # A poll of the room may find the end before the message is looked at.
        await until(lambda: alice.code or any(each.get("id") == "x" for each in alice.events), "x")
        if alice.code is None:
            assert (await alice.error("x"))[0] == "lost_sight"
        assert bob.texts() == []

    play(part)
