"""The log file: keeps the messages of all rooms in an SQLite file, for the next start.

Clients are always served from the room's `MessageLog` in memory. Each message that is appended to
it is also added here, and `commit` writes the messages of a batch in one transaction before anyone
receives them. So the file has every message that was received, and after a restart, even by kill
-9, the numbers continue in the same epoch.

An epoch promises that a number was never sent for two different messages. If the file cannot be
sure of that when it is opened, it gives all rooms new epochs, and clients learn from this that
they may have missed messages. There are two such cases:

- The file is not complete. Messages that were sent while it could not be written (a full disk) are
  not in it. So an empty *marker* file stands beside it, which exists only while the log file is
  complete. It is deleted when a write fails, because a deletion needs no space on the disk. A copy
  of the log file alone has no marker either, and may be older than what was sent.
- The machine lost power while the file was open. This can take the last transactions, unless each
  `commit` waits for the disk (*sync*). So the file notes during which boot of the machine it was
  open.

This module knows nothing of connections or of the wire format. Its calls block.
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

from broadcast_server.protocol.messages import Message

from .message_log import LogFileError, MessageLog, new_epoch

SCHEMA_VERSION = 1
"""The version of the tables. A file with a later version is not opened."""

APPLICATION_ID = 0x62636C67
"""Identifies the file as ours, also to file(1): the ASCII characters "bclg"."""

RETRY_INTERVAL_S = 1.0
"""Seconds between two attempts to write, while the file cannot be written."""

SCHEMA = """
CREATE TABLE state (secret BLOB NOT NULL, boot TEXT NOT NULL, safe INTEGER NOT NULL);
CREATE TABLE room (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE message (
    room TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, id TEXT, source TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
"""
"""The tables. In `message`, `source` is the id scope. In `state`, `boot` is the boot of the machine
in which the file was last open, and `safe` is 1 if a power cut cannot take any of its messages."""


class SQLiteLog:
    """The log file for all rooms of one server, which locks it while it is open.

    With *sync*, each `commit` waits until the disk has the data. Raises `LogFileError` if the file
    cannot be used.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self.recording = True
        """Whether the file has every message that was sent. False while it cannot be written."""
        self.secret: bytes
        """A random key for the epochs of empty rooms. It changes when the rooms get new epochs."""
        self._marker = path.with_name(path.name + ".whole")
        self._uncommitted: list[tuple[str, Message, str]] = []
        self._logs: dict[str, MessageLog] = {}  # of the rooms of those messages
        self._retry_at = 0.0  # time of the next attempt, by time.monotonic()
        with _translate_errors(path):
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                self._open(sync=sync)
            except BaseException:
                self._database.close()
                raise

    def _open(self, *, sync: bool) -> None:
        base = self._database
        # Exclusive, because two servers on one file would give the same number twice.
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        base.execute(f"PRAGMA fullfsync={int(sync)}")
        base.execute("BEGIN EXCLUSIVE")
        (application,) = base.execute("PRAGMA application_id").fetchone()
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise LogFileError(
                f"log file {self.path} belongs to another program: name another file"
            )
        if version > SCHEMA_VERSION:
            raise LogFileError(
                f"log file {self.path} has version {version}, this program knows versions up to"
                f" {SCHEMA_VERSION}: update this program, or name another file"
            )
        boot_id = _boot_id()
        if not tables:
            base.execute(f"PRAGMA application_id={APPLICATION_ID}")
            base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            for statement in filter(str.strip, SCHEMA.split(";")):
                base.execute(statement)
            base.execute("INSERT INTO state VALUES (?, ?, 1)", (secrets.token_bytes(16), boot_id))
        last_boot_id, safe = base.execute("SELECT boot, safe FROM state").fetchone()
        # A file that was open without sync and was not closed is not safe: if the machine has
        # started again since, the last transactions may be lost.
        same_boot = boot_id and boot_id == last_boot_id
        if tables and not (self._marker.exists() and (safe or same_boot)):
            base.execute("UPDATE state SET secret = ?", (secrets.token_bytes(16),))
            for (room,) in base.execute("SELECT name FROM room").fetchall():
                epoch = new_epoch()
                base.execute("UPDATE room SET epoch = ? WHERE name = ?", (epoch, room))
        base.execute("UPDATE state SET boot = ?, safe = ?", (boot_id, int(sync)))
        base.execute("COMMIT")
        self._marker.touch()
        (self.secret,) = base.execute("SELECT secret FROM state").fetchone()

    def restore(self, room: str, log: MessageLog) -> None:
        """Fill *log*, which must be new, with the messages of *room* in the file, if any."""
        row = self._database.execute(
            "SELECT epoch, head FROM room WHERE name = ?", (room,)
        ).fetchone()
        if row is None:
            return
        rows = self._database.execute(
            "SELECT seq, name, text, at, id, source FROM message WHERE room = ? ORDER BY seq",
            (room,),
        )
        epoch, head = row
        log.restore(epoch, head, ((Message(*message), id_scope) for *message, id_scope in rows))

    def append(self, room: str, log: MessageLog, message: Message, id_scope: str) -> None:
        """Add *message*, which was just appended to the *log* of *room*, to the next `commit`."""
        self._uncommitted.append((room, message, id_scope))
        self._logs[room] = log

    def commit(self) -> str | None:
        """Write the messages that were added. Return a notice if `recording` changes.

        Messages that cannot be written are kept for the next attempt, as far back as the logs in
        memory reach. Between two attempts there is at least `RETRY_INTERVAL_S`.
        """
        if not self._uncommitted or (not self.recording and time.monotonic() < self._retry_at):
            return None
        try:
            with _translate_errors(self.path):
                self._write()
                if self.recording:
                    return None
                self._marker.touch()
        except LogFileError as error:
            self._retry_at = time.monotonic() + RETRY_INTERVAL_S
            self._uncommitted = [
                (room, message, id_scope)
                for room, message, id_scope in self._uncommitted
                if message.seq >= self._logs[room].first
            ]
            if not self.recording:
                return None
            self.recording = False
            self._marker.unlink(missing_ok=True)
            return f"messages are not recorded: {error}"
        self.recording = True
        return "messages are recorded again"

    def _write(self) -> None:
        base = self._database
        base.execute("BEGIN")
        try:
            base.executemany(
                "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (room, m.seq, m.name, m.text, m.at, m.id, id_scope)
                    for room, m, id_scope in self._uncommitted
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
        self._uncommitted.clear()
        self._logs.clear()

    def close(self) -> None:
        """Commit, wait for the disk, mark the file as safe from a power cut, and close it.

        Raises `LogFileError` if the file cannot be written.
        """
        with _translate_errors(self.path):
            try:
                self._retry_at = 0.0
                self.commit()
                self._database.execute("PRAGMA synchronous=FULL")
                self._database.execute("UPDATE state SET safe = 1")
            finally:
                self._database.close()


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite or the system about *path* into a `LogFileError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "locked" in text:
            text = "is in use by another program: stop that program, or name another file"
        elif "not a database" in text or "malformed" in text:
            text = "is not a log file, or is damaged: name another file"
        elif "unable to open" in text:
            text = f"cannot be opened: {_open_failure(path)}"
        elif "full" in text:
            text = "cannot be written: the disk is full"
        else:
            text = f"cannot be written: {text}"
        raise LogFileError(f"log file {path} {text}") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise LogFileError(f"log file {path} cannot be used: {reason}") from None


def _open_failure(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    return os.strerror(errno.EACCES).lower()


def _boot_id() -> str:
    """Return the random id of the machine's current boot, or "" on a system without one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
