"""The modes of rooms in a log file: a locked room is locked after a restart, and after a kill."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from log_files import kill

from broadcast_server.rooms.log_tables import SCHEMA_VERSION
from broadcast_server.rooms.message_log import LogFileError
from broadcast_server.rooms.room_mode import NO_MODE, RoomMode
from broadcast_server.rooms.sqlite_log import SQLiteLog

LOCKED = RoomMode("tea at five", locked=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log file is to be."""
    return tmp_path / "rooms.log"


@pytest.mark.parametrize("killed", [False, True])
def test_modes_survive_a_restart(path: Path, killed: bool) -> None:
    """Without any message, what was committed is there again, and what was ended is not."""
    file = SQLiteLog(path)
    file.decisions.set_room_mode("lobby", LOCKED)
    file.decisions.set_room_mode("ops", RoomMode(announce=True, slow=30))
    file.decisions.set_room_mode("slow", RoomMode(slow=30))
    file.decisions.set_room_mode("both", LOCKED._replace(slow=60))
    assert file.commit() is None
    file.decisions.set_room_mode("ops", NO_MODE)
    file.decisions.set_room_mode("ops", RoomMode("x"))
    file.decisions.set_room_mode("ops", NO_MODE)
    file.decisions.set_room_mode("slow", RoomMode(slow=86_400))
    file.commit()
    if killed:
        kill(file)
    else:
        file.close()
    again = SQLiteLog(path)
    assert (again.room_modes["lobby"], again.room_modes["ops"]) == (LOCKED, NO_MODE)
    assert again.room_modes["slow"] == RoomMode(slow=86_400)
    assert again.room_modes["both"] == LOCKED._replace(slow=60)
    assert len(again.room_modes) == 3 and not again.notices
    again.close()


def test_a_file_of_version_2_has_no_modes_yet(path: Path) -> None:
    """It is opened, and an older program does not open it any more: it would open the rooms."""
    SQLiteLog(path).close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("DROP TABLE room_mode")
    base.execute("PRAGMA user_version=2")
    base.close()
    file = SQLiteLog(path)
    assert not len(file.room_modes)
    file.decisions.set_room_mode("lobby", LOCKED)
    file.close()
    base = sqlite3.connect(path)
    assert base.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,) == (3,)
    base.execute("PRAGMA user_version=4")
    base.close()
    with pytest.raises(LogFileError, match="version 4, this program knows versions up to 3"):
        SQLiteLog(path)


@pytest.mark.parametrize(
    "row",
    [
        ("Lobby", "tea", 1, 0),
        ("ops", "x" * 201, 1, 0),
        ("ops", "a\x1b[2Jb", 1, 0),
        ("ops", "a\nb", 1, 0),
        ("ops", "tea", 2, 0),
        ("ops", "tea", 1, "yes"),
        ("ops", b"tea", 1, 0),
    ],
)
def test_a_damaged_row_is_left_out(path: Path, row: tuple[object, ...]) -> None:
    """The other rooms keep their modes, and whoever runs the server is told."""
    file = SQLiteLog(path)
    file.decisions.set_room_mode("lobby", LOCKED)
    file.close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("INSERT INTO room_mode VALUES (?, ?, ?, ?)", row)
    base.close()
    again = SQLiteLog(path)
    assert again.room_modes["lobby"] == LOCKED and len(again.room_modes) == 1
    assert any("topics or locks of rooms are lost" in each for each in again.notices)
    again.close()


@pytest.mark.parametrize("row", [("Lobby", 30), ("ops", 0), ("ops", 86_401), ("ops", "30 s")])
def test_a_damaged_row_of_slow_mode(path: Path, row: tuple[object, ...]) -> None:
    """It is left out as well. A file that was made before slow mode has no such table."""
    file = SQLiteLog(path)
    file.decisions.set_room_mode("lobby", LOCKED)
    file.close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("INSERT INTO slow_mode VALUES (?, ?)", row)
    base.close()
    again = SQLiteLog(path)
    assert again.room_modes["lobby"] == LOCKED and len(again.room_modes) == 1
    assert any("topics or locks of rooms are lost" in each for each in again.notices)
    again.close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("DROP TABLE slow_mode")
    base.close()
    again = SQLiteLog(path)
    assert again.room_modes["lobby"] == LOCKED
    assert not any("lost" in each for each in again.notices)
    again.close()


def test_a_missing_table_is_damage(path: Path) -> None:
    """It is no reason not to start, and it is made again."""
    SQLiteLog(path).close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("DROP TABLE room_mode")
    base.close()
    file = SQLiteLog(path)
    assert any("topics or locks of rooms are lost" in each for each in file.notices)
    file.decisions.set_room_mode("lobby", LOCKED)
    assert file.commit() is None
    file.close()


def test_modes_wait_for_a_file_that_cannot_be_written(path: Path) -> None:
    """They are written as soon as that is possible again."""
    file = SQLiteLog(path)
    file._database.execute("PRAGMA query_only=ON")
    file.decisions.set_room_mode("lobby", LOCKED)
    notice = file.commit()
    assert notice is not None and "not recorded" in notice
    file._database.execute("PRAGMA query_only=OFF")
    file._retry_at = 0.0
    assert file.commit() == "messages are recorded again"
    file.close()
    again = SQLiteLog(path)
    assert again.room_modes["lobby"] == LOCKED
    again.close()
