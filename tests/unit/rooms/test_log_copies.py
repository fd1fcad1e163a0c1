"""Copies of a log file, and a log file that is moved, replaced or overwritten while it is open.

No number is given for two messages in one epoch, and whatever is not recorded is said in words.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from log_files import kill, read_messages
from programs import ROOT

from broadcast_server.rooms import sqlite_log
from broadcast_server.rooms.log_backup import back_up
from broadcast_server.rooms.log_marker import LogMarker
from broadcast_server.rooms.log_start import open_database
from broadcast_server.rooms.log_state import LogState
from broadcast_server.rooms.message_log import LogFileError, MessageLog
from broadcast_server.rooms.sqlite_log import SQLiteLog

NEW_EPOCHS = "all rooms have new epochs"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path for a log file, in a folder of its own."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data/rooms.log"


class OpenLog:
    """A log file that is open, and the log of its room."""

    def __init__(self, path: Path) -> None:
        self.file, self.log = SQLiteLog(path), MessageLog()
        self.file.restore("lobby", self.log)

    def publish(self, *texts: str) -> None:
        """Publish messages in the room."""
        for text in texts:
            message = self.log.append("bob", text, "now", f"id {text}", "s")
            self.file.append("lobby", self.log, message, "s")
        self.file.commit()

    @property
    def texts(self) -> list[str]:
        """All messages of the room."""
        return [each.text for each in read_messages(self.log, self.log.first - 1, 10**6)]

    def end(self, how: str, trouble: str = "") -> None:
        """Close the file, or leave it as a killed server does. To close it says the *trouble*."""
        if how == "killed":
            kill(self.file)
        elif trouble:
            with pytest.raises(LogFileError) as failed:
                self.file.close()
            assert str(failed.value) == f"the last messages are not recorded: {trouble}"
        else:
            self.file.close()


def reopened(path: Path) -> tuple[str, list[str], str]:
    """Open a log file and close it; return the epoch and the messages of its room, and notices."""
    again = OpenLog(path)
    again.file.close()
    return again.log.epoch, again.texts, "\n".join(again.file.notices)


def restore_in_place(copy: Path, folder: Path) -> None:
    """Write a copied folder over the files of another one, with all times that can be kept."""
    for each in copy.iterdir():
        shutil.copy2(each, folder / each.name)


def restore_anew(copy: Path, folder: Path) -> None:
    """Put a copied folder in the place of another one."""
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


@pytest.mark.parametrize("restore", [restore_in_place, restore_anew])
@pytest.mark.parametrize("end", ["killed", "closed"])
@pytest.mark.parametrize("copied", ["open", "closed"])
def test_a_folder_that_is_restored_has_new_epochs(
    path: Path, tmp_path: Path, copied: str, end: str, restore: Callable[[Path, Path], None]
) -> None:
    """A log file restored with everything beside it has new epochs, and says so."""
    server, copy = OpenLog(path), tmp_path / "copy"
    server.publish("one")
    if copied == "closed":
        server.file.close()
    shutil.copytree(path.parent, copy)
    if copied == "closed":
        server = OpenLog(path)
    server.publish("two", "three")
    server.end(end)
    restore(copy, path.parent)
    epoch, texts, notices = reopened(path)
    assert epoch != server.log.epoch
    assert texts == ["one"]
    assert notices.endswith(NEW_EPOCHS)


@pytest.mark.parametrize("name", ["rooms.log", "elsewhere.log"])
def test_a_young_log_that_is_copied_alone(path: Path, name: str) -> None:
    """A copy without the journal says that messages may be missing, whatever it is called."""
    server = OpenLog(path)
    server.publish("one")
    data = path.read_bytes()
    kill(server.file)
    path.with_name("rooms.log-wal").unlink()
    path.with_name(name).write_bytes(data)
    epoch, texts, notices = reopened(path.with_name(name))
    assert (texts, epoch == server.log.epoch) == ([], False)
    assert f"{name}-wal beside it was deleted, so its newest messages may be missing" in notices
    assert notices.endswith(NEW_EPOCHS)


def test_an_empty_file_begins_anew(path: Path) -> None:
    """An empty file may once have been a log, so that it is used is said."""
    path.touch(0o600)
    assert reopened(path)[2] == f"log file {path} was empty: all rooms begin anew"
    assert reopened(path)[2] == ""


@pytest.mark.parametrize("what", ["a backup", "an old copy", "a copy of an open file"])
def test_the_journal_of_another_file_is_not_used(path: Path, tmp_path: Path, what: str) -> None:
    """Whoever restores a file beside the journal of a killed server gets what the file has."""
    server = OpenLog(path)
    server.publish("one")
    copy = tmp_path / "copy"
    if what == "a backup":
        back_up(path, copy)
    else:
        server.file.close()
        shutil.copy(path, copy)
        server = OpenLog(path)
        if what != "an old copy":
            shutil.copy(path, copy)
            server.file.close()
            server = OpenLog(path)
    server.publish("two")
    kill(server.file)
    shutil.copy(copy, path)
    epoch, texts, notices = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one"], False)
    assert "rooms.log-wal beside" in notices and "belonged to another file" in notices


def test_a_file_that_was_moved_has_new_epochs(path: Path) -> None:
    """A file under another name, without its marker, may be a copy as well."""
    server = OpenLog(path)
    server.publish("one")
    server.file.close()
    path.rename(path.with_name("other.log"))
    epoch, texts, notices = reopened(path.with_name("other.log"))
    assert (texts, epoch == server.log.epoch) == (["one"], False)
    assert notices.endswith(f"is a copy, or could not be written for a time: {NEW_EPOCHS}")


KILLED_EVERYWHERE = """
import linecache, os, sys
from pathlib import Path
from broadcast_server.rooms import log_marker, log_start, sqlite_log
from broadcast_server.rooms.message_log import MessageLog
OURS = {each.__file__ for each in (log_marker, log_start, sqlite_log)}
EFFECTS = "execute(", "write(", "write_marker(", "close()", "_note_own_change()", "os.open("
path = Path(sys.argv[1])

