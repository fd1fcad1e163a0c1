"""The log file: what it keeps for the next process, and when it begins new epochs."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from log_files import kill, read_messages

from broadcast_server.rooms.log_errors import translate_errors
from broadcast_server.rooms.message_log import LogFileError, MessageLog
from broadcast_server.rooms.sqlite_log import SQLiteLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a log file."""
    return tmp_path / "rooms.log"


def publish(file: SQLiteLog, log: MessageLog, *texts: str) -> None:
    """Append messages to the log of the room, and commit them to the file."""
    for text in texts:
        file.append("lobby", log, log.append("bob", text, "now", f"id {text}", "s"), "s")
    file.commit()


def restored(file: SQLiteLog, max_messages: int = 100) -> MessageLog:
    """Return the log of the room, as the file has it."""
    log = MessageLog(max_messages, epoch="of an empty room")
    file.restore("lobby", log)
    return log


def texts(log: MessageLog) -> list[str]:
    """Return the texts of all messages in a log."""
    return [message.text for message in read_messages(log, log.first - 1, 10**6)]


def test_a_log_continues_after_a_restart(path: Path) -> None:
    """After a restart, even by kill -9, a room has its epoch, numbers, texts and ids again."""
    file = SQLiteLog(path)
    log = restored(file)
    assert log.head == 0
    publish(file, log, "one", "two\0")
    kill(file)
    file = SQLiteLog(path)
    again = restored(file)
    assert (again.epoch, again.first, again.head) == (log.epoch, 1, 2)
    assert again.read_after(0, 9) == log.read_after(0, 9)
    assert again.seq_of("s", "id one") == 1 and again.seq_of("t", "id one") is None
    publish(file, again, "three")
    assert again.head == 3
    file.close()


def test_the_file_is_bounded(path: Path) -> None:
    """Messages that the log in memory drops are deleted from the file, and numbers continue."""
    file = SQLiteLog(path)
    publish(file, restored(file, max_messages=3), *map(str, range(10)))
    file.close()
    file = SQLiteLog(path)
    log = restored(file)
    assert (log.first, log.head, texts(log)) == (8, 10, ["7", "8", "9"])
    file.close()
    with sqlite3.connect(path) as base:
        assert base.execute("SELECT count(*) FROM message").fetchone() == (3,)
    base.close()


def test_a_log_that_keeps_no_messages_continues_its_numbers(path: Path) -> None:
    """A log that has dropped all its messages continues with the next number."""
    file = SQLiteLog(path)
    publish(file, restored(file, max_messages=0), "one", "two")
    file.close()
    file = SQLiteLog(path)
    assert (restored(file).first, restored(file).head) == (3, 2)
    file.close()


def test_an_empty_room_keeps_its_epoch(path: Path) -> None:
    """The key of the epochs of empty rooms is the same after a restart."""
    file = SQLiteLog(path)
    secret = file.secret
    file.close()
    file = SQLiteLog(path)
    assert file.secret == secret
    file.close()


class FullDisk:
    """A full disk: the file cannot grow until `make_room`."""

    def __init__(self, file: SQLiteLog) -> None:
        (pages,) = file._database.execute("PRAGMA page_count").fetchone()
        file._database.execute(f"PRAGMA max_page_count={pages}")
        self._file = file

    def make_room(self) -> None:
        """Let the file grow again, and the next attempt be now."""
        self._file._database.execute("PRAGMA max_page_count=1000000")
        self._file._retry_at = 0.0


def test_messages_wait_for_a_full_disk(path: Path) -> None:
    """A failed write is reported once, and its messages are written when there is room again."""
    file = SQLiteLog(path)
    log = restored(file)
    publish(file, log, "one")
    disk = FullDisk(file)
    file.append("lobby", log, log.append("bob", "x" * 10**5, "now", None, "s"), "s")
    notice = file.commit()
    assert (
        notice == f"messages are not recorded: log file {path} cannot be written: the disk is full"
    )
    assert not file.recording
    file._retry_at = 0.0
    publish(file, log, "three")
    assert file.commit() is None
    disk.make_room()
    assert file.commit() == "messages are recorded again"
    assert file.recording
    kill(file)
    file = SQLiteLog(path)
    assert texts(restored(file)) == ["one", "x" * 10**5, "three"]
    assert restored(file).epoch == log.epoch
    file.close()


def test_sent_messages_that_are_not_in_the_file_end_the_epoch(path: Path) -> None:
    """If the file lacks messages that were sent, their numbers are not reused in that epoch."""
    file = SQLiteLog(path)
    log = restored(file)
    publish(file, log, "one")
    secret = file.secret
    FullDisk(file)
    publish(file, log, "x" * 10**5)
    kill(file)
    file = SQLiteLog(path)
    assert texts(restored(file)) == ["one"]
    assert restored(file).epoch != log.epoch and file.secret != secret
    epoch = restored(file).epoch
    file.close()
    file = SQLiteLog(path)
    assert restored(file).epoch == epoch, "only once"
    file.close()


