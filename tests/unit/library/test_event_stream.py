"""The event stream: events for one iteration of a program, and the count of what it lost."""

from __future__ import annotations

import asyncio

import pytest
from client_harness import play

from broadcast_server import Gap, Joined, Members, Message
from broadcast_server.library import event_queue
from broadcast_server.library.event_stream import EventStream

MANY = 16


def said(seq: int, room: str = "a") -> Message:
    """Return message number *seq* in *room*."""
    return Message(room, seq, "ann", str(seq), "", own=False, epoch="ep")


def new_stream() -> EventStream:
    """Return a stream of rooms in which ann is."""
    return EventStream(lambda room: Members(room, ("ann",), 1))


async def steps() -> None:
    """Let all tasks run until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_an_iteration_waits_for_events() -> None:
    """It gets what comes while it waits, and ends while it waits."""

    async def scenario() -> None:
        stream = new_stream()
        for number in range(2):
            waiting = asyncio.ensure_future(anext(stream))
            await steps()
            assert not waiting.done()
            stream.put([said(number)])
            assert await waiting == said(number)
        ending = asyncio.ensure_future(anext(stream, None))
        await steps()
        assert not ending.done()
        stream.end()
        assert await ending is None
        assert await anext(stream, None) is None

    play(scenario)


def test_what_waits_comes_before_the_end() -> None:
    """A server that has stopped loses nothing that was waiting."""

    async def scenario() -> None:
        stream = new_stream()
        stream.put([said(1), said(2)])
        stream.end()
        assert [event async for event in stream] == [said(1), said(2)]

    play(scenario)


def test_what_is_dropped_is_counted_until_nearly_all_was_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One gap stands for all of it. Of joins and leaves there is no count, but the members."""
    monkeypatch.setattr(event_queue, "MAX_WAITING_EVENTS", MANY)

    async def scenario() -> None:
        stream = new_stream()
        for number in range(MANY - 1):
            stream.put([said(number)])
        stream.put([said(MANY - 1), said(MANY)])  # a batch is not divided
        stream.put([said(MANY + 1), Joined("b", "bob", 2, verified=False)])
        taken = [await anext(stream) for _ in range(MANY - 2)]
        stream.put([said(MANY + 2)])  # there would be room, but it would come before the gap
        taken += [await anext(stream) for _ in range(3)]
        assert taken == [said(number) for number in range(MANY + 1)]
        stream.put([said(MANY + 3)])
        assert [await anext(stream) for _ in range(4)] == [
            Gap("a", 2),
            Members("a", ("ann",), 1),
            Members("b", ("ann",), 1),
            said(MANY + 3),
        ]

    play(scenario)
