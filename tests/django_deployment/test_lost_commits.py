"""Commits whose answer is lost: the database has taken a transaction, and the replica is not told.

A replica then repeats what it wanted to write. Nothing may be in the log twice, or on the roster
for a connection that does not exist.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from channels.db import database_sync_to_async
from django.db import OperationalError, connections
from django_client import run_async
from site_member import until

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Format, Message
from broadcast_server.protocol.publish import Published, PublishRequest
from broadcast_server.rooms.participant import Participant
from django_site.asgi import application
from django_site.replication.replica import RoomReplica
from django_site.store import message_log, presence


class LineRecorder:
    """A receiver that records the lines it is sent."""

    paused = False
    encode = staticmethod(bytes.decode)

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, frames: Iterable[str]) -> None:
        self.lines += [line for frame in frames for line in frame.split("\n")]

    def close(self, code: int, reason: str) -> None:
        pass


@asynccontextmanager
async def commits_run(after: Callable[[], None]) -> AsyncIterator[None]:
    """Call *after* behind each commit of the connection that replicas use.

    Django gives a connection its own method for the commit, which this replaces for a while. All
    of a process's replicas use one connection, in one thread.
    """
    database = await database_sync_to_async(lambda: connections["default"])()
    commit = database._commit  # type: ignore[attr-defined]  # its stubs lack it

    def commit_and_call() -> None:
        commit()
        after()

    database._commit = commit_and_call  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del database._commit  # type: ignore[attr-defined]


class LostAnswers:
    """Raises an error behind the next *count* commits, as a connection that is cut then would."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self) -> None:
        if self.count:
            self.count -= 1
            raise OperationalError("server closed the connection unexpectedly")


async def join(replica: RoomReplica, name: str) -> tuple[Participant, LineRecorder]:
    """Make a text client a member, with its name as the id of its connection."""
    receiver = LineRecorder()
    request = JoinRequest(name=name, format=Format.TEXT)
    return await replica.admit(request, None, name, receiver), receiver


async def logged(replica: RoomReplica) -> list[tuple[int, str]]:
    """Return the numbers and texts that the log has."""
    entries = await database_sync_to_async(message_log.read)(replica.key, 0, 100)
    return [(each.seq, each.text) for each in entries if isinstance(each, Message)]


def test_a_message_whose_commit_was_not_confirmed_is_logged_once() -> None:
    """A message without an id is logged and delivered once, however often the answer is lost."""

    async def part() -> None:
        replica = await application.replicas.get("lost commit")
        alice, heard = await join(replica, "alice")
        for lost, text in ((1, "one"), (2, "two"), (0, "three")):
            lost_answers = LostAnswers(lost)
            async with commits_run(lost_answers):
                replica.receive(alice, text)
                await until(lambda: lost_answers.count == 0, "commits")  # noqa: B023
                replica.receive(alice, f"after {text}")
                await until(lambda: f"alice: after {text}" in heard.lines, text)  # noqa: B023
        texts = ["one", "after one", "two", "after two", "three", "after three"]
        assert await logged(replica) == list(enumerate(texts, 1))
        assert heard.lines == [f"alice: {text}" for text in texts]

    run_async(part)


def test_a_message_whose_synchronisation_was_cancelled_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A transaction that goes on in its thread, when nobody awaits it any more, counts as well."""

    async def part() -> None:
        replica = await application.replicas.get("cancelled")
        alice, heard = await join(replica, "alice")
        committed, cancelled = threading.Event(), threading.Event()

        def wait() -> None:
            committed.set()
            assert cancelled.wait(20)

        async with commits_run(wait):
            # As a client does that joins with a cursor, and is lost while it waits for it.
            async with replica._synchronizer._lock:
                replica.receive(alice, "one")
                waiting = asyncio.ensure_future(replica._synchronizer.sync())
                await asyncio.sleep(0)  # it is the first to get the lock
            await asyncio.to_thread(committed.wait, 20)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert waiting.cancelled()
            cancelled.set()
            await until(lambda: heard.lines, "the first message")
        replica.receive(alice, "two")
        await until(lambda: "alice: two" in heard.lines, "the second message")
        assert await logged(replica) == [(1, "one"), (2, "two")]
        assert heard.lines == ["alice: one", "alice: two"]

    run_async(part)
    assert caplog.text == "", "nothing was tried that the database rejects"


def test_a_post_whose_commit_was_not_confirmed_is_published_once() -> None:
    """A client that publishes without an id is told its number, and not that it is a repeat."""

    async def part() -> None:
        replica = await application.replicas.get("lost post")
        _, heard = await join(replica, "alice")
        request = PublishRequest(JoinRequest(name="bob"), "one", None, 0)
        async with commits_run(LostAnswers(1)):
            published = await replica.publish(request, None, "bob's", 20)
        assert published == Published(1, "bob", 1)
        assert await logged(replica) == [(1, "one")]
        assert heard.lines == ["bob: one"]

    run_async(part)


def test_a_join_whose_commit_was_not_confirmed_leaves_no_member() -> None:
    """A client that was told of an error is not on the roster, and its name is free."""

    async def part() -> None:
        replica = await application.replicas.get("lost join")
        alice, heard = await join(replica, "alice")
        async with commits_run(LostAnswers(1)):
            with pytest.raises(OperationalError):
                await join(replica, "bob")
        replica.receive(alice, "one")
        await until(lambda: "alice: one" in heard.lines, "a message")
        here = await database_sync_to_async(presence.read_present)(replica.key)
        assert [each.name for each in here] == ["alice"]
        bob, _ = await join(replica, "bob")
        assert bob.name == "bob"

    run_async(part)


def test_a_leave_whose_commit_was_not_confirmed_is_announced_once() -> None:
    """A member that left is announced once, although it is taken off the roster twice."""

    async def part() -> None:
        replica = await application.replicas.get("lost leave")
        alice, heard = await join(replica, "alice")
        bob, _ = await join(replica, "bob")
        lost_answers = LostAnswers(1)
        async with commits_run(lost_answers):
            replica.leave_roster(bob, "bob")
            await until(lambda: lost_answers.count == 0, "commits")
            await until(lambda: "bob left the chat" in heard.lines, "a leave")
        replica.receive(alice, "one")
        await until(lambda: "alice: one" in heard.lines, "a message")
        assert heard.lines == ["bob joined the chat", "bob left the chat", "alice: one"]

    run_async(part)
