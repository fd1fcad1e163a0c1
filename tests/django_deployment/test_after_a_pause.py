"""What a process does that stood still, while others changed the room that it is a replica of.

A process is made to stand still by holding the lock under which its replica writes and reads: what
its members send waits meanwhile, and what "other" does to the database it does not know yet.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from accounts_client import account
from channels.db import database_sync_to_async
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_client import http_request, run_async
from site_member import until

from broadcast_server.http.stream import StreamRequest
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Cursor, Format, Message
from broadcast_server.rooms.participant import Participant
from django_site import models
from django_site.accounts.models import Account, Token
from django_site.asgi import application
from django_site.moderation import actions
from django_site.replication.replica import RoomReplica
from django_site.store import liveness, message_log, presence, publish
from django_site.store.presence import JoinAttempt

SESSION = "0123456789abcdef"


class Connection:
    """A connection of this process that records what it is sent, and how it is closed."""

    paused = False
    encode = staticmethod(bytes.decode)

    def __init__(self, replica: RoomReplica, id: str) -> None:
        self.replica = replica
        self.id = id
        self.events: list[dict[str, Any]] = []
        self.code: int | None = None
        self.participant: Participant | None = None

    def start(self, at: Cursor) -> None:
        """Do nothing: the head of a response is not recorded."""

    def write(self, frames: Iterable[str]) -> None:
        """Record frames."""
        self.events += [json.loads(line) for frame in frames for line in frame.split("\n")]

    def close(self, code: int, reason: str) -> None:
        """Record the code, and leave as a consumer does."""
        self.code = int(code)
        if self.participant is not None:
            self.replica.leave_roster(self.participant, self.id)

    def say(self, text: str) -> None:
        """Publish *text*, which is its own id, and ask for a pong."""
        assert self.participant is not None
        requests = {"type": "say", "text": text, "id": text}, {"type": "ping", "id": text}
        self.replica.receive(self.participant, "\n".join(map(json.dumps, requests)))

    def events_of(self, type: str) -> list[dict[str, Any]]:
        """Return the received events of a type."""
        return [event for event in self.events if event["type"] == type]

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The received messages, as pairs of name and text."""
        return [(event["name"], event["text"]) for event in self.events_of("message")]

    @property
    def error(self) -> str:
        """The code of the last error, which gives the reason for the close."""
        return str(self.events_of("error")[-1]["code"])


async def join(
    replica: RoomReplica, name: str, session: str | None = None, owner: Account | None = None
) -> Connection:
    """Make a connection of this process a member."""
    connection = Connection(replica, f"ours {name}")
    request = JoinRequest(name=name, session=session, format=Format.JSON)
    connection.participant = await replica.admit(request, owner, connection.id, connection)
    return connection


@asynccontextmanager
async def standing_still(replica: RoomReplica) -> AsyncIterator[None]:
    """Let this process stand still meanwhile, as far as the room is concerned."""
    async with replica._synchronizer._lock:
        yield


def join_elsewhere(
    replica: RoomReplica, name: str, session: str | None = None, owner: Account | None = None
) -> str:
    """Make a connection of another process a member, and return its name."""
    attempt = JoinAttempt(JoinRequest(name=name, session=session), f"other {name}", owner)
    (given,) = presence.join(replica.key, "other", [attempt])
    assert isinstance(given, str)
    return given


def declare_dead(process: str) -> None:
    """Do what another process does that has not seen a sign of life of *process*."""
    silent = timezone.now() - timedelta(seconds=liveness.PROCESS_TIMEOUT_S + 1)
    models.Process.objects.update_or_create(pk="other", defaults={"seen": timezone.now()})
    models.Process.objects.filter(pk=process).update(seen=silent)
    liveness.record_liveness("other")


def log_of(replica: RoomReplica) -> list[tuple[str, str]]:
    """Return the names and texts in the log."""
    entries = message_log.read(replica.key, 0, 100)
    return [(each.name, each.text) for each in entries if isinstance(each, Message)]