def test_messages_that_wait_for_a_full_disk_are_bounded(path: Path) -> None:
    """While the disk is full, no more messages wait than the log in memory keeps."""
    file = SQLiteLog(path)
    log = restored(file, max_messages=10)
    FullDisk(file)
    for number in range(100):
        file._retry_at = 0.0
        publish(file, log, f"{number}" * 10**4)
    assert len(file._uncommitted) <= 11
    kill(file)


def reboot(path: Path) -> None:
    """Make the file look as if the machine had started again since it was open."""
    base = sqlite3.connect(path)
    base.execute("UPDATE state SET boot = 'another' || substr(boot, instr(boot, ' '))")
    base.commit()
    keep_journal = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    keep_journal.execute("BEGIN")
    keep_journal.execute("SELECT count(*) FROM state").fetchone()
    base.close()
    keep_journal.close()


@pytest.mark.parametrize(
    ("sync", "closed", "same"), [(False, False, False), (True, False, True), (False, True, True)]
)
def test_after_a_power_cut(path: Path, sync: bool, closed: bool, same: bool) -> None:
    """A power cut ends the epoch of a file that was open, unless each commit waits for the disk."""
    file = SQLiteLog(path, sync=sync)
    log = restored(file)
    publish(file, log, "one")
    if closed:
        file.close()
    else:
        kill(file)
    reboot(path)
    file = SQLiteLog(path, sync=sync)
    assert (restored(file).epoch == log.epoch) is same
    assert texts(restored(file)) == ["one"]
    file.close()


def test_a_copy_has_new_epochs(path: Path, tmp_path: Path) -> None:
    """A copy of the file without its marker may be older than what was sent, so epochs change."""
    file = SQLiteLog(path)
    log = restored(file)
    publish(file, log, "one")
    file.close()
    copy = tmp_path / "backup.log"
    copy.write_bytes(path.read_bytes())
    file = SQLiteLog(copy)
    assert restored(file).epoch != log.epoch
    assert texts(restored(file)) == ["one"]
    file.close()


def test_two_servers_cannot_share_a_file(path: Path) -> None:
    """A file that one server has open cannot be opened by another."""
    file = SQLiteLog(path)
    with pytest.raises(LogFileError, match=r"is in use by another program: stop that program"):
        SQLiteLog(path)
    publish(file, restored(file), "one")
    file.close()


def test_a_file_of_a_later_version_is_not_opened(path: Path) -> None:
    """A file with a later version of the tables is rejected."""
    SQLiteLog(path).close()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version=4")
    base.close()
    with pytest.raises(
        LogFileError, match=r"has version 4, this program knows versions up to 3: update"
    ):
        SQLiteLog(path)


def test_the_database_of_another_program_is_not_opened(path: Path) -> None:
    """A database of another program is rejected, also through a link, and not changed at all."""
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE theirs (x)")
    base.close()
    path.chmod(0o644)
    before = path.read_bytes()
    link = path.with_name("link")
    link.symlink_to(path)
    for each in path, link:
        with pytest.raises(LogFileError, match=r"belongs to another program: name another file"):
            SQLiteLog(each)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (before, 0o644)
    assert {each.name for each in path.parent.iterdir()} == {path.name, "link"}


def test_a_link_beside_the_file_is_not_followed(path: Path) -> None:
    """A link in the place of a file that SQLite makes is an error, and its target is as it was."""
    SQLiteLog(path).close()
    target = path.with_name("target")
    target.write_text("theirs")
    target.chmod(0o644)
    path.with_name(f"{path.name}-wal").symlink_to(target)
    with pytest.raises(LogFileError, match=r"is a symbolic link: name a file"):
        SQLiteLog(path)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("theirs", 0o644)


def test_a_file_that_is_no_database_is_not_opened(path: Path) -> None:
    """A file that is not a database is rejected, and not changed."""
    path.write_text("dear diary\n" * 1000)
    path.chmod(0o644)
    with pytest.raises(LogFileError, match=r"is not a log file, or is damaged: name another file"):
        SQLiteLog(path)
    assert path.read_text() == "dear diary\n" * 1000
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere/rooms.log", "cannot be used: there is no folder .*/nowhere: create it"),
        ("plain/rooms.log", "cannot be used: there is no folder .*/plain: create it"),
        ("", "is a folder: name a file"),
        ("pipe", "is a pipe: name a file"),
        ("socket", "is a socket: name a file"),
        ("loop", r"cannot be used: too many .*symbolic links \(name the file itself\)"),
        ("dangling", "cannot be used: there is no folder .*/missing: create it"),
        ("x" * 300, r"cannot be used: file name too long \(use a shorter name\)"),
    ],
)
def test_a_path_where_no_file_can_be(tmp_path: Path, name: str, text: str) -> None:
    """If there can be no log file at the path, the error says why, and nothing is left there."""
    (tmp_path / "plain").touch()
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", stat.S_IFSOCK)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("missing/rooms.log")
    before = {each.name for each in tmp_path.iterdir()}
    with pytest.raises(LogFileError, match=rf"^log file .* {text}"):
        SQLiteLog(tmp_path / name)
    assert {each.name for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full", "/dev/stdin"])
def test_a_device_is_no_log_file(device: str) -> None:
    """A device is rejected for what it is, and is not opened."""
    with pytest.raises(LogFileError, match=r"is a (device|pipe): name a file$"):
        SQLiteLog(Path(device))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "log file . is a folder: name a file"),
        (".", "log file . is a folder: name a file"),
        ("/", "log file / is a folder: name a file"),
        (
            ":memory:",
            "log file :memory: is no file: leave --log out to keep messages in memory only",
        ),
    ],
)
def test_names_that_mean_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """A name that means no file gets one line that says so, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LogFileError) as caught:
        SQLiteLog(Path(name))
    assert str(caught.value) == text
    assert not [*tmp_path.iterdir()]


def test_a_deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that was deleted, a relative path is an error that says so."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(LogFileError, match=r"the current folder was deleted: change to another"):
        SQLiteLog(Path("rooms.log"))


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link, also to a file that does not exist yet, means the file with its marker."""
    (tmp_path / "data").mkdir()
    link = tmp_path / "rooms.log"
    link.symlink_to("data/real.log")
    SQLiteLog(link).close()
    assert {each.name for each in (tmp_path / "data").iterdir()} == {"real.log", "real.log.whole"}
    assert {each.name for each in tmp_path.iterdir()} == {"data", "rooms.log"}


