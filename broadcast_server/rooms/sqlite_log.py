"""The log file: keeps the messages of all rooms in an SQLite file, for the next start.

Clients are always served from the room's `MessageLog` in memory. Each message that is appended to
it is also added here, and `commit` writes the messages of a batch in one transaction before anyone
receives them. So the file has every message that was received, and after a restart, even by kill
-9, the numbers continue in the same epoch.

An epoch promises that a number was never sent for two different messages. If the file cannot be
sure of that when it is opened, it gives all rooms new epochs, and clients learn from this that
they may have missed messages. There are three such cases:

- The file is not complete. Messages that were sent while it could not be written (a full disk) are
  not in it. So a *marker* file stands beside it, which exists only while the log file is complete
  (see `log_marker`).
- The file is a copy, and may be older than what was sent. Its marker is missing, does not match it,
  or has the time at which the original was last changed, which no copy has.
- The machine lost power while the file was open. This can take the last transactions, unless each
  `commit` waits for the disk (*sync*). So the file notes during which boot of the machine it was
  open.

The epoch of a room is derived from a secret of the file, so a new secret gives new epochs to all
rooms, also to those that cannot be read. A room that cannot be read (`DamagedRoomError`) is not
begun anew: that would give numbers a second time. The others are not affected.

This module knows nothing of connections or of the wire format. Its calls block.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from broadcast_server.protocol.messages import Message
from broadcast_server.protocol.session_key import SessionKey

from .kept_names import KeptName
from .log_backup import copy_database
from .log_decisions import LogDecisions
from .log_errors import sqlite_reason, translate_errors
from .log_kept_names import write_kept_names
from .log_marker import LogMarker, translate_marker_errors
from .log_moves import close_without_journal, complete_moved_file
from .log_rows import read_message, read_room_head, write_messages
from .log_start import begin_run, open_database, prepare_file
from .log_state import (
    CLOSED,
    OPEN,
    LogState,
    count_messages,
    read_without_journal,
    write_allowed,
    write_state,
)
from .log_watch import Change, LogWatch, delete_journal, journal_size
from .message_log import DamagedRoomError, LogFileError, MessageLog, derive_epoch
from .restrictions import Mute
from .room_mode import RoomModes

RETRY_INTERVAL_S = 1.0
"""Seconds between two attempts to write, while the file cannot be written."""

MAX_UNWRITTEN_ROOMS = 2048
"""How many rooms may wait to be written, while the file cannot be written. Each keeps its log in
memory, also when nobody is in it."""

MAX_JOURNAL_BYTES = 4 * 2**20
"""The size of the journal from which on its content is moved to the file (a checkpoint)."""


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
        self.notices: list[str]
        """What the operator should know about the file, a line for each."""
        self.secret: bytes
        """A random key, from which epochs are derived. A new one gives new epochs to all rooms."""
        self.kept_names: Sequence[KeptName]
        """The names that were kept when the file was closed; set them for the next `close`."""
        self.session_key: SessionKey
        """The key of the sessions in the file. It stays when epochs change, so that a client that
        resends a message is recognised."""
        self.room_modes: RoomModes
        """The modes that the rooms had when the file was opened."""
        self.mutes: Sequence[Mute]
        """Who was muted when the file was opened."""
        self.decisions = LogDecisions()
        """What operators decide, for the next `commit`."""
        self._uncommitted: list[tuple[str, Message, str]] = []
        self._logs: dict[str, MessageLog] = {}  # of the rooms of those messages
        self._is_secret_stored, self._trouble = True, ""  # the trouble: why messages are missing
        self._retry_at = 0.0  # time of the next attempt, by time.monotonic()
        self._checkpoint_at = MAX_JOURNAL_BYTES
        self._message_count = 0.0  # of all rooms, that the file had after the last checkpoint
        self._lost = Change.NONE  # why the file at the path is not ours, and cannot be made anew
        self._sync = sync
        with translate_errors(path):
            found = prepare_file(path)
            self._path = found.path
            self._marker = LogMarker(found.path.with_name(f"{found.path.name}.whole"))
            run = begin_run(path, found, self._marker, sync=sync)
            self._state, self.secret = run.state, run.state.secret
            self._marks: tuple[str, ...] = (self._state.mark,)  # of the file and its journal
            self.kept_names, self.session_key = run.kept_names, run.session_key
            self.room_modes, self.mutes, self.notices = run.room_modes, run.mutes, run.notices
            self._open()

    def _open(self) -> None:
        """Open the file, which others may read as well, and note in it that it is open."""
        self._database = open_database(self.path, self._path, self._state, sync=self._sync)
        self._watch = LogWatch(self._path)
        self._checkpoint()

    def _checkpoint(self) -> None:
        """Move what no other program reads from the journal to the file, if that is still ours."""
        if self._lost is not Change.NONE:
            return
        with suppress(sqlite3.Error, OSError):  # tried again later, as long as there is a journal
            self._allow_change()
            try:
                row = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                self._note_own_change()
            if row[1] == row[2]:  # nobody reads what is older, so the file has everything
                self._message_count = count_messages(self._database)
        self._checkpoint_at = journal_size(self._path) + MAX_JOURNAL_BYTES // 4

    def _allow_change(self) -> None:
        """Let the epochs continue if the process ends while it changes the file."""
        if self.recording:
            mark, changed = self._state.mark, self._watch.changed_ns
            write_allowed(self._database, self._marker.allow_change(mark, changed=changed))

    def _note_own_change(self) -> None:
        """Put the time of the last change to the file, which was the server's own, in the marker.

        If that fails, it is tried again by `check_file`.
        """
        if self._watch.note_own_change() and self.recording:
            with suppress(OSError):
                self._marker.write(*self._marks, changed=self._watch.changed_ns)

    def restore(self, room: str, log: MessageLog) -> None:
        """Fill *log*, which must be new, with the messages of *room* in the file, if any.

        Raises `DamagedRoomError` if they cannot be read. Then *log* must not be used.
        """
        try:
            head = read_room_head(self._database, room)
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
        if not (self._uncommitted or self.decisions):
            return None
        if not self.recording and time.monotonic() < self._retry_at:
            return None
        try:
            with translate_errors(self.path):
                self._write()
                if self.recording or self._lost is not Change.NONE:
                    return None
                if not self._marker.has(self._state.mark):
                    with translate_marker_errors(self._marker, self.path):
                        self._marker.write(self._state.mark, changed=self._watch.changed_ns)
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
            self.recording, self._trouble = False, str(error)
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
            write_messages(base, self._uncommitted, self._logs)
            self.decisions.write(base)
            base.execute("COMMIT")
        except BaseException:
            if base.in_transaction:
                base.execute("ROLLBACK")
            raise
        self._is_secret_stored = True
        self._uncommitted.clear()
        self._logs.clear()
        self.decisions.clear()
        size = journal_size(self._path)
        if size >= self._checkpoint_at:
            self._checkpoint()
        elif size < MAX_JOURNAL_BYTES:
            self._checkpoint_at = MAX_JOURNAL_BYTES

    def check_file(self) -> str | None:
        """Look after the file, which another program may have moved. Call this every few seconds.

        A file that is missing is written anew. If that is impossible, `recording` changes, and
        perhaps `epochs_must_end`. Returns a notice if something has changed.
        """
        change = self._watch.look()
        if change is Change.NONE:
            if self._lost is Change.NONE:
                if self._watch.is_new_mode or self._marker.allows_change:
                    self._note_own_change()
                return None
            return self._found(f"log file {self.path} is in its place again")
        if change is Change.REPLACED:
            remedy = " (move that away, and the log is written anew)"
            return self._lose(change, f"log file {self.path} was replaced by another file", remedy)
        try:
            with translate_errors(self.path):
                return self._follow(change)
        except LogFileError as error:
            return self._lose(change, str(error))

    def _follow(self, change: Change) -> str | None:
        """Have a file of ours at the path again, and return a notice."""
        again = "was renamed or deleted: it was written anew, with all messages"
        if change is Change.MISSING:
            self._write_anew()
            return self._found(f"log file {self.path} {again}")
        if change is Change.NO_JOURNAL:
            self._open_anew()
            return self._found(f"the journal beside log file {self.path} {again}")
        if self._lost is Change.NONE and self._is_ours():
            self._open_anew()
            return None
        raise LogFileError(
            f"log file {self.path} was overwritten by another program (restart the server to use"
            " what is in it)"
        )

    def _found(self, notice: str) -> str:
        """Go on recording, if it was the place of the file that prevented it."""
        if self._lost is not Change.NONE and not self._uncommitted:
            self.recording = True
        self._lost = Change.NONE
        self._note_own_change()
        return notice

    def _lose(self, change: Change, why: str, remedy: str = "") -> str | None:
        """Stop recording, as there is no file of ours at the path. Return a notice, once."""
        if self._lost is change:
            return None
        self._trouble = why
        self._lost, self.recording = change, False
        # The rooms that are read from now on may be another program's.
        self.epochs_must_end = not self._marker.remove() or change is Change.OVERWRITTEN
        if change is not Change.MISSING:
            if change is not Change.OVERWRITTEN:
                complete_moved_file(self._database, self._state)
            delete_journal(self._path)  # the next start would write it into that other file
        return f"messages are not recorded: {why}{remedy}"

    def _is_ours(self) -> bool:
        """Return whether a file that somebody wrote to is still ours: they moved the journal to it.

        This takes away SQLite's lock on the file: open it anew.
        """
        state, count = read_without_journal(self._path)
        is_same = state is not None and (state.mark, state.phase) == (self._state.mark, OPEN)
        return is_same and count >= self._message_count

    def _write_anew(self) -> None:
        """Write a new file with everything that is in the one that has no name any more."""
        self._retry_at = 0.0
        self.commit()
        part = self._path.with_name(f"{self._path.name}.part-{self._state.mark}")
        copy_database(self._database, part, phase=OPEN)
        self._marker.remove()
        old, was_recording = self._database, self.recording
        self.recording = not self._uncommitted
        complete_moved_file(old, self._state)
        delete_journal(self._path)
        part.rename(self._path)
        try:
            self._open()
        except BaseException:
            self._path.unlink()
            self.recording = was_recording
            raise
        old.close()

    def _open_anew(self) -> None:
        """Open the file again, with a new journal."""
        base = self._database
        self._allow_change()
        if base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise LogFileError(f"log file {self.path} is being read by another program")
        base.close()
        delete_journal(self._path)
        self._open()

    def _end_run(self) -> None:
        """Write a new mark, so that a copy that was made until now does not match the marker."""
        base, state = self._database, LogState.new(self.secret, phase=CLOSED, safe=True)
        marks = self._state.mark, state.mark
        base.execute("BEGIN")
        write_kept_names(base, self.kept_names)
        if self.recording:
            with translate_marker_errors(self._marker, self.path):
                allowed = self._marker.allow_change(*marks, changed=self._watch.changed_ns)
            state = state._replace(allowed=allowed)
        write_state(base, state)
        base.execute("COMMIT")
        self._state, self._marks = state, marks

    def close(self) -> None:
        """Commit, wait for the disk, mark the file as safe from a power cut, and close it.

        Raises `LogFileError` if the file cannot be written, or lacks messages.
        """
        with translate_errors(self.path):
            try:
                self._retry_at = 0.0
                self.commit()
                self.check_file()
                if self._lost is not Change.NONE:
                    if self._lost is not Change.OVERWRITTEN:
                        complete_moved_file(self._database, self._state)
                    with suppress(sqlite3.Error):  # its folder may be gone
                        close_without_journal(self._database, self._path)
                else:
                    self._database.execute("PRAGMA synchronous=FULL")
                    self._end_run()
                if self._lost is not Change.NONE or self._uncommitted:
                    raise LogFileError(f"the last messages are not recorded: {self._trouble}")
            finally:
                self._database.close()  # which moves everything to the file, if nobody reads it
                if not journal_size(self._path):
                    self._marks = (self._state.mark,)
                self._note_own_change()
                self._marker.close()
