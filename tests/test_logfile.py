"""The log file: what it keeps across processes, and what it promises when it cannot."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from broadcast_server.history import Log, LogFileError
from broadcast_server.logfile import LogFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file may be."""
    return tmp_path / "rooms.log"


def said(file: LogFile, log: Log, *texts: str) -> None:
    """Say something in the room, and have it kept."""
    for text in texts:
        file.add("lobby", log, log.append("bob", text, "now", f"id {text}", "s"), "s")
    file.keep()


def filled(file: LogFile, messages: int = 100) -> Log:
    """Return the room's log as the file has it."""
    log = Log(messages, epoch="of an empty room")
    file.fill("lobby", log)
    return log


def killed(file: LogFile) -> None:
    """End with the file as a process does that is killed."""
    file._base.close()


def texts(log: Log) -> list[str]:
    """Return all that a log has."""
    return [each.text for each in log.after(log.first - 1, 10**6)]


def test_a_log_goes_on_where_it_was(path: Path) -> None:
    """After a restart, even by kill -9, a room has its epoch, its numbers, texts and ids."""
    file = LogFile(path)
    log = filled(file)
    assert (log.epoch, log.head) == ("of an empty room", 0)
    said(file, log, "one", "two\0")
    killed(file)
    file = LogFile(path)
    again = filled(file)
    assert (again.epoch, again.first, again.head) == (log.epoch, 1, 2)
    assert again.after(0, 9) == log.after(0, 9)
    assert again.seq_of("s", "id one") == 1 and again.seq_of("t", "id one") is None
    said(file, again, "three")
    assert again.head == 3
    file.close()


def test_what_a_log_forgets_goes_from_the_file(path: Path) -> None:
    """The file is bounded as the log in memory is, and its numbers go on all the same."""
    file = LogFile(path)
    said(file, filled(file, messages=3), *map(str, range(10)))
    file.close()
    file = LogFile(path)
    log = filled(file)
    assert (log.first, log.head, texts(log)) == (8, 10, ["7", "8", "9"])
    file.close()
    with sqlite3.connect(path) as base:
        assert base.execute("SELECT count(*) FROM message").fetchone() == (3,)
    base.close()


def test_a_log_that_kept_nothing_keeps_its_place(path: Path) -> None:
    """A log without messages that is not new goes on with the next number."""
    file = LogFile(path)
    said(file, filled(file, messages=0), "one", "two")
    file.close()
    file = LogFile(path)
    assert (filled(file).first, filled(file).head) == (3, 2)
    file.close()


def test_an_empty_room_keeps_its_epoch(path: Path) -> None:
    """What empty rooms' epochs are made of is the same after a restart."""
    file = LogFile(path)
    secret = file.secret
    file.close()
    file = LogFile(path)
    assert file.secret == secret
    file.close()


class Full:
    """A disk that is full: the file may not grow."""

    def __init__(self, file: LogFile) -> None:
        (pages,) = file._base.execute("PRAGMA page_count").fetchone()
        file._base.execute(f"PRAGMA max_page_count={pages}")
        self._file = file

    def has_room(self) -> None:
        """Make room."""
        self._file._base.execute("PRAGMA max_page_count=1000000")
        self._file._again = 0.0


def test_a_full_disk_is_told_once_and_caught_up(path: Path) -> None:
    """What could not be written is said once, waits, and is in the file when there is room."""
    file = LogFile(path)
    log = filled(file)
    said(file, log, "one")
    disk = Full(file)
    file.add("lobby", log, log.append("bob", "x" * 10**5, "now", None, "s"), "s")
    trouble = file.keep()
    assert (
        trouble == f"what is said is not recorded: log file {path} cannot be written:"
        " the disk is full"
    )
    assert not file.recording
    file._again = 0.0
    said(file, log, "three")
    assert file.keep() is None
    disk.has_room()
    assert file.keep() == "what is said is recorded again"
    assert file.recording
    killed(file)
    file = LogFile(path)
    assert texts(filled(file)) == ["one", "x" * 10**5, "three"]
    assert filled(file).epoch == log.epoch
    file.close()


