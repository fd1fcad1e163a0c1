"""Retention: old messages are deleted, the others keep their numbers, and nobody is misled."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from django_client import run_async  # it sets Django up

# isort: split

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.utils import ConnectionHandler
from django.utils.timezone import now
from moderation_harness import (
    act,
    dana,
    in_room,
    in_thread,
    last_record,
    log_messages,
    new_account,
    new_room,
    page,
    pages,
    signed_in,
)
from services import postgresql

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import LogEntry
from broadcast_server.rooms.participant import Participant
from django_site import models
from django_site.accounts.models import Account
from django_site.configuration.database_url import database_of
from django_site.moderation import actions
from django_site.replication import replica_registry
from django_site.replication.catch_up import CatchUp
from django_site.store import message_log, retention, sync

__all__ = ["dana", "pages"]  # fixtures

Run = Callable[[Callable[[], Any]], Any]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a function that runs another one in a thread that is connected to a database."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        if request.param == "sqlite":
            yield lambda part: thread.submit(part).result()
            return
        with postgresql(Path(folder, "postgresql")) as url:

            def connect() -> None:
                handler = ConnectionHandler({"default": database_of(url)})
                connections["default"] = handler["default"]  # of this thread only
                call_command("migrate", verbosity=0)

            thread.submit(connect).result()
            yield lambda part: thread.submit(part).result()
            thread.submit(lambda: connections["default"].close()).result()  # noqa: PLW0108


def age(room: models.Room, days: float, upto: int) -> None:
    """Make the messages of *room* up to number *upto* as old as *days*."""
    old = now() - timedelta(days=days)
    models.Message.objects.filter(room=room, seq__lte=upto).update(at=old)


def command(*arguments: str) -> str:
    """Run `delete_messages`, and return what it prints."""
    output = StringIO()
    call_command("delete_messages", *arguments, stdout=output)
    return output.getvalue()


def numbers_in(room: models.Room) -> list[int]:
    """Return the numbers of the messages that *room* has."""
    return [*models.Message.objects.filter(room=room).order_by("seq").values_list("seq", flat=True)]


def test_old_messages_are_deleted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are deleted in steps, the others keep their numbers, and the next one follows."""
    monkeypatch.setattr(retention, "DELETED_AT_ONCE", 2)

    def part() -> None:
        room, other = new_room(), new_room()
        log_messages(room, *"1234567")
        log_messages(other, *"12")
        age(room, 9, 5)
        age(other, 99, 2)
        models.Room.objects.filter(pk=other.pk).update(keep_days=0)
        assert command(room.name, "--days", "7", "--dry-run") == (
            f"{room}: 5\n5 messages would be deleted\n"
        )
        assert numbers_in(room) == [1, 2, 3, 4, 5, 6, 7]
        before = models.Room.objects.get(pk=room.pk)
        assert command(room.name, "--days", "7") == f"{room}: 5\n5 messages deleted\n"
        assert numbers_in(room) == [6, 7]
        room.refresh_from_db()
        assert (room.first, room.head, room.epoch) == (6, 7, before.epoch)
        assert [each.seq for each in log_messages(room, "8")] == [8]
        assert command(room.name, "--days", "7") == "0 messages deleted\n"
        assert numbers_in(other) == [1, 2]
        age(room, 9, 8)
        assert command(room.name, "--days", "0").endswith("3 messages deleted\n")
        room.refresh_from_db()
        assert (room.first, room.head, numbers_in(room)) == (9, 8, [])
        assert [each.seq for each in log_messages(room, "9")] == [9]

    run(part)


