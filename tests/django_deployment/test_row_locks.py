"""Row locks: what two transactions do at the same time on PostgreSQL, each as if it were alone.

In each test a first transaction does something and stays open. A second one, on a connection of its
own, begins meanwhile and has to wait for it. The first one is committed when PostgreSQL says that
the second one waits, or when the second one has not waited and is done.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import django_client  # noqa: F401  # it sets Django up
import psycopg
import pytest
from django.db import Error as DatabaseError
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.db.utils import ConnectionHandler
from django.utils.timezone import now
from services import postgresql

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Renamed
from broadcast_server.protocol.publish import Published, PublishRequest
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key
from django_site.configuration.database_url import database_of
from django_site.moderation import actions
from django_site.store import (
    broadcaster,
    liveness,
    message_log,
    presence,
    publish,
    rejections,
    wait_limits,
)
from django_site.store.message_log import Appended, Logged, PendingMessage
from django_site.store.presence import JoinAttempt, RenameAttempt
from django_site.store.publish import AuthorGone, PendingPost

TIMEOUT_S = 20.0
"""Seconds after which a test fails that waits for something."""

Result = TypeVar("Result")


class Connection:
    """A thread with a connection of its own to PostgreSQL, as each process has one."""

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._transaction = transaction.Atomic("default", savepoint=False, durable=False)
        self.pid = self._thread.submit(self._connect, url).result(TIMEOUT_S)

    def _connect(self, url: str) -> int:
        database = ConnectionHandler({"default": database_of(url)})["default"]
        connections["default"] = database  # of this thread only
        database.ensure_connection()
        return int(database.connection.info.backend_pid)

    def submit(self, do: Callable[[], Result]) -> Future[Result]:
        """Start to do something on this connection."""
        return self._thread.submit(do)

    def run(self, do: Callable[[], Result]) -> Result:
        """Do something on this connection."""
        return self.submit(do).result(TIMEOUT_S)

    def begin(self, do: Callable[[], Result]) -> Result:
        """Do something in a transaction that stays open."""
        self.run(self._transaction.__enter__)
        return self.run(do)

    def commit(self) -> None:
        """Commit that transaction."""
        self.run(lambda: self._transaction.__exit__(None, None, None))

    def close(self) -> None:
        """Close the connection, and end the thread."""
        self.run(lambda: connections["default"].close())  # noqa: PLW0108  # in the thread, not here
        self._thread.shutdown()


class Database:
    """A PostgreSQL server and two connections to it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.first, self.second = Connection(url), Connection(url)

    def run(self, do: Callable[[], Result]) -> Result:
        """Do something, while nothing else is being done."""
        return self.first.run(do)

    def at_once(self, first: Callable[[], object], second: Callable[[], Result]) -> Result:
        """Do *second* while the transaction of *first* is open, and return its result."""
        self.first.begin(first)
        try:
            future = self.second.submit(second)
            self._wait_until_blocked(future)
        finally:
            self.first.commit()
        return future.result(TIMEOUT_S)

    def _wait_until_blocked(self, future: Future[Result]) -> None:
        end = time.monotonic() + TIMEOUT_S
        with psycopg.connect(self.url, autocommit=True) as observer:
            while not future.done():
                assert time.monotonic() < end, "the second transaction neither waits nor ends"
                (row,) = observer.execute(
                    "SELECT cardinality(pg_blocking_pids(%s))", [self.second.pid]
                ).fetchall()
                if row[0]:
                    return
                time.sleep(0.01)

    def close(self) -> None:
        """Close the connections."""
        self.first.close()
        self.second.close()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A PostgreSQL server with tables."""
    # Not in pytest's folder, which another user of PostgreSQL could not enter.
    with tempfile.TemporaryDirectory() as folder, postgresql(Path(folder, "postgresql")) as url:
        database = Database(url)
        yield database
        database.close()


@pytest.fixture
def room(database: Database, request: pytest.FixtureRequest) -> models.Room:
    """A room of the test's own."""
    name = re.sub(r"[^a-z]+", "-", request.node.name.lower())[:64].strip("-")
    return database.run(lambda: message_log.open_room(name))


def pending(id: str) -> PendingMessage:
    """Return a message to log, whose text is its id."""
    return PendingMessage("bob", id, "session", id)


def append(room: models.Room, *ids: str, known: bool) -> Appended:
    """Log messages, as a replica does that has *known* the room, or one that has not."""
    messages = [pending(each) for each in ids]
    if not known:
        return publish.append(room.pk, messages, unsure=False)[0]
    knowledge: dict[str, Any] = {"epoch": room.epoch, "roster": 0, "names": {}}
    return publish.append(room.pk, messages, unsure=False, **knowledge)[0]


