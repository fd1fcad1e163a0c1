"""A log file that can neither be written nor be marked as incomplete: the epochs of all rooms end.

Otherwise the next start would take the file for whole, and give numbers that were sent again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from deployments import ServedDeployment, WebSocketClient
from log_files import UNDELETABLE, fail, kill
from server_harness import play
from wire import Wire

from broadcast_server.rooms import sqlite_log
from broadcast_server.rooms.message_log import LogFileError, MessageLog
from broadcast_server.rooms.sqlite_log import SQLiteLog
from broadcast_server.server.server import Server
from broadcast_server.server.settings import Settings

LOG_ENDED = "the log of this room has ended, as its file failed: connect again"


async def event(client: WebSocketClient) -> dict[str, Any]:
    """Return the next event that *client* receives."""
    value: dict[str, Any] = json.loads(await client.line())
    return value


async def say(client: WebSocketClient, text: str) -> None:
    """Publish *text*, with its first character as the id."""
    await client.send(json.dumps({"type": "say", "text": text, "id": text[0]}))


async def post(server: Server, room: str, text: str) -> tuple[int, str]:
    """Publish *text* over HTTP, and return the status and the body of the response."""
    wire = await Wire.connect(server.url)
    head = f"POST /?room={room} HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n"
    wire.send(f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode())
    head, _, body = (await wire.read_to_end()).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body.strip()


def epochs(file: SQLiteLog, *rooms: str) -> list[tuple[str, int]]:
    """Return the epoch of each room in *file*, and the number of its last message."""
    logs = {room: MessageLog() for room in rooms}
    for room, log in logs.items():
        file.restore(room, log)
    return [(log.epoch, log.head) for log in logs.values()]


@pytest.mark.skipif(not UNDELETABLE.exists(), reason="needs a file that root cannot delete")
@pytest.mark.parametrize("recovers", [False, True])
def test_no_number_is_sent_twice_in_an_epoch(
    tmp_path: Path, recovers: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be recorded is sent in a new epoch, which the file gets when it can be written.

    Everyone is closed with `no_log` before anything is sent, and finds the room with what is in the
    file. A message that was on its way is published when its client sends it again.
    """
    caplog.set_level(logging.WARNING)
    path = tmp_path / "rooms.log"
    big = "2" * 100_000
    seen: dict[str, set[int]] = {}
    before: list[tuple[str, int]] = []

    async def join(deployment: ServedDeployment, name: str, more: str = "") -> WebSocketClient:
        return await deployment.open(f"/?name={name}&session={name * 16}{more}", as_json=True)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        eve, bob = await join(deployment, "e"), await join(deployment, "b")
        other = await deployment.open("/?room=other", as_json=True)
        first = (await event(bob))["epoch"]
        await event(other)
        assert [(await event(eve))["type"] for _ in range(2)] == ["welcome", "joined"]
        await say(bob, "1 hi")
        assert (await event(bob))["seq"] == (await event(eve))["seq"] == 1
        seen[first] = {1}
        before.extend(epochs(file, "lobby", "other"))
        marker = fail(file)

        await say(bob, big)
        for client in (bob, eve, other):
            line = await event(client)
            assert (line["type"], line["code"], line["text"]) == ("error", "no_log", LOG_ENDED)
            with pytest.raises(EOFError) as closed:
                await client.line()
            assert closed.value.args == (4001,)
        assert not server._rooms._open and server._admission._connected.total == 0

        bob = await join(deployment, "b", f"&since={first}.1")
        welcome = await event(bob)
        second = welcome["epoch"]
        assert second != first
        assert (welcome["seq"], welcome["recovered"], welcome["missed"]) == (1, False, None)
        assert (await event(bob))["text"] == "1 hi"
        assert (await event(bob))["code"] == "not_recording"
        await say(bob, big)
        assert (await event(bob))["seq"] == 2
        assert (await post(server, "lobby", "3 hi"))[0] == 200
        assert (await event(bob))["seq"] == 3
        seen[second] = {2, 3}
        if recovers:
            file._marker = marker
            file._database.execute("PRAGMA max_page_count=1000000")
            file._retry_at = 0.0
            await say(bob, "4 hi")
            assert {(await event(bob)).get("code"), (await event(bob)).get("code")} == {
                "recording",
                None,
            }
            seen[second].add(4)
        kill(file)

    with pytest.raises(Exception, match="closed database"):  # while it stops
        play(part, Settings(port=0, log=path, max_message_bytes=2**17))
    file = SQLiteLog(path)
    assert file._marker.has(file._state.mark)
    (epoch, head), (epoch_of_other, _) = epochs(file, "lobby", "other")
    # The next message gets a number that nobody has seen in this epoch.
    assert head + 1 not in seen[epoch] and head == max(seen[epoch])
    assert ((epoch, epoch_of_other) == (before[0][0], before[1][0])) is not recovers
    file.close()
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert [line for line in warnings if "all rooms get new epochs" in line]
    assert not [each for each in caplog.records if each.name == "asyncio"]