def wait_for_next_tick():  # so that the next change has another time
    probe = path.with_name("probe")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            break

def use_log():
    file, log = sqlite_log.SQLiteLog(path), MessageLog()
    file._checkpoint_at = 1  # a checkpoint after the commit
    file.restore("lobby", log)
    wait_for_next_tick()
    file.append("lobby", log, log.append("bob", "hi", "now", None, "s"), "s")
    file.commit()
    wait_for_next_tick()
    print(log.epoch, log.head, flush=True)
    file.close()

def use_log_until(last):
    count, after_effect = 0, False
    def trace(frame, event, arg):
        nonlocal count, after_effect
        name = frame.f_code.co_filename
        if name not in OURS:
            return None
        count += after_effect
        if count == last:
            os._exit(7)
        text = linecache.getline(name, frame.f_lineno) if event == "line" else ""
        after_effect = any(effect in text for effect in EFFECTS)
        return trace
    sys.settrace(trace)
    use_log()
    os._exit(0)

effects = 1
while True:
    pid = os.fork()
    if not pid:
        use_log_until(effects)
    if os.waitpid(pid, 0)[1] == 0:
        break
    use_log()
    effects += 1
print("killed", effects)
"""
"""Opens a log file, uses it and closes it, again and again: in a process that is killed after one
more line that changes a file, and then in one that is not."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_server_that_is_killed_anywhere_keeps_its_epoch() -> None:
    """Wherever a server is killed, also at its start and end, the next one continues its log."""
    memory = Path("/dev/shm")  # where the disk is not waited for, if there is such a place
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        OpenLog(path := Path(folder, "rooms.log")).file.close()
        done = subprocess.run(
            [sys.executable, "-c", KILLED_EVERYWHERE, str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    *sent, (_, kills) = map(str.split, done.stdout.splitlines())
    assert int(kills) > 40
    assert len({epoch for epoch, _ in sent}) == 1
    heads = [int(head) for _, head in sent]
    assert heads == sorted(set(heads))


# -- beside a program that reads the file --


class Reader:
    """Another program that reads a log file, and so keeps the journal from being moved."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        self._base.execute("BEGIN")
        self._base.execute("SELECT count(*) FROM message").fetchone()
        self.close = self._base.close


def publish_beside_a_reader(path: Path, when: str) -> tuple[OpenLog, Reader]:
    """Publish, with a checkpoint, beside a reader that began *when*."""
    server = OpenLog(path)
    server.publish("one")
    if when == "before the start":  # what is written when it opens the file stays in the journal
        server.file.close()
        with pytest.MonkeyPatch.context() as patch:
            opened: list[Reader] = []

            def open_beside(
                shown: Path, path: Path, state: LogState, *, sync: bool
            ) -> sqlite3.Connection:
                opened.append(Reader(path))
                return open_database(shown, path, state, sync=sync)

            patch.setattr(sqlite_log, "open_database", open_beside)
            server = OpenLog(path)
        reader = opened[0]
    else:
        reader = Reader(path)
    server.file._checkpoint_at = 1
    server.publish("two")
    return server, reader


@pytest.mark.parametrize("restore", [restore_in_place, restore_anew])
@pytest.mark.parametrize("when", ["before the start", "later"])
def test_a_folder_that_is_copied_beside_a_reader(
    path: Path, tmp_path: Path, when: str, restore: Callable[[Path, Path], None]
) -> None:
    """A copy that is made while another program reads the file has new epochs as well."""
    (server, reader), copy = publish_beside_a_reader(path, when), tmp_path / "copy"
    shutil.copytree(path.parent, copy)
    reader.close()
    server.publish("three")
    kill(server.file)
    restore(copy, path.parent)
    epoch, texts, notices = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one", "two"], False)
    assert notices.endswith(NEW_EPOCHS)


@pytest.mark.parametrize("end", ["killed", "closed"])
@pytest.mark.parametrize("when", ["before the start", "later"])
def test_a_server_that_ends_beside_a_reader(path: Path, when: str, end: str) -> None:
    """What is in the journal only, as another program reads the file, is there in its epoch."""
    server, reader = publish_beside_a_reader(path, when)
    server.end(end)
    reader.close()
    assert reopened(path) == (server.log.epoch, ["one", "two"], "")


@pytest.mark.parametrize("restore", [restore_in_place, restore_anew])
@pytest.mark.parametrize("during", ["the start", "a checkpoint", "the end"])
def test_a_folder_that_is_copied_after_a_kill_during(
    path: Path, tmp_path: Path, during: str, restore: Callable[[Path, Path], None]
) -> None:
    """A server that was killed while it changed its file continues, and a copy does not."""
    server, copy = OpenLog(path), tmp_path / "copy"
    server.publish("one")
    if during == "a checkpoint":
        server.file._allow_change()
        server.file._database.execute("PRAGMA wal_checkpoint")
    elif during == "the end":
        server.file._end_run()
    else:
        server.file.close()
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr(LogMarker, "write")  # its first use is after the last change to the file
            with pytest.raises(AttributeError):
                SQLiteLog(path)
    if during != "the start":
        kill(server.file)
    shutil.copytree(path.parent, copy)
    again = OpenLog(path)
    assert (again.log.epoch, again.file.notices) == (server.log.epoch, [])
    again.publish("two")
    again.file.close()
    restore(copy, path.parent)
    epoch, texts, notices = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one"], False)
    assert notices.endswith(NEW_EPOCHS)


def test_a_folder_that_is_copied_after_a_full_disk(path: Path, tmp_path: Path) -> None:
    """A copy that is made when the file can be written again has new epochs as well."""
    server, copy = OpenLog(path), tmp_path / "copy"
    server.file._database.execute("PRAGMA query_only=ON")
    server.publish("one")
    assert not server.file.recording
    server.file._database.execute("PRAGMA query_only=OFF")
    server.file._retry_at = 0.0
    server.publish("two")
    assert server.file.recording
    shutil.copytree(path.parent, copy)
    server.publish("three")
    kill(server.file)
    restore_anew(copy, path.parent)
    epoch, texts, _ = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one", "two"], False)


# -- backups --


@pytest.mark.parametrize("state", ["open", "killed", "closed"])
def test_a_backup(path: Path, tmp_path: Path, state: str) -> None:
    """A backup is one private file with everything, and the file that is copied is unchanged."""
    server, copy = OpenLog(path), tmp_path / "copy.log"
    server.publish("one", "two")
    if state != "open":
        server.end(state)
    before, names = path.stat(), {each.name for each in path.parent.iterdir()}
    assert back_up(path, copy) == copy.stat().st_size
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["copy.log"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (path.stat().st_ctime_ns, path.stat().st_size) == (before.st_ctime_ns, before.st_size)
    assert {each.name for each in path.parent.iterdir()} == names
    if state == "open":
        server.publish("three")
        server.file.close()
    epoch, texts, notices = reopened(copy)
    assert (texts, epoch == server.log.epoch) == (["one", "two"], False)
    assert f"{copy} is a backup, and messages may have been sent since: {NEW_EPOCHS}" in notices
    assert reopened(copy) == (epoch, texts, "")
    assert reopened(path)[0] == server.log.epoch


def test_other_programs_may_read_an_open_file(path: Path, tmp_path: Path) -> None:
    """Programs with SQLite can read and copy the file while it is open, and delay nothing."""
    server = OpenLog(path)
    server.publish("one")
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    other.execute("VACUUM INTO ?", (str(tmp_path / "copy.log"),))
    other.execute("BEGIN")
    assert other.execute("SELECT text FROM message").fetchall() == [("one",)]
    server.publish("two")
    assert server.file.recording
    other.close()
    server.file.close()
    assert reopened(path)[:2] == (server.log.epoch, ["one", "two"])
    assert reopened(tmp_path / "copy.log")[1] == ["one"]


def test_another_program_that_moves_the_journal(path: Path) -> None:
    """A checkpoint by another program, as a tool for replication makes them, changes nothing."""
    server = OpenLog(path)
    server.publish("one")
    other = sqlite3.connect(path, timeout=0)
    other.execute("PRAGMA wal_checkpoint")
    other.close()
    assert server.file.check_file() is None
    server.publish("two")
    with pytest.raises(LogFileError, match="in use by another program"):
        SQLiteLog(path)
    kill(server.file)
    assert reopened(path) == (server.log.epoch, ["one", "two"], "")


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        ("nothing", "copy", r"log file \S*nothing does not exist"),
        (".", "copy", r"is a folder: name a file"),
        ("rooms.log", "there", r"there exists: name another one, or remove it first"),
        ("rooms.log", "rooms.log", r"rooms.log exists: name another one, or remove it first"),
        ("rooms.log", "link", r"there exists|link exists: name another one"),
        ("rooms.log", "nowhere/copy", r"there is no folder \S*nowhere: create it"),
        ("there", "copy", r"is not a log file, or is damaged"),
        ("empty", "copy", r"is empty: there is nothing to copy"),
    ],
)
def test_a_backup_that_is_impossible(path: Path, source: str, target: str, error: str) -> None:
    """It says why in one line, and leaves everything as it was."""
    OpenLog(path).file.close()
    folder = path.parent
    (folder / "there").write_text("theirs")
    (folder / "empty").touch()
    (folder / "link").symlink_to("there")
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    with pytest.raises(LogFileError, match=error):
        back_up(folder / source, folder / target)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


# -- while the file is open --


@pytest.mark.parametrize("end", ["killed", "closed"])
@pytest.mark.parametrize("how", ["deleted", "renamed", "all renamed", "folder renamed"])
def test_a_file_that_is_moved_is_written_anew(path: Path, how: str, end: str) -> None:
    """A file that loses its name is written again with all messages, in the same epochs.

    What was moved is complete up to then, and has new epochs if a server uses it.
    """
    server = OpenLog(path)
    server.publish("one")
    moved = path.with_name("moved.log")
    if how == "deleted":
        path.unlink()
    elif how == "folder renamed":
        moved = path.parent.rename(path.parent.with_name("moved")) / path.name
        path.parent.mkdir()
    else:
        for suffix in ("", "-wal", "-shm") if how == "all renamed" else ("",):
            Path(f"{path}{suffix}").rename(f"{moved}{suffix}")
    server.publish("two")
    notice = server.file.check_file()
    anew = "was renamed or deleted: it was written anew, with all messages"
    assert notice == f"log file {path} {anew}"
    assert server.file.recording and server.file.check_file() is None
    server.publish("three")
    server.end(end)
    assert reopened(path) == (server.log.epoch, ["one", "two", "three"], "")
    if how != "deleted":
        epoch, texts, notices = reopened(moved)
        assert (texts, epoch == server.log.epoch) == (["one", "two"], False)
        assert notices.endswith(NEW_EPOCHS)


def test_a_file_that_is_moved_just_before_the_end(path: Path) -> None:
    """A file that is missing when the server stops is written anew as well."""
    server = OpenLog(path)
    server.publish("one")
    path.unlink()
    server.file.close()
    assert reopened(path) == (server.log.epoch, ["one"], "")


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_journal_that_is_deleted(path: Path, end: str) -> None:
    """A journal that loses its name takes no message with it."""
    server = OpenLog(path)
    server.publish("one")
    path.with_name("rooms.log-wal").unlink()
    server.publish("two")
    anew = "was renamed or deleted: it was written anew, with all messages"
    assert server.file.check_file() == f"the journal beside log file {path} {anew}"
    server.publish("three")
    server.end(end)
    assert reopened(path) == (server.log.epoch, ["one", "two", "three"], "")


def test_a_file_that_cannot_be_written_anew(path: Path) -> None:
    """Without its folder nothing is recorded, and everyone is told, until the folder is there."""
    server = OpenLog(path)
    server.publish("one")
    moved = path.parent.rename(path.parent.with_name("moved"))
    assert server.file.check_file() == (
        f"messages are not recorded: log file {path} cannot be used: there is no folder"
        f" {path.parent}: create it, or name another file"
    )
    assert not server.file.recording and server.file.check_file() is None
    server.publish("two")
    assert not server.file.recording
    path.parent.mkdir()
    assert str(server.file.check_file()).endswith("it was written anew, with all messages")
    assert server.file.recording
    server.publish("three")
    kill(server.file)
    assert reopened(path) == (server.log.epoch, ["one", "two", "three"], "")
    assert reopened(moved / path.name)[0] != server.log.epoch


@pytest.mark.parametrize("copy", [back_up, shutil.copy])
@pytest.mark.parametrize("end", ["killed", "closed", "moved away"])
def test_a_file_that_is_replaced(
    path: Path, end: str, copy: Callable[[Path, Path], object]
) -> None:
    """Another file in its place is left alone: nothing is recorded until that is gone."""
    server = OpenLog(path)
    server.publish("one")
    server.file.close()
    server = OpenLog(path)
    copy(path, path.with_name("copy"))
    server.publish("two")
    path.with_name("copy").rename(path)
    server.publish("three")
    assert server.file.check_file() == (
        f"messages are not recorded: log file {path} was replaced by another file (move that"
        " away, and the log is written anew)"
    )
    assert not server.file.recording and server.file.check_file() is None
    server.publish("four")
    if end == "moved away":
        path.unlink()
        assert str(server.file.check_file()).endswith("it was written anew, with all messages")
        assert server.file.recording
        server.file.close()
        assert reopened(path)[:2] == (server.log.epoch, ["one", "two", "three", "four"])
        return
    server.end(end, f"log file {path} was replaced by another file")
    epoch, texts, notices = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one"], False)
    assert notices.endswith(NEW_EPOCHS)


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_file_that_is_overwritten(path: Path, end: str) -> None:
    """A copy that is written over the open file ends the epochs, and is what the next start has."""
    server = OpenLog(path)
    server.publish("one")
    back_up(path, copy := path.with_name("backup"))
    secret = server.file.secret
    server.publish("two")
    shutil.copyfile(copy, path)
    assert server.file.check_file() == (
        f"messages are not recorded: log file {path} was overwritten by another program (restart"
        " the server to use what is in it)"
    )
    assert server.file.epochs_must_end and not server.file.recording
    server.file.end_epochs()
    assert server.file.secret != secret
    server.publish("three")
    trouble = "overwritten by another program (restart the server to use what is in it)"
    server.end(end, f"log file {path} was {trouble}")
    epoch, texts, _ = reopened(path)
    assert (texts, epoch == server.log.epoch) == (["one"], False)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("kind", ["replaced", "overwritten", "folder", "full"])
def test_the_end_says_what_is_missing(path: Path, kind: str, looks: bool) -> None:
    """Whether it was noticed before or not, a close fails if the file lacks messages."""
    server = OpenLog(path)
    server.publish("one")
    where = f"log file {path}"
    if kind == "replaced":
        path.rename(path.with_name("moved"))
        path.write_text("theirs")
        trouble = f"{where} was replaced by another file"
    elif kind == "overwritten":
        os.truncate(path, 100)
        restart = "restart the server to use what is in it"
        trouble = f"{where} was overwritten by another program ({restart})"
    elif kind == "folder":
        shutil.rmtree(path.parent)
        remedy = f"there is no folder {path.parent}: create it, or name another file"
        trouble = f"{where} cannot be used: {remedy}"
    else:
        (pages,) = server.file._database.execute("PRAGMA page_count").fetchone()
        server.file._database.execute(f"PRAGMA max_page_count={pages}")
        server.publish("2" * 100_000)
        trouble = f"{where} cannot be written: the disk is full"
    if looks:
        server.file.check_file()
        if server.file.epochs_must_end:
            server.file.end_epochs()
        server.publish("2" * 100_000)
    server.end("closed", trouble)


def test_a_new_mode_is_no_new_content(path: Path) -> None:
    """A file whose mode is changed while it is open keeps its epochs, also after a kill."""
    server = OpenLog(path)
    server.publish("one")
    path.chmod(0o400)
    path.chmod(0o600)
    assert server.file.check_file() is None
    kill(server.file)
    assert reopened(path) == (server.log.epoch, ["one"], "")