def guest(name: str, connection_id: str, account: Account | None = None) -> JoinAttempt:
    """Return a join attempt."""
    return JoinAttempt(JoinRequest(name=name), connection_id, account)


def log_of(room: models.Room) -> list[tuple[int, str]]:
    """Return the numbers and texts in the log of *room*."""
    return list(models.Message.objects.filter(room=room).order_by("seq").values_list("seq", "text"))


def names_in(room: models.Room) -> list[str]:
    """Return the names of the members of *room*."""
    return [each.name for each in presence.read_present(room.pk)]


# -- the log --


@pytest.mark.parametrize("known", [True, False])
def test_two_that_append_at_once_take_different_numbers(
    database: Database, room: models.Room, known: bool
) -> None:
    """The second transaction numbers its messages after those of the first one."""
    appended = database.at_once(
        lambda: append(room, "a", "b", known=False),
        lambda: append(room, "c", known=known),
    )
    assert [each.seq for each in appended.logged] == [3]
    assert [each.seq for each in appended.messages] == [3]
    assert appended.state.head == 3
    assert database.run(lambda: log_of(room)) == [(1, "a"), (2, "b"), (3, "c")]
    assert database.run(lambda: message_log.room_state(room.pk)).head == 3


@pytest.mark.parametrize("known", [True, False])
def test_two_that_append_the_same_message_at_once_log_it_once(
    database: Database, room: models.Room, known: bool
) -> None:
    """The second transaction finds the message that the first one has logged."""
    appended = database.at_once(
        lambda: append(room, "a", known=False),
        lambda: append(room, "a", "b", known=known),
    )
    assert [(each.seq, each.repeated) for each in appended.logged] == [(1, True), (2, False)]
    assert database.run(lambda: log_of(room)) == [(1, "a"), (2, "b")]


def test_many_that_append_leave_no_gap(database: Database, room: models.Room) -> None:
    """Of several threads that append as fast as they can, no message is lost and no number."""
    many = [Connection(database.url) for _ in range(4)]

    def append_all(name: str) -> None:
        for number in range(25):
            append(room, f"{name} {number}", known=number % 2 == 0)

    running = [each.submit(partial(append_all, f"{n}")) for n, each in enumerate(many)]
    for each in running:
        each.result(60)
    for one in many:
        one.close()
    log = database.run(lambda: log_of(room))
    assert [seq for seq, _ in log] == list(range(1, 101))
    for name in range(4):
        texts = [text for _, text in log if text.startswith(f"{name} ")]
        assert texts == [f"{name} {number}" for number in range(25)]


def test_a_post_takes_no_name_that_is_being_taken(database: Database, room: models.Room) -> None:
    """A post is published under a name that is free, and counts a member that has just joined."""
    request = PublishRequest(JoinRequest(name="bob"), "hi", "1", 1)
    post = PendingPost(
        "bob", "hi", "session", "1", post=request, owner=None, find_account=lambda: None
    )
    _, outcomes = database.at_once(
        lambda: presence.join(room.pk, "process", [guest("bob", "a")]),
        lambda: publish.append(room.pk, [post], unsure=False),
    )
    assert outcomes == [Published(1, "bob-2", 1)]


# -- the roster --


def test_two_that_join_at_once_have_different_names(database: Database, room: models.Room) -> None:
    """Of two members that ask for one name at once, the second gets a suffix."""
    names = database.at_once(
        lambda: presence.join(room.pk, "process", [guest("bob", "a")]),
        lambda: presence.join(room.pk, "process", [guest("bob", "b")]),
    )
    assert names == ["bob-2"]
    assert database.run(lambda: names_in(room)) == ["bob", "bob-2"]


def test_a_rename_takes_no_name_that_is_being_taken(database: Database, room: models.Room) -> None:
    """A member that asks for the name of one that is joining gets a suffix."""
    database.run(lambda: presence.join(room.pk, "process", [guest("bob", "a")]))
    renamed = database.at_once(
        lambda: presence.join(room.pk, "process", [guest("carol", "b")]),
        lambda: presence.rename(room.pk, [RenameAttempt("a", "carol", None)]),
    )
    assert renamed == [Renamed("bob", "carol-2")]
    assert database.run(lambda: message_log.room_state(room.pk)).roster == 3


@pytest.mark.parametrize("act", ["rename", "leave"])
def test_every_change_of_the_roster_counts(database: Database, room: models.Room, act: str) -> None:
    """The version of a roster grows by one for each transaction: processes compare it."""
    database.run(lambda: presence.join(room.pk, "process", [guest("bob", "a")]))
    acts: dict[str, Callable[[], object]] = {
        "rename": lambda: presence.rename(room.pk, [RenameAttempt("a", "bill", None)]),
        "leave": lambda: presence.leave(room.pk, [presence.Leaving("a", True)]),
    }
    database.at_once(
        lambda: presence.join(room.pk, "process", [guest("carol", "b")]),
        acts[act],
    )
    assert database.run(lambda: message_log.room_state(room.pk)).roster == 3