# -- who may read it --


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_files_are_private(path: Path, umask: int) -> None:
    """Whatever the umask is, only the owner can read the log file and the files beside it."""
    before = os.umask(umask)
    try:
        file = SQLiteLog(path)
        publish(file, restored(file), "one")
        FullDisk(file)
        publish(file, restored(file), "x" * 10**5)
        file._retry_at = 0.0
        file._database.execute("PRAGMA max_page_count=1000000")
        assert file.commit() == "messages are recorded again"
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    names = "rooms.log", "rooms.log-wal", "rooms.log-shm", "rooms.log.whole"
    assert modes == dict.fromkeys(names, 0o600)
    assert not file.notices
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_a_file_that_others_can_read_is_made_private(path: Path) -> None:
    """An existing file, and what is beside it, is made private, and the operator is told."""
    file = SQLiteLog(path)
    publish(file, restored(file), "one")
    kill(file)
    for each in path.parent.iterdir():
        each.chmod(0o644)
    file = SQLiteLog(path)
    assert file.notices[0] == f"log file {path} was open to other users, its mode is 0600 now"
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert texts(restored(file)) == ["one"]
    file.close()


# -- copies --


@pytest.mark.parametrize("closed", [True, False])
def test_an_older_copy_in_the_place_of_the_file_has_new_epochs(path: Path, closed: bool) -> None:
    """A copy that replaces the file has new epochs, although there is a marker beside it."""
    file = SQLiteLog(path)
    publish(file, restored(file), "one")
    file.close()
    copy = path.read_bytes()
    file = SQLiteLog(path)
    log = restored(file)
    publish(file, log, "two")
    if closed:
        file.close()
    else:
        kill(file)
        path.with_name("rooms.log-wal").unlink(missing_ok=True)
    path.write_bytes(copy)
    file = SQLiteLog(path)
    assert restored(file).epoch != log.epoch
    assert texts(restored(file)) == ["one"]
    file.close()


def test_a_file_of_the_first_version_keeps_its_epochs(path: Path) -> None:
    """A file without a mark, beside an empty marker, is whole."""
    file = SQLiteLog(path)
    log = restored(file)
    publish(file, log, "one")
    file.close()
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("UPDATE state SET boot = substr(boot, 1, instr(boot, ' ') - 1)")
    base.close()
    path.with_name("rooms.log.whole").write_bytes(b"")
    file = SQLiteLog(path)
    assert restored(file).epoch == log.epoch
    file.close()


def test_something_else_in_the_place_of_the_marker(path: Path) -> None:
    """A folder or a link in the place of the marker is no marker, and is not written to."""
    SQLiteLog(path).close()
    marker = path.with_name("rooms.log.whole")
    content = marker.read_bytes()
    marker.unlink()
    victim = path.with_name("victim")
    victim.write_bytes(content)
    marker.symlink_to(victim)
    with pytest.raises(LogFileError, match=r"cannot be written: it is a symbolic link \(remove"):
        SQLiteLog(path)
    assert victim.read_bytes() == content
    marker.unlink()
    marker.mkdir()
    with pytest.raises(LogFileError, match=r"cannot be written: it is a folder \(remove it\)"):
        SQLiteLog(path)


def test_why_a_file_cannot_be_opened(tmp_path: Path) -> None:
    """SQLite does not say why it cannot open a file: its folder may have been deleted."""
    error = sqlite3.OperationalError("unable to open database file")
    denied = pytest.raises(LogFileError, match=r"cannot be opened: permission denied")
    with denied, translate_errors(tmp_path / "log"):
        raise error
    no_folder = pytest.raises(
        LogFileError, match=r"cannot be opened: there is no folder .*: create"
    )
    with no_folder, translate_errors(tmp_path / "deleted" / "log"):
        raise error