def test_how_long_messages_are_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room's own number of days counts before that of the site, and without any, for ever."""

    def part() -> None:
        rooms = {days: new_room() for days in (None, 0, 5, 50)}
        for days, room in rooms.items():
            log_messages(room, "old", "new")
            age(room, 10, 1)
            models.Room.objects.filter(pk=room.pk).update(keep_days=days)

        def expired() -> set[int | None]:
            found = {each.room for each in retention.expiries()}
            return {days for days, room in rooms.items() if room.pk in found}

        assert expired() == {5}
        monkeypatch.setattr(settings, "BROADCAST_KEEP_DAYS", 7)
        assert expired() == {None, 5}
        monkeypatch.setattr(settings, "BROADCAST_KEEP_DAYS", 70)
        assert expired() == {5}

    run(part)


def test_the_text_of_a_hidden_message_is_deleted_from_its_record(run: Run) -> None:
    """What a moderator hid is in a record as well, and goes with the message."""

    def part() -> None:
        by, room = new_account(), new_room()
        old, new = log_messages(room, "a secret: 42", "kept: yes")
        actions.hide([old, new], by, "why")
        age(room, 9, 1)
        command(room.name, "--days", "7")
        subjects = models.Record.objects.filter(by=by).values_list("subject", "reason")
        assert {*subjects} == {
            (f"{room} 1, bob, deleted", "why"),
            (f"{room} 2, bob: kept: yes", "why"),
        }

    run(part)


def test_deleted_text_is_not_in_the_file() -> None:
    """SQLite's file does not have a text that was deleted, nor does its journal."""
    room = new_room()
    log_messages(room, *(f"SENTINEL-{number} {'x' * 700}" for number in range(40)))
    file = Path(connection.settings_dict["NAME"])

    def on_disk() -> int:
        return sum(
            each.read_bytes().count(b"SENTINEL-") for each in file.parent.glob(f"{file.name}*")
        )

    assert on_disk() >= 40
    command(room.name, "--days", "0")
    assert on_disk() == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nowhere",), "there is no room called nowhere"),
        (("--days", "-1"), "is not between 0 and 36500"),
        (("--days", "x"), "x is not between 0 and 36500"),
    ],
)
def test_a_wrong_command_line(arguments: tuple[str, ...], error: str) -> None:
    """What cannot be is rejected with one line."""
    with pytest.raises(CommandError, match=error):
        command(*arguments)


def test_clients_are_told_what_they_missed() -> None:
    """A client that comes back is told how many are gone, and gets the others by their numbers."""
    room = new_room()
    log_messages(room, *"123456")
    age(room, 9, 4)

    async def part() -> None:
        async with in_room(room, "here") as here:
            await here.event()
            await in_thread(command, room.name, "--days", "7")
            for since, recovered, missed in ((1, False, 3), (4, True, 0), (6, True, 0)):
                async with in_room(room, f"s{since}", f"&since={room.epoch}.{since}") as late:
                    welcome = await late.event()
                    assert (welcome["recovered"], welcome["missed"]) == (recovered, missed)
                    replayed = [await late.event() for _ in range(6 - max(since, 4))]
                    assert [each["seq"] for each in replayed] == [5, 6][max(since, 4) - 4 :]
                assert [each["type"] for each in await here.events(2)] == ["joined", "left"]
            async with in_room(room, "all", "&history=99") as late:
                assert [each["seq"] for each in (await late.events(3))[1:]] == [5, 6]
            await in_thread(command, room.name, "--days", "0")
            async with in_room(room, "none", f"&since={room.epoch}.1") as late:
                welcome = await late.event()
                assert (welcome["seq"], welcome["missed"]) == (6, 5)
                await late.send("on")
                assert (await late.event())["code"] == "bad_json"

    run_async(part)