def test_a_member_that_is_joining_is_removed_with_the_others(
    database: Database, room: models.Room
) -> None:
    """When an account changes, its connection that is just joining has to join again as well."""
    account = database.run(lambda: Account.objects.create_user("olga"))
    database.run(lambda: presence.join(room.pk, "process", [guest("", "a", account)]))
    mine = models.Member.objects.filter(account=account)
    database.at_once(
        lambda: presence.join(room.pk, "process", [guest("", "b", account)]),
        lambda: presence.remove(mine.using("default"), rejections.SIGN_IN_CHANGED),
    )
    assert database.run(lambda: names_in(room)) == []
    assert set(database.run(lambda: presence.read_removed(room.pk, "process"))) == {"a", "b"}


def test_no_process_waits_for_another_that_removes_the_dead(
    database: Database, room: models.Room
) -> None:
    """The members of a dead process are removed once, and its removal holds up nobody else."""
    database.run(lambda: presence.join(room.pk, "dead", [guest("bob", "a")]))
    for process in ("one", "two"):
        database.run(lambda: liveness.record_liveness(process))  # noqa: B023
    silent = timedelta(seconds=liveness.PROCESS_TIMEOUT_S + 1)
    database.run(lambda: models.Process.objects.filter(pk="dead").update(seen=Now() - silent))
    database.first.begin(lambda: liveness.record_liveness("one"))
    try:
        database.second.run(lambda: liveness.record_liveness("two"))  # while that is going on
    finally:
        database.first.commit()
    assert database.run(lambda: names_in(room)) == []
    assert database.run(lambda: message_log.room_state(room.pk)).roster == 2


def test_a_process_that_is_declared_dead_can_join_again(
    database: Database, room: models.Room
) -> None:
    """A join of a process that others are removing waits for that, and then succeeds."""
    database.run(lambda: presence.join(room.pk, "dead", [guest("bob", "a")]))
    database.run(lambda: liveness.record_liveness("one"))
    silent = timedelta(seconds=liveness.PROCESS_TIMEOUT_S + 1)
    database.run(lambda: models.Process.objects.filter(pk="dead").update(seen=Now() - silent))
    names = database.at_once(
        lambda: liveness.record_liveness("one"),
        lambda: presence.join(room.pk, "dead", [guest("bob", "b")]),
    )
    assert names == ["bob"]
    present = database.run(lambda: presence.read_present(room.pk))
    assert [each.connection_id for each in present] == ["b"]
    assert database.run(lambda: message_log.room_state(room.pk)).roster == 3


def test_words_of_a_member_that_is_being_removed(database: Database, room: models.Room) -> None:
    """A message waits for a removal of its author that has begun, and is then not logged."""
    database.run(lambda: presence.join(room.pk, "process", [guest("bob", "a"), guest("ann", "b")]))
    both = [
        PendingMessage("bob", "one", "a", "1", connection_id="a"),
        PendingMessage("ann", "two", "b", "1", connection_id="b"),
    ]
    bob = models.Member.objects.filter(token="a").using("default")
    _, outcomes = database.at_once(
        lambda: presence.remove(bob, rejections.SIGN_IN_CHANGED),
        lambda: publish.append(
            room.pk,
            both,
            unsure=False,
            epoch=room.epoch,
            roster=1,
            names={"a": "bob", "b": "ann"},
        ),
    )
    assert outcomes == [AuthorGone(), Logged(1, repeated=False)]
    assert database.run(lambda: log_of(room)) == [(1, "two")]


def test_words_of_a_session_that_is_being_taken_over(database: Database, room: models.Room) -> None:
    """A message of the stale connection is not logged, although the member and its name remain."""
    join = JoinRequest(name="bob", session="0123456789abcdef")
    database.run(lambda: presence.join(room.pk, "process", [JoinAttempt(join, "a")]))
    message = PendingMessage("bob", "one", "s", "1", connection_id="a")
    _, outcomes = database.at_once(
        lambda: presence.join(room.pk, "process", [JoinAttempt(join, "b")]),
        lambda: publish.append(
            room.pk, [message], unsure=False, epoch=room.epoch, roster=1, names={"a": "bob"}
        ),
    )
    assert outcomes == [AuthorGone()]


# -- broadcasting from the site's own code --


def test_two_that_broadcast_at_once_take_different_numbers(
    database: Database, room: models.Room
) -> None:
    """A transaction that has broadcast keeps the room, and others wait for its end."""
    second = database.at_once(
        lambda: broadcaster.broadcast(room.name, "one", "ci"),
        lambda: broadcaster.broadcast(room.name, "two", "ci"),
    )
    assert (second.seq, second.text) == (2, "two")


