"""The upgrade of a log file of version 1, which has sessions in clear."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from log_files import read_messages

from broadcast_server.rooms.log_tables import APPLICATION_ID
from broadcast_server.rooms.log_upgrade import upgrade
from broadcast_server.rooms.message_log import DamagedRoomError, MessageLog, derive_epoch
from broadcast_server.rooms.sqlite_log import SQLiteLog

VERSION_1 = """
CREATE TABLE state (secret BLOB NOT NULL, boot TEXT NOT NULL, safe INTEGER NOT NULL);
CREATE TABLE room (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE message (
    room TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, id TEXT, source TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
"""

SECRET = b"sixteen bytes ..."
EPOCH = derive_epoch(SECRET, "lobby")
MESSAGES = 3000
DELETED = 500


def session(number: int) -> str:
    """Return the session of the client that sent message *number*."""
    return f"QQsecretQQ{number % 7}-" + "x" * (6 + number % 40)


def version_1(path: Path) -> None:
    """Make a file that a server of version 1 left when it was killed, with its journal."""
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA secure_delete=OFF")
    base.executescript(f"PRAGMA journal_mode=WAL; PRAGMA application_id={APPLICATION_ID};")
    base.executescript(f"PRAGMA user_version=1; {VERSION_1}")
    base.execute("INSERT INTO state VALUES (?, 'boot', 1)", (SECRET,))
    base.execute("INSERT INTO room VALUES ('lobby', ?, ?)", (EPOCH, MESSAGES))
    rows = [
        ("lobby", seq, "bob", f"text {seq}", "now", f"id {seq}", session(seq))
        if seq % 3
        else ("lobby", seq, "eve", f"text {seq}", "now", f"id {seq}", f"#{seq}")
        for seq in range(1, MESSAGES + 1)
    ]
    for start in range(0, MESSAGES, 100):
        base.execute("BEGIN")
        base.executemany("INSERT INTO message VALUES (?,?,?,?,?,?,?)", rows[start : start + 100])
        base.execute("COMMIT")
    base.execute("PRAGMA wal_checkpoint(PASSIVE)")
    base.execute("DELETE FROM message WHERE seq <= ?", (DELETED,))
    path.with_name(path.name + ".whole").touch()
    for name in (path.name, path.name + "-wal"):  # as they are before the connection is closed
        path.with_name(f"copy of {name}").write_bytes(path.with_name(name).read_bytes())
    base.close()
    for name in (path.name, path.name + "-wal"):
        path.with_name(f"copy of {name}").rename(path.with_name(name))


def files_with_sessions(path: Path) -> list[str]:
    """Return the names of all files of the log that have a session in clear."""
    return [each.name for each in path.parent.iterdir() if b"QQsecretQQ" in each.read_bytes()]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 1."""
    path = tmp_path / "rooms.log"
    version_1(path)
    assert sorted(files_with_sessions(path)) == ["rooms.log", "rooms.log-wal"]
    return path


def check(file: SQLiteLog) -> None:
    """Check that *file* has everything that the file of version 1 had."""
    log = MessageLog()
    file.restore("lobby", log)
    assert (log.epoch, log.first, log.head) == (EPOCH, DELETED + 1, MESSAGES)
    for message in read_messages(log, DELETED, MESSAGES):
        seq = message.seq
        assert message.text == f"text {seq}"
        scope = file.session_key.digest(session(seq)) if seq % 3 else f"#{seq}"
        assert log.seq_of(scope, f"id {seq}") == seq


def test_sessions_become_digests(old: Path) -> None:
    """All messages are kept, their senders are recognised, and no session is in any file."""
    file = SQLiteLog(old)
    assert files_with_sessions(old) == []
    check(file)
    file.close()
    file = SQLiteLog(old)
    check(file)
    file.close()
    assert files_with_sessions(old) == []


def test_an_upgrade_that_was_interrupted(old: Path) -> None:
    """If the process ends before the file is written anew, the next start does that."""
    base = sqlite3.connect(old, isolation_level=None)
    base.execute("PRAGMA secure_delete=OFF")  # as SQLite is built for most systems
    base.execute("BEGIN EXCLUSIVE")
    upgrade(base, 1)
    base.execute("PRAGMA user_version=2")
    base.execute("COMMIT")
    base.close()
    assert files_with_sessions(old) == ["rooms.log"]
    file = SQLiteLog(old)
    assert files_with_sessions(old) == []
    check(file)
    file.close()


@pytest.mark.parametrize(
    "value", ["CAST(x'ff00' AS TEXT)", "x'ff'", "7", "CAST(x'eda080' AS TEXT)"]
)
def test_a_damaged_row_does_not_stop_the_upgrade(old: Path, value: str) -> None:
    """If a session is damaged, its room cannot be opened, and the file can be used."""
    base = sqlite3.connect(old, isolation_level=None)
    base.execute(f"UPDATE message SET source = {value} WHERE seq = 1000")
    base.execute("INSERT INTO message VALUES ('ops', 1, 'bob', 'hi', 'now', NULL, '#1')")
    base.execute("INSERT INTO room VALUES ('ops', 'epoch', 1)")
    base.close()
    file = SQLiteLog(old)
    log = MessageLog()
    file.restore("ops", log)
    assert log.head == 1
    if value != "7":  # which becomes a text, as the column has that type
        with pytest.raises(DamagedRoomError, match="room lobby cannot be opened"):
            file.restore("lobby", MessageLog())
    file.close()
    assert files_with_sessions(old) == []


def test_a_copy_keeps_the_key(old: Path) -> None:
    """A copy without its marker has new epochs, but resent messages are recognised in it."""
    SQLiteLog(old).close()
    old.with_name(old.name + ".whole").unlink()
    file = SQLiteLog(old)
    log = MessageLog()
    file.restore("lobby", log)
    assert log.epoch != EPOCH
    assert log.seq_of(file.session_key.digest(session(1000)), "id 1000") == 1000
    file.close()