class OutrunRoom:
    """A room with messages up to *head*, whose participants have read as far as *places*."""

    def __init__(self, key: int, head: int, *places: int) -> None:
        self.key = key
        self.known = message_log.RoomState(head, 0, 0)
        self._places = {Participant(JoinRequest(), str(seq), "bob"): seq for seq in places}
        self.kicked: list[int] = []
        self.sent: dict[int, list[int]] = {place: [] for place in places}

    def behind(self) -> list[tuple[Participant, int]]:
        """List who is behind."""
        return [each for each in self._places.items() if each[1] < self.known.head]

    def place_of(self, participant: Participant) -> int | None:
        """Return how far *participant* has read, None if it has everything."""
        place = self._places.get(participant)
        return None if place == self.known.head else place

    def kick(self, participant: Participant, rejection: Any) -> None:
        """Note who is closed."""
        assert rejection.error.code == "too_slow"
        self.kicked.append(self._places.pop(participant))

    def send_chunk(self, participant: Participant, entries: Sequence[LogEntry]) -> None:
        """Note what is sent."""
        self.sent[int(participant.id_scope)] += [each.seq for each in entries]
        self._places[participant] = entries[-1].seq

    def write_batch(self) -> None:
        """Write nothing."""

    chunks_sent = write_batch


@pytest.mark.parametrize(
    ("deleted", "kicked", "sent"),
    [
        (0, [], {2: [3, 4, 5, 6, 7], 3: [4, 5, 6, 7], 6: [7], 7: []}),
        (2, [], {2: [3, 4, 5, 6, 7], 3: [4, 5, 6, 7], 6: [7], 7: []}),
        (5, [2, 3], {2: [], 3: [], 6: [7], 7: []}),
        (7, [2, 3, 6], {2: [], 3: [], 6: [], 7: []}),
    ],
)
def test_who_reads_too_slowly(deleted: int, kicked: list[int], sent: dict[int, list[int]]) -> None:
    """Who has not read what was deleted is closed before it gets a gap, and nobody else is."""
    row = new_room()
    log_messages(row, *"1234567")
    age(row, 9, deleted)
    command(row.name, "--days", "7")

    async def part() -> None:
        room: Any = OutrunRoom(row.pk, 7, 2, 3, 6, 7)
        catching_up = CatchUp()
        catching_up.add(room, room.behind()[0][0])
        while room.behind():  # noqa: ASYNC110  # it is at work in this loop
            await asyncio.sleep(0.001)
        await catching_up.close()
        assert (room.kicked, room.sent) == (kicked, sent)

    asyncio.run(part())


def test_a_process_that_has_not_read_what_was_deleted() -> None:
    """It closes its clients, who come back, instead of leaving a gap in the numbers."""
    room = new_room()
    log_messages(room, *"1234")
    known = message_log.RoomState(1, 0, 0)
    age(room, 9, 3)
    command(room.name, "--days", "7")

    def synchronise() -> sync.SyncResult:
        return sync.sync(
            room.pk, "p", known, epoch=room.epoch, names={}, messages=[], renames=[], leaving=[],
            maybe_logged=False,
        )  # fmt: skip

    with pytest.raises(models.Room.DoesNotExist):
        synchronise()
    known = message_log.RoomState(3, 0, 0)
    assert [each.seq for each in synchronise().messages] == [4]


def test_a_running_site_deletes_by_itself(dana: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room's days are set in the admin, and recorded; the site then deletes what is older."""
    room = new_room()
    log_messages(room, *"123")
    age(room, 9, 2)
    browser = signed_in(dana)
    assert "for ever" in page(browser, f"room/{room.pk}/change/")
    path = f"/admin/django_site/room/keep/?pk={room.pk}"
    assert browser.post(path, {"days": "-1"}).status_code == 200
    assert browser.post(path, {"days": "7", "reason": "law"}).status_code == 302
    kept = f"messages of room {room} for 7 days"
    assert last_record() == (dana.username, "keep", kept, "law")
    monkeypatch.setattr(replica_registry, "RETENTION_INTERVAL_S", 0.01)

    async def part() -> None:
        async with in_room(room, "a", "&history=9") as one:
            await one.event()
            while await in_thread(numbers_in, room) != [3]:
                pass

    run_async(part)
    assert act(browser, "room/keep", room.pk) == 302
    room.refresh_from_db()
    assert room.keep_days is None