def test_a_broadcast_does_not_wait_longer_than_its_caller_says(
    database: Database, room: models.Room
) -> None:
    """It fails by its timeout, and the transaction that it was in goes on with its own limits."""
    limits = "SHOW lock_timeout", "SHOW statement_timeout"

    def show() -> list[str]:
        with connection.cursor() as cursor:
            return [str(cursor.execute(each).fetchone()[0]) for each in limits]

    def broadcast() -> tuple[list[str], list[str]]:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '7s'")
            before = show()
            with pytest.raises(broadcaster.LogUnavailableError, match="timeout"):
                broadcaster.broadcast(room.name, "late", "ci", timeout=0.2)
            broadcaster.broadcast("another-room", "in time", "ci", timeout=0.2)
            after = show()
        return before, after

    database.first.begin(lambda: models.Room.objects.select_for_update().get(pk=room.pk))
    try:
        before, after = database.second.run(broadcast)
        outside = partial(broadcaster.broadcast, room.name, "late", "ci", timeout=0.2)
        with pytest.raises(broadcaster.LogUnavailableError, match="timeout"):
            database.second.run(outside)
    finally:
        database.first.commit()
    assert before == after == ["7s", "20s"]
    assert database.run(lambda: broadcaster.broadcast(room.name, "now", "ci")).seq == 1


def test_a_transaction_that_has_broadcast_does_not_keep_its_room(
    database: Database, room: models.Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends it when it stands still, and its message is not broadcast."""
    monkeypatch.setattr(wait_limits, "IDLE_IN_TRANSACTION_S", 1)
    first = Connection(database.url)
    first.run(lambda: connection.cursor().execute("SET idle_in_transaction_session_timeout = 0"))
    first.begin(lambda: broadcaster.broadcast(room.name, "never", "ci"))
    assert database.run(lambda: broadcaster.broadcast(room.name, "one", "ci")).seq == 1
    with pytest.raises(DatabaseError, match="idle-in-transaction timeout"):
        first.run(lambda: message_log.open_room("another"))
    with pytest.raises(DatabaseError):
        first.commit()
    first.close()


# -- moderation --


def test_two_that_hide_messages_at_once_take_different_edits(
    database: Database, room: models.Room
) -> None:
    """Two messages that are hidden at once are two edits: a process reads each of them."""
    both = [pending("a"), pending("b")]
    database.run(lambda: publish.append(room.pk, both, unsure=False))
    by = database.run(lambda: Account.objects.create_user("mona"))
    one, two = database.run(lambda: list(models.Message.objects.filter(room=room).order_by("seq")))
    hidden = database.at_once(lambda: actions.hide([one], by), lambda: actions.hide([two], by))
    assert hidden == 1
    assert database.run(lambda: message_log.room_state(room.pk)).edits == 2
    edits = models.Message.objects.filter(room=room).order_by("seq").values_list("edit", flat=True)
    assert database.run(lambda: list(edits)) == [1, 2]


def test_a_message_is_hidden_once(database: Database, room: models.Room) -> None:
    """Of two moderators that hide one message at once, one has hidden it."""
    database.run(lambda: publish.append(room.pk, [pending("a")], unsure=False))
    by = database.run(lambda: Account.objects.create_user("milo"))
    (one,) = database.run(lambda: list(models.Message.objects.filter(room=room)))
    assert database.at_once(lambda: actions.hide([one], by), lambda: actions.hide([one], by)) == 0
    assert database.run(lambda: message_log.room_state(room.pk)).edits == 1


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_ban_is_of_a_member_that_is_joining(
    database: Database, room: models.Room, everywhere: bool
) -> None:
    """A member whose join was not yet committed when it was banned is removed as well."""
    name = f"eve{everywhere}"
    by = database.run(lambda: Account.objects.create_user(f"mod{everywhere}"))
    ban = models.Ban(room=None if everywhere else room, name=name, until=now() + timedelta(hours=1))
    database.at_once(
        lambda: presence.join(room.pk, "process", [guest(name, "a"), guest("adam", "b")]),
        lambda: actions.impose_ban(ban, by),
    )
    assert ban.key == stored_key(name)
    assert database.run(lambda: names_in(room)) == ["adam"]


def test_nobody_is_left_in_a_room_that_is_closed(database: Database, room: models.Room) -> None:
    """A member whose join was not yet committed when the room was closed is removed as well."""
    by = database.run(lambda: Account.objects.create_user("moritz"))
    database.at_once(
        lambda: presence.join(room.pk, "process", [guest("bob", "a")]),
        lambda: actions.close_room(room, by),
    )
    assert database.run(lambda: names_in(room)) == []