def test_what_was_told_and_not_recorded_ends_the_epoch(path: Path) -> None:
    """Numbers that were told and are not in the file are never told again under that epoch."""
    file = LogFile(path)
    log = filled(file)
    said(file, log, "one")
    secret = file.secret
    Full(file)
    said(file, log, "x" * 10**5)
    killed(file)
    file = LogFile(path)
    assert texts(filled(file)) == ["one"]
    assert filled(file).epoch != log.epoch and file.secret != secret
    epoch = filled(file).epoch
    file.close()
    file = LogFile(path)
    assert filled(file).epoch == epoch, "once is enough"
    file.close()


def test_what_waits_for_a_full_disk_is_bounded(path: Path) -> None:
    """While the disk is full no more waits than the log in memory keeps."""
    file = LogFile(path)
    log = filled(file, messages=10)
    Full(file)
    for number in range(100):
        file._again = 0.0
        said(file, log, f"{number}" * 10**4)
    assert len(file._added) <= 11
    killed(file)


def start_machine_again(path: Path) -> None:
    """Have the file find that the machine was started since it was open."""
    base = sqlite3.connect(path)
    base.execute("UPDATE state SET boot = 'another'")
    base.commit()
    base.close()


@pytest.mark.parametrize(
    ("sync", "closed", "same"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_after_a_power_cut(path: Path, sync: bool, closed: bool, same: bool) -> None:
    """A power cut ends the epoch of a file that was open, unless it waits for the disk."""
    file = LogFile(path, sync=sync)
    log = filled(file)
    said(file, log, "one")
    if closed:
        file.close()
    else:
        killed(file)
    start_machine_again(path)
    file = LogFile(path, sync=sync)
    assert (filled(file).epoch == log.epoch) is same
    assert texts(filled(file)) == ["one"]
    file.close()


def test_a_copy_has_other_epochs(path: Path, tmp_path: Path) -> None:
    """A copy of the file alone, put back later, is older than what was told."""
    file = LogFile(path)
    log = filled(file)
    said(file, log, "one")
    file.close()
    copy = tmp_path / "backup.log"
    copy.write_bytes(path.read_bytes())
    file = LogFile(copy)
    assert filled(file).epoch != log.epoch
    assert texts(filled(file)) == ["one"]
    file.close()


def test_two_servers_cannot_have_one_file(path: Path) -> None:
    """A file that is open is refused to another."""
    file = LogFile(path)
    with pytest.raises(LogFileError, match=r"is in use by another program: end that one"):
        LogFile(path)
    said(file, filled(file), "one")
    file.close()


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    """What a later version has written is not touched."""
    LogFile(path).close()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version=2")
    base.close()
    with pytest.raises(LogFileError, match=r"is of version 2, known are up to 1: update"):
        LogFile(path)


def test_the_file_of_another_program_is_left_alone(path: Path) -> None:
    """A database that is not ours is not filled with our tables."""
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE theirs (x)")
    base.close()
    with pytest.raises(LogFileError, match=r"is another program's: name another one"):
        LogFile(path)


def test_what_is_no_database(path: Path) -> None:
    """A file of another kind is refused, and stays as it is."""
    path.write_text("dear diary\n" * 1000)
    with pytest.raises(LogFileError, match=r"is no log, or damaged: name another file"):
        LogFile(path)
    assert path.read_text() == "dear diary\n" * 1000


@pytest.mark.parametrize(
    ("name", "text"),
    [("nowhere/rooms.log", "there is no folder"), ("", "it is a folder")],
)
def test_where_no_file_can_be(tmp_path: Path, name: str, text: str) -> None:
    """Where no file can be, the error says why."""
    with pytest.raises(LogFileError, match=rf"cannot be opened: {text}"):
        LogFile(tmp_path / name)
