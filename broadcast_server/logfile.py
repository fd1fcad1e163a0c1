"""The log file: keeps what is said in rooms beyond the process, in SQLite.

A room's `Log` in memory stays what everyone is served from. What is appended to it
is added here as well, and a turn's worth is written in one transaction, before anyone
is told: `keep`. So whatever was told is in the file, and after a restart, even by
kill -9, numbers go on under the same epoch.

An epoch is a promise that no number was ever told for anything else. Where the file
cannot know that, it gives its rooms new epochs when it is opened, and clients are told
that they may have missed something:

- What was told while the file could not be written (a full disk) is not in it. While
  all is well a *mark* lies beside the file, an empty file of its own, which is taken
  away then: that needs no room on the disk. A copy of the file alone has no mark either,
  and is older than what was told.
- A power cut may take the last moments of writing with it, unless each turn waits for the
  disk (*sync*). The file knows the boot of the machine in which it was last open.

It knows no room and no wire, and blocks.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .history import Log, LogFileError, new_epoch
from .protocol import Message

VERSION = 1
"""Of the tables. A file of a later one is left alone."""

APPLICATION = 0x62636C67
"""By which the file is known as ours, to us and to file(1): "bclg"."""

RETRY = 1.0
"""Seconds between two tries to write what could not be written."""

TABLES = """
CREATE TABLE state (secret BLOB NOT NULL, boot TEXT NOT NULL, safe INTEGER NOT NULL);
CREATE TABLE room (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE message (
    room TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, id TEXT, source TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
"""


class LogFile:
    """One file for all rooms of one server, which has it for itself."""

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self.recording = True
        """Whether all that was told is in the file."""
        self._mark = path.with_name(path.name + ".whole")
        self._added: list[tuple[str, Message, str]] = []
        self._logs: dict[str, Log] = {}  # of their rooms
        self._again = 0.0  # when the next try may be, if the last failed
        with _explained(path):
            self._base = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                self._open(sync=sync)
            except BaseException:
                self._base.close()
                raise

    def _open(self, *, sync: bool) -> None:
        base = self._base
        # For ourselves: two servers on one file would number twice.
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        base.execute(f"PRAGMA fullfsync={int(sync)}")
        base.execute("BEGIN EXCLUSIVE")
        (application,) = base.execute("PRAGMA application_id").fetchone()
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION:
            raise LogFileError(f"log file {self.path} is another program's: name another one")
        if version > VERSION:
            raise LogFileError(
                f"log file {self.path} is of version {version}, known are up to {VERSION}:"
                " update this program, or name another file"
            )
        boot = _boot()
        if not tables:
            base.execute(f"PRAGMA application_id={APPLICATION}")
            base.execute(f"PRAGMA user_version={VERSION}")
            for statement in filter(str.strip, TABLES.split(";")):
                base.execute(statement)
            base.execute("INSERT INTO state VALUES (?, ?, 1)", (secrets.token_bytes(16), boot))
        last, safe = base.execute("SELECT boot, safe FROM state").fetchone()
        # Not safe is a file that was open without sync; if the machine has been started
        # since, its last moments may be gone.
        if tables and not (self._mark.exists() and (safe or (boot and boot == last))):
            base.execute("UPDATE state SET secret = ?", (secrets.token_bytes(16),))
            for (room,) in base.execute("SELECT name FROM room").fetchall():
                epoch = new_epoch()
                base.execute("UPDATE room SET epoch = ? WHERE name = ?", (epoch, room))
        base.execute("UPDATE state SET boot = ?, safe = ?", (boot, int(sync)))
        base.execute("COMMIT")
        self._mark.touch()
        (self.secret,) = base.execute("SELECT secret FROM state").fetchone()

    def fill(self, room: str, log: Log) -> None:
        """Fill *log*, which is new, with what the file has of *room*."""
        row = self._base.execute("SELECT epoch, head FROM room WHERE name = ?", (room,)).fetchone()
        if row is None:
            return
        rows = self._base.execute(
            "SELECT seq, name, text, at, id, source FROM message WHERE room = ? ORDER BY seq",
            (room,),
        )
        epoch, head = row
        log.restore(epoch, head, ((Message(*message), source) for *message, source in rows))

    def add(self, room: str, log: Log, message: Message, source: str) -> None:
        """Have *message*, which was just appended to *log*, written by the next `keep`."""
        self._added.append((room, message, source))
        self._logs[room] = log

    def keep(self) -> str | None:
        """Write what was added, and return what people should know if that has changed.

        What cannot be written waits for another try, as far back as the logs in memory
        reach.
        """
        if not self._added or (not self.recording and time.monotonic() < self._again):
            return None
        try:
            with _explained(self.path):
                self._write()
                if self.recording:
                    return None
                self._mark.touch()
        except LogFileError as error:
            self._again = time.monotonic() + RETRY
            self._added = [each for each in self._added if each[1].seq >= self._logs[each[0]].first]
            if not self.recording:
                return None
            self.recording = False
            self._mark.unlink(missing_ok=True)
            return f"what is said is not recorded: {error}"
        self.recording = True
        return "what is said is recorded again"

    def _write(self) -> None:
        base = self._base
        base.execute("BEGIN")
        try:
            base.executemany(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (room, each.seq, each.name, each.text, each.at, each.id, source)
                    for room, each, source in self._added
                ),
            )
            base.executemany(
                "INSERT OR REPLACE INTO room VALUES (?, ?, ?)",
                ((room, log.epoch, log.head) for room, log in self._logs.items()),
            )
            base.executemany(
                "DELETE FROM message WHERE room = ? AND seq < ?",
                ((room, log.first) for room, log in self._logs.items()),
            )
            base.execute("COMMIT")
        except BaseException:
            if base.in_transaction:
                base.execute("ROLLBACK")
            raise
        self._added.clear()
        self._logs.clear()

    def close(self) -> None:
        """End with the file, which is safe from then on: all of it is on the disk."""
        with _explained(self.path):
            try:
                self._again = 0.0
                self.keep()
                self._base.execute("PRAGMA synchronous=FULL")
                self._base.execute("UPDATE state SET safe = 1")
            finally:
                self._base.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in words for people what SQLite or the system says of *path*."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "locked" in text:
            text = "is in use by another program: end that one, or name another file"
        elif "not a database" in text or "malformed" in text:
            text = "is no log, or damaged: name another file"
        elif "unable to open" in text:
            text = f"cannot be opened: {_why(path)}"
        elif "full" in text:
            text = "cannot be written: the disk is full"
        else:
            text = f"cannot be written: {text}"
        raise LogFileError(f"log file {path} {text}") from None
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise LogFileError(f"log file {path} cannot be used: {why}") from None


def _why(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    return os.strerror(errno.EACCES).lower()


def _boot() -> str:
    """Return what names this run of the machine, empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