@pytest.mark.skipif(not UNDELETABLE.exists(), reason="needs a file that root cannot delete")
def test_posts_are_not_confirmed(tmp_path: Path) -> None:
    """A message that was posted and is not sent is answered with 503, and not kept waiting."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        assert (await post(server, "ops", "1"))[0] == 200
        marker = fail(file)
        posts = [post(server, room, "2" * 100_000) for room in ("ops", "dev", "ops")]
        for status, body in await asyncio.gather(*posts):
            assert (status, body) == (503, LOG_ENDED)
        assert (await post(server, "ops", "2" * 100_000))[0] == 200
        file._marker = marker

    with pytest.raises(LogFileError, match=r"last messages are not recorded: .* disk is full"):
        play(part, Settings(port=0, log=tmp_path / "rooms.log", max_message_bytes=2**17))


def test_a_room_that_is_dropped_before_it_is_written(tmp_path: Path) -> None:
    """A room that is dropped while the file cannot be written continues its numbers."""

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        (pages,) = file._database.execute("PRAGMA page_count").fetchone()
        file._database.execute(f"PRAGMA max_page_count={pages}")
        for seq in (1, 2):
            status, body = await post(server, "lobby", "x" * 100_000)
            assert (status, json.loads(body)["seq"]) == (200, seq)
            server._rooms._idle.clear()  # as other rooms do
        file._database.execute("PRAGMA max_page_count=1000000")

    play(part, Settings(port=0, log=tmp_path / "rooms.log", max_message_bytes=2**17))


def test_rooms_that_wait_for_the_disk_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full, messages of so many rooms wait, and no more."""
    monkeypatch.setattr(sqlite_log, "MAX_UNWRITTEN_ROOMS", 20)

    async def part(server: Server, deployment: ServedDeployment) -> None:
        file = server._rooms._log_file
        assert file is not None
        (pages,) = file._database.execute("PRAGMA page_count").fetchone()
        file._database.execute(f"PRAGMA max_page_count={pages}")
        secret, statuses = file.secret, []
        for number in range(25):
            file._retry_at = 0.0
            statuses.append((await post(server, f"r{number}", "x" * 100_000))[0])
            assert len(file._logs) <= 21
        assert statuses == [200] * 20 + [503] + [200] * 4
        assert file.secret != secret
        file._database.execute("PRAGMA max_page_count=1000000")

    play(part, Settings(port=0, log=tmp_path / "rooms.log", max_message_bytes=2**17))


def test_a_file_that_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Members are told that nothing is recorded, and when it is again; the log says why."""
    path = tmp_path / "rooms.log"

    async def part(server: Server, deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob", as_json=True)
        epoch = (await event(bob))["epoch"]
        await say(bob, "1")
        assert (await event(bob))["seq"] == 1
        path.rename(tmp_path / "moved")
        path.write_text("theirs")
        server._rooms.watch_log_file()
        assert (await event(bob))["code"] == "not_recording"
        await say(bob, "2")
        assert (await event(bob))["seq"] == 2
        path.unlink()
        server._rooms.watch_log_file()
        assert (await event(bob))["code"] == "recording"
        again = await deployment.open(f"/?name=eve&since={epoch}.0", as_json=True)
        assert (await event(again))["recovered"]

    caplog.set_level(logging.WARNING)
    play(part, Settings(port=0, log=path))
    where = f"log file {path} was"
    replaced = "replaced by another file (move that away, and the log is written anew)"
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        f"messages are not recorded: {where} {replaced}",
        f"{where} renamed or deleted: it was written anew, with all messages",
    ]
    file = SQLiteLog(path)
    assert epochs(file, "lobby")[0][1] == 2 and not file.notices
    file.close()


def test_a_file_that_is_overwritten(tmp_path: Path) -> None:
    """What is in the file may be anything now, so all rooms get new epochs at once."""
    path = tmp_path / "rooms.log"

    async def part(server: Server, deployment: ServedDeployment) -> None:
        bob = await deployment.open("/?name=bob", as_json=True)
        epoch = (await event(bob))["epoch"]
        os.truncate(path, 100)
        server._rooms.watch_log_file()
        assert (await event(bob))["code"] == "no_log"
        bob = await deployment.open(f"/?name=bob&room=new&since={epoch}.0", as_json=True)
        assert not (await event(bob)).get("recovered")

    with suppress(LogFileError):  # at the end
        play(part, Settings(port=0, log=path))
