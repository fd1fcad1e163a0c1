"""What an operator hides: it is gone from the log in memory, from the file, and from replays."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Cursor, Error, Format, Message, MessageHidden
from broadcast_server.protocol.operators import OperatorEvent, OperatorRequest
from broadcast_server.protocol.publish import Published, PublishRequest
from broadcast_server.rooms.actions import NoteAct, Send
from broadcast_server.rooms.hiding import RECENT_MESSAGES, hide
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.sqlite_log import SQLiteLog

AT = "2026-11-25T09:00:00.000Z"
ALICE = Participant(JoinRequest("alice", operator=True, format=Format.JSON), "#alice", "alice")


class RecordingReceiver:
    """A connection that keeps the frames it is sent, and takes nothing while it is paused."""

    encode = staticmethod(bytes)

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.paused = False

    def write(self, frames: list[bytes]) -> None:
        """Keep *frames*."""
        self.frames += frames

    def close(self, code: int, reason: str) -> None:
        """Do nothing."""


def test_what_a_name_has_published_lately() -> None:
    """The last messages of any spelling of the name are hidden, and nobody else's."""
    log = MessageLog()
    for name in ("bob", *["eve"] * (RECENT_MESSAGES - 2), "Bob", "eve", "BOB"):
        log.append(name, "secret", AT, None, "s")
    size = log.bytes
    actions, left = hide(log, ALICE, OperatorRequest("hide", "B0B", id="h"))
    event = OperatorEvent("hide", "alice", "Bob", id="h", messages=2)
    last = RECENT_MESSAGES + 2
    hidden = [Send(None, MessageHidden(seq)) for seq in (last - 2, last)]
    assert actions == [Send(None, event), NoteAct(event), *hidden]
    assert [(each.seq, each.name, each.text, scope) for each, scope in left] == [
        (last - 2, "Bob", "", ""), (last, "BOB", "", ""),
    ]  # fmt: skip
    assert log.bytes == size - 2 * len("secret")
    assert isinstance(log.read_after(0, 1)[0], Message), "longer ago"
    (again,), left = hide(log, ALICE, OperatorRequest("hide", "bob"))
    text = "bob has published nothing here lately"
    assert again == Send(ALICE, Error("not_here", text)) and not left


def test_a_message_that_the_log_has_dropped() -> None:
    """There is nothing to hide any more."""
    log = MessageLog(max_messages=2)
    for _ in range(3):
        log.append("bob", "x", AT, None, "s")
    (action,), _ = hide(log, ALICE, OperatorRequest("hide", seq=1))
    assert isinstance(action, Send) and isinstance(action.event, Error)
    assert action.event.text == "message 1 is not in the log"
    assert hide(log, ALICE, OperatorRequest("hide", seq=2))[1]


def test_the_file_has_no_text_of_it(tmp_path: Path) -> None:
    """Be it hidden before its batch is written or long after, it is hidden after a restart."""
    path = tmp_path / "log"
    file = SQLiteLog(path)

    async def part() -> None:
        log = MessageLog()
        room = LocalRoom(
            "lobby", log, 100, lambda *_: None, log_file=file,
            persist=lambda: file.commit() is None,
        )  # fmt: skip
        for text in ("first", "second", "third"):
            request = PublishRequest(JoinRequest("bob", session="s" * 16), text, text, 0)
            assert isinstance(room.publish(request, "s" * 16), Published)
            if text == "first":
                room.flush()
        for seq in (1, 3):
            room._execute(room.room.operate(ALICE, OperatorRequest("hide", seq=seq)))
        room.flush()
        repeat = room.publish(PublishRequest(JoinRequest("bob"), "first", "first", 0), "s" * 16)
        assert isinstance(repeat, Published) and (repeat.seq, repeat.name) == (1, "bob")

    asyncio.run(part())
    file.close()
    base = sqlite3.connect(path)
    rows = base.execute("SELECT seq, text FROM message ORDER BY seq").fetchall()
    assert rows == [(1, ""), (2, "second"), (3, "")]
    base.close()
    again, log = SQLiteLog(path), MessageLog()
    again.restore("lobby", log)
    entries = log.read_after(0, 9)
    assert entries[::2] == [MessageHidden(1, "first"), MessageHidden(3, "third")]
    assert log.seq_of("s" * 16, "third") == 3
    again.close()


def test_nobody_who_is_behind_receives_it() -> None:
    """What was encoded for others that were behind is not sent to those who come later."""

    async def part() -> None:
        log = MessageLog()
        for _ in range(5):
            log.append("bob", "secret", AT, None, "s")
        room = LocalRoom("lobby", log, 100, lambda *_: None)
        cursor = Cursor(log.epoch, 0)
        receivers = []
        for number in range(3):
            join = JoinRequest(f"m{number}", since=cursor, format=Format.JSON)
            receiver = RecordingReceiver()
            receivers.append(receiver)
            receiver.paused = number == 0  # so that what is encoded for others is kept
            member = Participant(join, f"#{number}")
            room.join(member, receiver)  # type: ignore[arg-type]
            if receiver.paused:
                room.flow_changed(member)
            room.flush()
            if number == 1:
                room._execute(room.room.operate(ALICE, OperatorRequest("hide", "bob")))
                room.flush()
        first, second = (b"".join(each.frames) for each in receivers[1:])
        assert first.count(b"secret") == first.count(b'"hidden"') == 5
        assert second.count(b"secret") == 0 and second.count(b'"hidden"') == 5

    asyncio.run(part())
