"""The log start: makes sure that a log file is whole, or gives its rooms new epochs."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

from broadcast_server.console.private_file import (
    NotAFileError,
    check_sqlite_files,
    create_private,
    make_sqlite_private,
    resolve,
)
from broadcast_server.protocol.session_key import SessionKey

from .kept_names import KeptName
from .log_kept_names import take_kept_names
from .log_marker import LogMarker, translate_marker_errors
from .log_mutes import read_mutes
from .log_probe import check_program
from .log_room_modes import read_room_modes
from .log_session_key import read_session_key
from .log_state import (
    CLOSED,
    COPY,
    OPEN,
    LogState,
    current_boot_id,
    read_state,
    read_without_journal,
    write_state,
)
from .log_tables import APPLICATION_ID, prepare_tables
from .log_watch import Stamp, delete_journal, journal_of, journal_size, stamp_of
from .message_log import LogFileError
from .restrictions import Mute
from .room_mode import RoomModes

START_TIMEOUT_S = 1.0
"""Seconds to wait for another program that has the file open, such as a backup."""


class FoundFile(NamedTuple):
    """A log file before the start."""

    path: Path
    """Its absolute path, through symbolic links."""
    stamp: Stamp | None
    """What the file system knew of it before anything was changed, None for a new file."""
    has_journal: bool
    notice: str
    """Whether others could read it."""


class Run(NamedTuple):
    """What a server has from its log file when it starts."""

    state: LogState
    kept_names: Sequence[KeptName]
    session_key: SessionKey
    room_modes: RoomModes
    mutes: Sequence[Mute]
    notices: list[str]


def prepare_file(shown: Path) -> FoundFile:
    """Make sure that there is a file that only its owner can read.

    SQLite gives the files that it creates beside it the same mode. Raises `LogFileError` with the
    name *shown*, `NotAFileError`, OSError, sqlite3.Error.
    """
    if str(shown) == ":memory:":  # SQLite's word for no file at all
        raise LogFileError(
            "log file :memory: is no file: leave --log out to keep messages in memory only"
        )
    path = resolve(shown)
    if path.is_dir():  # a root has not even a name
        raise NotAFileError("a folder")
    stamp = stamp_of(path)
    if not os.path.lexists(path):
        os.close(create_private(path))
    check_sqlite_files(path)
    has_journal = journal_size(path) > 0
    check_program(path, APPLICATION_ID, shown)
    access = make_sqlite_private(path)
    return FoundFile(path, stamp, has_journal, f"log file {shown} {access}" if access else "")


def begin_run(shown: Path, found: FoundFile, marker: LogMarker, *, sync: bool) -> Run:
    """Decide whether the epochs continue, and write that and a new mark to the file.

    Two servers on one file would give the same number twice. So this happens while nobody else has
    the file open. Afterwards another server may do the same, before this one opens the file: then
    the file has another mark.

    Raises `LogFileError`, OSError, sqlite3.Error.
    """
    notices = [found.notice] if found.notice else []
    if found.has_journal and drop_foreign_journal(found.path, marker):
        found = found._replace(has_journal=False)
        notices.append(
            f"{journal_of(found.path).name} beside log file {shown} belonged to another file: it"
            " was deleted"
        )
    base = sqlite3.connect(found.path, timeout=START_TIMEOUT_S, isolation_level=None)
    try:
        base.execute("PRAGMA locking_mode=EXCLUSIVE")
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        base.execute("BEGIN EXCLUSIVE")
        is_new = prepare_tables(base, shown)
        kept_names = take_kept_names(base)
        key, clean = read_session_key(base)
        room_modes, damaged = read_room_modes(base)
        mutes, damaged_mutes = read_mutes(base)
        old = None if is_new else read_state(base)
        doubt = why_not_whole(found, old, marker)
        if is_new and found.stamp is not None:
            notices.append(f"log file {shown} was empty: all rooms begin anew")
        elif not is_new and doubt:
            notices.append(f"log file {shown} {doubt}: all rooms have new epochs")
        if damaged_mutes:
            notices.append(
                f"log file {shown} is damaged: mutes of members are lost, mute them again"
            )
        if damaged:
            notices.append(
                f"log file {shown} is damaged: topics or locks of rooms are lost, set them again"
            )
        secret = secrets.token_bytes(16) if old is None or doubt else old.secret
        state = LogState.new(secret, phase=CLOSED, safe=sync)
        if old is not None and not doubt:  # whether the process ends before the commit or after it
            with translate_marker_errors(marker, shown):
                changed = found.path.stat().st_ctime_ns
                allowed = marker.allow_change(old.mark, state.mark, changed=changed)
            state = state._replace(allowed=allowed)
        write_state(base, state)
        base.execute("COMMIT")
        if not clean:
            from .log_upgrade import rewrite_file

            rewrite_file(base)
    finally:
        base.close()  # which moves everything from the journal to the file
    with translate_marker_errors(marker, shown):
        marker.write(state.mark, changed=found.path.stat().st_ctime_ns)
    return Run(state, kept_names, SessionKey(key), room_modes, mutes, notices)


def drop_foreign_journal(path: Path, marker: LogMarker) -> bool:
    """Delete a journal that belongs to a file that was in the place of *path* before.

    SQLite would write its content into this one. Returns whether there was one.
    """
    state, _ = read_without_journal(path)
    if state is None:
        return False
    if not (
        state.phase == COPY
        or marker.is_of_another_file(state.mark)
        # A file that was closed has no journal, until the next server changes it. If another
        # program reads the file since then, what that server has written is in the journal only.
        or (state.phase == CLOSED and marker.has_final_time and not is_opened_in(path, state))
    ):
        return False
    delete_journal(path)
    return True


def is_opened_in(path: Path, state: LogState) -> bool:
    """Return whether the journal beside *path* says that a server opened the file with *state*."""
    with journal_of(path).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        return data.find(f" {state.mark} {OPEN}".encode()) >= 0


def why_not_whole(found: FoundFile, state: LogState | None, marker: LogMarker) -> str:
    """Return why messages that were sent may be missing in a file, "" if none is missing."""
    if state is None:
        return "is damaged"
    if state.phase == COPY:
        return "is a backup, and messages may have been sent since"
    if state.phase == OPEN and not found.has_journal:
        return (
            f"was open when it was copied, or {journal_of(found.path).name} beside it was deleted,"
            " so its newest messages may be missing (broadcast-server backup makes complete copies)"
        )
    if not state.safe and (not state.boot_id or state.boot_id != current_boot_id()):
        return "was open when the machine stopped, so its newest messages may be missing"
    if not marker.has(state.mark):
        return "is a copy, or could not be written for a time"
    if found.stamp is None or not marker.matches(found.stamp.changed_ns, state.allowed):
        return "is a copy, or was moved or changed by another program"
    return ""


def open_database(shown: Path, path: Path, state: LogState, *, sync: bool) -> sqlite3.Connection:
    """Open the file *path*, which others may read as well, and note in it that it is open.

    *state* is what `begin_run` has written. Raises `LogFileError`, sqlite3.Error.
    """
    base = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        base.execute(f"PRAGMA fullfsync={int(sync)}")
        base.execute("PRAGMA cell_size_check=ON")  # finds more of what is damaged
        base.execute("PRAGMA wal_autocheckpoint=0")  # the caller does that, and tells the marker
        base.execute("PRAGMA journal_size_limit=0")  # so that its size tells what is in it
        base.execute("BEGIN IMMEDIATE")
        now = read_state(base)
        if now is None or now.mark != state.mark:  # another server was faster
            raise LogFileError(
                f"log file {shown} is in use by another program: stop that program, or name another"
                " file"
            )
        write_state(base, now._replace(phase=OPEN))
        base.execute("COMMIT")
    except BaseException:
        base.close()
        raise
    return base
