"""The log file: keeps the messages of all rooms in an SQLite file, for the next start.

Clients are always served from the room's `MessageLog` in memory. Each message that is appended to
it is also added here, and `commit` writes the messages of a batch in one transaction before anyone
receives them. So the file has every message that was received, and after a restart, even by kill
-9, the numbers continue in the same epoch.

An epoch promises that a number was never sent for two different messages. If the file cannot be
sure of that when it is opened, it gives all rooms new epochs, and clients learn from this that
they may have missed messages. There are two such cases:

- The file is not complete. Messages that were sent while it could not be written (a full disk) are
  not in it. So a *marker* file stands beside it, which exists only while the log file is complete
  (see `log_marker`). A copy of the log file alone has no marker, or one that does not match it,
  and may be older than what was sent.
- The machine lost power while the file was open. This can take the last transactions, unless each
  `commit` waits for the disk (*sync*). So the file notes during which boot of the machine it was
  open.

The epoch of a room is derived from a secret of the file, so a new secret gives new epochs to all
rooms, also to those that cannot be read. A room that cannot be read (`DamagedRoomError`) is not
begun anew: that would give numbers a second time. The others are not affected.

This module knows nothing of connections or of the wire format. Its calls block.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.console.private_file import (
    NotAFileError,
    create_private,
    make_sqlite_private,
    resolve,
)
from broadcast_server.protocol.messages import Message
from broadcast_server.protocol.session_key import SessionKey

from .kept_names import KeptName
from .log_errors import sqlite_reason, translate_errors
from .log_kept_names import take_kept_names, write_kept_names
from .log_marker import LogMarker
from .log_probe import check_program
from .log_rows import fetch_rows, read_head, read_message
from .log_session_key import read_session_key
from .message_log import DamagedRoomError, LogFileError, MessageLog, derive_epoch

SCHEMA_VERSION = 2
"""The version of the tables. A file with a later version is not opened."""

APPLICATION_ID = 0x62636C67
"""Identifies the file as ours, also to file(1): the ASCII characters "bclg"."""

RETRY_INTERVAL_S = 1.0
"""Seconds between two attempts to write, while the file cannot be written."""

MAX_UNWRITTEN_ROOMS = 2048
"""How many rooms may wait to be written, while the file cannot be written. Each keeps its log in
memory, also when nobody is in it."""

SCHEMA = """
CREATE TABLE state (secret BLOB NOT NULL, boot TEXT NOT NULL, safe INTEGER NOT NULL);
CREATE TABLE room (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE message (
    room TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, id TEXT, source TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
CREATE TABLE session_key (key BLOB NOT NULL, clean INTEGER NOT NULL);
"""
"""The tables. In `message`, `source` is the id scope. In `room`, `epoch` is not read. In `state`,
`boot` is the boot of the machine in which the file was last open, a space, and the mark of the
marker; `safe` is 1 if a power cut cannot take any of its messages. In `session_key`, `clean` is 0
while unused parts of the file may have sessions in clear, as in version 1."""

TABLE_QUERIES = (
    "SELECT secret, boot, safe FROM state LIMIT 0",
    "SELECT name, epoch, head FROM room LIMIT 0",
    "SELECT room, seq, name, text, at, id, source FROM message LIMIT 0",
)
"""They fail if a table or a column is missing."""


class SQLiteLog:
    """The log file for all rooms of one server, which locks it while it is open.

    With *sync*, each `commit` waits until the disk has the data. Raises `LogFileError` if the file
    cannot be used.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self.recording = True
        """Whether the file has every message that was sent. False while it cannot be written."""
        self.epochs_must_end = False
        """Whether messages that were sent could get their numbers a second time. Send nothing more
        of this batch, and call `end_epochs`."""
        self.notice = ""
        """What the operator should know about the file, "" if nothing."""
        self.secret: bytes
        """A random key, from which epochs are derived. A new one gives new epochs to all rooms."""
        self.kept_names: Sequence[KeptName]
        """The names that were kept when the file was closed; set them for the next `close`."""
        self.session_key: SessionKey
        """The key of the sessions in the file. It stays when epochs change, so that a client that
        resends a message is recognised."""
        self._uncommitted: list[tuple[str, Message, str]] = []
        self._logs: dict[str, MessageLog] = {}  # of the rooms of those messages
        self._is_secret_stored = True
        self._retry_at = 0.0  # time of the next attempt, by time.monotonic()
        self._boot_id = _boot_id()
        with translate_errors(path):
            real_path = self._prepare_file()
            self._marker = LogMarker(real_path.with_name(f"{real_path.name}.whole"))
            self._database = sqlite3.connect(real_path, timeout=0, isolation_level=None)
            try:
                self._open(sync=sync)
            except BaseException:
                self._database.close()
                raise

    def _prepare_file(self) -> Path:
        """Make sure that there is a file that only its owner can read, and return its path.

        SQLite gives the files that it creates beside it the same mode. Raises OSError.
        """
        if str(self.path) == ":memory:":  # SQLite's word for no file at all
            raise LogFileError(
                "log file :memory: is no file: leave --log out to keep messages in memory only"
            )
        path = resolve(self.path)
        if path.is_dir():  # a root has not even a name
            raise NotAFileError("a folder")
        if not os.path.lexists(path):
            os.close(create_private(path))
        check_program(path, APPLICATION_ID, self.path)
        if access := make_sqlite_private(path):
            self.notice = f"log file {self.path} {access}"
        return path

    def _open(self, *, sync: bool) -> None:
        base = self._database
        # Exclusive, because two servers on one file would give the same number twice.
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        base.execute(f"PRAGMA fullfsync={int(sync)}")
        base.execute("PRAGMA cell_size_check=ON")  # finds more of what is damaged
        base.execute("BEGIN EXCLUSIVE")
        (version,) = base.execute("PRAGMA user_version").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version > SCHEMA_VERSION:
            raise LogFileError(
                f"log file {self.path} has version {version}, this program knows versions up to"
                f" {SCHEMA_VERSION}: update this program, or name another file"
            )
        if not tables:
            base.execute(f"PRAGMA application_id={APPLICATION_ID}")
            base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            for statement in filter(str.strip, SCHEMA.split(";")):
                base.execute(statement)
        for query in TABLE_QUERIES:
            base.execute(query)
        if tables and version < SCHEMA_VERSION:
            from .log_upgrade import upgrade

            upgrade(base)
            base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self.kept_names = take_kept_names(base)
        key, clean = read_session_key(base)
        self._begin_run(sync=sync)
        if not clean:
            from .log_upgrade import rewrite_file

            rewrite_file(base)
        self.session_key = SessionKey(key)

    def _begin_run(self, *, sync: bool) -> None:
        """Decide whether the epochs continue, and commit the transaction that `_open` began."""
        match fetch_rows(self._database, "SELECT secret, boot, safe FROM state"):
            case [(bytes() as secret, str() as boot, int() as safe)] if 16 <= len(secret) <= 64:
                last_boot_id, _, mark = boot.partition(" ")
                # A file that was open without sync and was not closed is not safe: if the machine
                # has started again since, the last transactions may be lost.
                same_boot = self._boot_id and self._boot_id == last_boot_id
                is_whole = bool(safe or same_boot) and self._marker.matches(mark)
            case _:  # a new file, or damage
                secret, mark, is_whole = b"", "", False
        self.secret = secret if is_whole else secrets.token_bytes(16)
        new_mark = self._write_state(safe=sync)
        if is_whole:  # whether the process ends before the commit or after it
            self._mark_whole(mark, new_mark)
        self._database.execute("COMMIT")
        self._mark = new_mark
        self._mark_whole(new_mark)

    def _write_state(self, *, safe: bool) -> str:
        """Write the only row of `state`, with a new mark. Return the mark."""
        mark = secrets.token_hex(8)
        self._database.execute("DELETE FROM state")
        state = self.secret, f"{self._boot_id} {mark}", int(safe)
        self._database.execute("INSERT INTO state VALUES (?, ?, ?)", state)
        return mark

    def _mark_whole(self, *marks: str) -> None:
        try:
            self._marker.write(*marks)
        except OSError as error:
            reason = describe_file_error(error)
            if isinstance(error, NotAFileError):
                reason = f"it is {error.kind} (remove it)"
            raise LogFileError(
                f"file {self._marker.path} beside log file {self.path} cannot be written: {reason}"
            ) from None

    def restore(self, room: str, log: MessageLog) -> None:
        """Fill *log*, which must be new, with the messages of *room* in the file, if any.

        Raises `DamagedRoomError` if they cannot be read. Then *log* must not be used.
        """
        try:
            head = self._read_head(room)
            rows = self._database.execute(
                "SELECT seq, name, text, at, id, source FROM message WHERE room = ? ORDER BY seq",
                (room,),
            )
            log.restore(derive_epoch(self.secret, room), head, map(read_message, rows))
        except (sqlite3.Error, OSError, ValueError) as error:
            reason = str(error) if type(error) is ValueError else sqlite_reason(str(error))
            raise DamagedRoomError(
                f"room {room} cannot be opened, as log file {self.path} is damaged: {reason}"
                " (restore a copy of the file, or name another one)"
            ) from None

    def _read_head(self, room: str) -> int:
        """Return the number of the newest message of *room*. Raises ValueError, sqlite3.Error."""
        rows = self._database.execute("SELECT head FROM room WHERE name = ?", (room,)).fetchall()
        if rows:
            return read_head(rows[0][0])
        of_room = "SELECT seq FROM message WHERE room = ? LIMIT 1"
        if self._database.execute(of_room, (room,)).fetchall():
            raise ValueError("the number of its last message is missing")
        return 0

    def unwritten(self, room: str) -> MessageLog | None:
        """Return the log of *room* if the file lacks some of its messages, None if it has all."""
        return self._logs.get(room)

    def append(self, room: str, log: MessageLog, message: Message, id_scope: str) -> None:
        """Add *message*, which was just appended to the *log* of *room*, to the next `commit`."""
        self._uncommitted.append((room, message, id_scope))
        self._logs[room] = log

    def commit(self) -> str | None:
        """Write the messages that were added. Return a notice if `recording` changes.

        Messages that cannot be written are kept for the next attempt, as far back as the logs in
        memory reach. Between two attempts there is at least `RETRY_INTERVAL_S`.

        If they cannot be written and the marker cannot be deleted either, the next start would take
        the file for whole, and give their numbers again. Then `epochs_must_end`, and also if too
        many rooms wait.
        """
        if not self._uncommitted or (not self.recording and time.monotonic() < self._retry_at):
            return None
        try:
            with translate_errors(self.path):
                self._write()
                if self.recording:
                    return None
                if not self._marker.matches(self._mark):
                    self._mark_whole(self._mark)
        except LogFileError as error:
            self._retry_at = time.monotonic() + RETRY_INTERVAL_S
            self._uncommitted = [
                (room, message, id_scope)
                for room, message, id_scope in self._uncommitted
                if message.seq >= self._logs[room].first
            ]
            if not self.recording:
                if len(self._logs) <= MAX_UNWRITTEN_ROOMS:
                    return None
                self.epochs_must_end = True
                return f"messages of {len(self._logs)} rooms are not recorded, too many to keep"
            self.recording = False
            self.epochs_must_end = not self._marker.remove()
            return f"messages are not recorded: {error}"
        self.recording = True
        return "messages are recorded again"

    def end_epochs(self) -> None:
        """Give all rooms new epochs, and forget what was not committed: it must not be sent.

        The file keeps the old epochs until it can be written again. Until then it has everything
        that was sent in them.
        """
        self.secret, self._is_secret_stored = secrets.token_bytes(16), False
        self._uncommitted.clear()
        self._logs.clear()
        self.epochs_must_end = False

    def _write(self) -> None:
        base = self._database
        base.execute("BEGIN")
        try:
            if not self._is_secret_stored:
                base.execute("UPDATE state SET secret = ?", (self.secret,))
            base.executemany(
                # A row that is there already is damage: the log in memory gives each number once.
                "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
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
        self._is_secret_stored = True
        self._uncommitted.clear()
        self._logs.clear()

    def _end_run(self) -> None:
        """Write a new mark, so that a copy that was made until now does not match the marker."""
        base = self._database
        base.execute("BEGIN")
        write_kept_names(base, self.kept_names)
        mark = self._write_state(safe=True)
        if self.recording:
            self._mark_whole(self._mark, mark)
        base.execute("COMMIT")
        if self.recording:
            self._mark_whole(mark)

    def close(self) -> None:
        """Commit, wait for the disk, mark the file as safe from a power cut, and close it.

        Raises `LogFileError` if the file cannot be written.
        """
        with translate_errors(self.path):
            try:
                self._retry_at = 0.0
                self.commit()
                self._database.execute("PRAGMA synchronous=FULL")
                self._end_run()
            finally:
                self._database.close()


def _boot_id() -> str:
    """Return the random id of the machine's current boot, or "" on a system without one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