async def in_thread(do: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Do something with the database."""
    return await database_sync_to_async(do)(*args, **options)


@pytest.mark.parametrize("kind", ["guest", "account", "renamed"])
def test_words_of_a_process_that_counted_as_dead(kind: str) -> None:
    """What it has of its members is not published under the names that others took meanwhile."""

    async def part() -> None:
        await in_thread(Account.objects.filter(username="max").delete)
        replica = await application.replicas.get(f"dead {kind}")
        max_ = await join(replica, "max" if kind != "renamed" else "moritz")
        if kind == "renamed":
            assert max_.participant is not None
            replica.receive(max_.participant, '{"type":"name","name":"max"}')
            await until(lambda: max_.events_of("renamed"), "a new name")
        async with standing_still(replica):
            max_.say("I resign")
            await in_thread(declare_dead, application.replicas.process)
            owner = None
            if kind == "account":
                owner = await in_thread(account, "max")
            assert await in_thread(join_elsewhere, replica, "max", None, owner) == "max"
        await until(lambda: max_.code, "a close")
        assert (max_.code, max_.error) == (4001, "lost_sight")
        assert await in_thread(log_of, replica) == []
        assert not max_.events_of("pong"), "which would promise that the message was dealt with"
        again = await join(replica, "max")
        again.say("I resign")
        name = "max-2"
        await until(lambda: again.messages, "an echo")
        assert again.messages == [(name, "I resign")] == await in_thread(log_of, replica)
        expected = ["max", "max-2"]
        assert again.events_of("welcome")[0]["members"] == expected

    run_async(part)


def test_one_author_that_is_gone_holds_up_nobody() -> None:
    """The messages of others in the same transaction are logged, under the names they have now."""

    async def part() -> None:
        owner = await in_thread(account)  # other tests of this process have named theirs
        replica = await application.replicas.get("batch")
        ann, bob = await join(replica, "ann"), await join(replica, "bob")
        olga = await join(replica, "x", owner=owner)
        async with standing_still(replica):
            ann.say("one")
            bob.say("two")
            olga.say("three")
            ann.say("four")
            await in_thread(presence.leave, replica.key, [presence.Leaving(bob.id, False)])
            await in_thread(owner.delete)
        await until(lambda: bob.code and olga.code and len(ann.messages) == 2, "the others")
        assert await in_thread(log_of, replica) == [("ann", "one"), ("ann", "four")]
        assert [each["id"] for each in ann.events_of("pong")] == ["one", "four"]
        assert (olga.code, olga.error) == (4001, "lost_sight")
        # Nothing was left over that would be tried again.
        assert replica.is_full is False and not replica._outbox

    run_async(part)


def test_words_of_a_connection_that_was_replaced_elsewhere() -> None:
    """A session goes on in another process: what its old connection sent is left to the new one."""

    async def part() -> None:
        replica = await application.replicas.get("replaced")
        bob = await join(replica, "bob", SESSION)
        async with standing_still(replica):
            bob.say("one")
            assert await in_thread(join_elsewhere, replica, "bob", SESSION) == "bob"
        await until(lambda: bob.code, "a close")
        assert (bob.code, bob.error) == (4504, "replaced")
        assert await in_thread(log_of, replica) == []

    run_async(part)


def test_a_leave_after_a_pause_removes_no_other_member() -> None:
    """A connection that ends after its process counted as dead takes only itself off the roster."""

    async def part() -> None:
        replica = await application.replicas.get("leaves")
        bob = await join(replica, "bob", SESSION)
        eve = await join(replica, "eve")
        async with standing_still(replica):
            await in_thread(declare_dead, application.replicas.process)
            for name, session in (("bob", SESSION), ("eve", None)):
                assert await in_thread(join_elsewhere, replica, name, session) == name
            for each in (bob, eve):
                assert each.participant is not None
                replica.receive(each.participant, '{"type":"name","name":"mallory"}')
                replica.leave_roster(each.participant, each.id)
        await until(lambda: not replica._synchronizer.is_busy, "the leaves")
        here = await in_thread(presence.read_present, replica.key)
        assert [(each.name, each.connection_id) for each in here] == [
            ("bob", "other bob"),
            ("eve", "other eve"),
        ]

    run_async(part)


@pytest.mark.parametrize("act", ["ban", "close", "sign out"])
def test_who_was_removed_in_the_pause(act: str) -> None:
    """It neither publishes nor receives anything afterwards, on a WebSocket or on a stream."""

    async def part() -> None:
        moderator, owner = await in_thread(account), await in_thread(account)
        replica = await application.replicas.get(f"removed {act}")
        bob = await join(replica, "bob", owner=owner)
        watch = Connection(replica, "stream")
        stream = StreamRequest(JoinRequest(name="", format=Format.JSON), poll=False)
        watch.participant = await replica.admit_subscriber(stream, owner, watch.id, watch)
        await until(lambda: bob.events and watch.events, "two welcomes")
        watch.events, bob.events = [], []
        row = await in_thread(models.Room.objects.get, pk=replica.key)
        async with standing_still(replica):
            bob.say("from the grave")
            match act:
                case "ban":
                    until_ = timezone.now() + timedelta(hours=1)
                    ban = models.Ban(account=owner, until=until_)
                    await in_thread(actions.impose_ban, ban, moderator)
                case "close":
                    await in_thread(actions.close_room, row, moderator)
                    await in_thread(actions.reopen_room, row, moderator)
                case "sign out":
                    await in_thread(presence.account_changed, owner)
            await in_thread(join_elsewhere, replica, "ann")
            await in_thread(log_elsewhere, replica, "ann", "at last")
        await until(lambda: bob.code and watch.code, "two closes")
        expected = {"ban": "banned", "close": "closed", "sign out": "sign_in"}[act]
        for each in (bob, watch):
            assert each.error == expected
            assert [event["type"] for event in each.events] == ["error"]
        assert await in_thread(log_of, replica) == [("ann", "at last")]

    run_async(part)


def log_elsewhere(replica: RoomReplica, name: str, text: str) -> None:
    """Log a message of a member of another process, as that process does."""
    message = message_log.PendingMessage(
        name, text, f"#{name}", text, connection_id=f"other {name}"
    )
    publish.append(replica.key, [message], unsure=False)


def test_a_token_that_is_revoked_while_its_message_waits() -> None:
    """A post is published only if its client is still signed in when it is logged."""

    async def part() -> None:
        owner = await in_thread(account)
        token, secret = await in_thread(Token.make, owner, "ci")
        header = (b"authorization", f"Bearer {secret}".encode())

        async def post(text: bytes) -> tuple[int, str]:
            return await http_request("POST", "/?room=posts", header, body=text)

        assert (await post(b"one"))[0] == 200
        replica = await application.replicas.get("posts")
        async with standing_still(replica):
            posting = asyncio.ensure_future(post(b"two"))
            guest = asyncio.ensure_future(http_request("POST", "/?room=posts&name=g", body=b"3"))
            await until(lambda: len(replica._posts) == 2, "two that wait")
            await in_thread(token.delete)
        assert (await posting)[0] == 401
        assert (await guest)[0] == 200
        assert await in_thread(log_of, replica) == [(owner.username, "one"), ("g", "3")]

    run_async(part)


def test_who_is_here_is_asked_only_if_the_roster_has_changed() -> None:
    """Publishing takes no query more than before, as long as nobody joins or leaves."""

    async def part() -> None:
        replica = await application.replicas.get("cheap")
        ann = await join(replica, "ann")
        ann.say("one")
        await until(lambda: ann.messages, "an echo")

        async def queries_of(text: str) -> list[str]:
            connected = await in_thread(lambda: CaptureQueriesContext(connection))
            await in_thread(connected.__enter__)
            ann.say(text)
            await until(lambda: ann.messages[-1][1] == text, "an echo")
            await in_thread(connected.__exit__, None, None, None)
            queries = await in_thread(lambda: [each["sql"] for each in connected])
            assert any("INSERT" in each for each in queries)
            return [each for each in queries if "_member" in each]

        assert await queries_of("two") == []
        await in_thread(join_elsewhere, replica, "bob")
        assert await queries_of("three")

    run_async(part)


def test_who_is_removed_while_this_process_reads() -> None:
    """A message that was published after a ban does not reach who is banned, at no moment."""

    async def part() -> None:
        moderator = await in_thread(account)
        replica = await application.replicas.get("reads")
        bob = await join(replica, "bob")
        await in_thread(join_elsewhere, replica, "ann")
        await until(lambda: bob.events_of("joined"), "another member")
        row = await in_thread(models.Room.objects.get, pk=replica.key)
        ban = models.Ban(room=row, name="bob", until=timezone.now() + timedelta(hours=1))
        done: list[str] = []

        def meanwhile() -> None:
            actions.impose_ban(ban, moderator)
            log_elsewhere(replica, "ann", "two")
            connections.close_all()

        def before_it_reads(execute: Any, sql: str, *args: Any) -> Any:
            if not done and sql.startswith("SELECT") and "django_site_message" in sql:
                done.append(sql)
                thread = threading.Thread(target=meanwhile)
                thread.start()
                thread.join()
            return execute(sql, *args)

        wrapping = await in_thread(lambda: connection.execute_wrapper(before_it_reads))
        await in_thread(log_elsewhere, replica, "ann", "one")
        await in_thread(wrapping.__enter__)
        try:
            await until(lambda: bob.code, "a close")
        finally:
            await in_thread(wrapping.__exit__, None, None, None)
        assert len(done) == 1
        assert (bob.code, bob.error) == (4503, "banned")
        assert bob.messages == [("ann", "one")]

    run_async(part)
