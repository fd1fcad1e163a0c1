"""The log backup: copies a log file to another path, also while a server has it open.

A copy by other means lacks what is in the journal beside the file. SQLite's backup has everything
up to one moment, in one file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path

from broadcast_server.console.private_file import create_private, resolve

from .log_errors import translate_errors
from .log_probe import check_program, connect_to_read
from .log_state import COPY, read_state, write_state
from .log_tables import APPLICATION_ID
from .message_log import LogFileError

READ_TIMEOUT_S = 5.0
"""Seconds to wait for a server that is just opening or closing the file."""


def back_up(source: Path, target: Path) -> int:
    """Copy the log file *source* to *target*, which must not exist. Return its size in bytes.

    Raises `LogFileError`.
    """
    with translate_errors(source):
        path = resolve(source)
        if not path.exists():
            raise LogFileError(f"log file {source} does not exist")
        check_program(path, APPLICATION_ID, source)
        base = connect_to_read(path, READ_TIMEOUT_S)
        try:
            if base.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                raise LogFileError(f"log file {source} is empty: there is nothing to copy")
            return _write_copy(base, target)
        finally:
            base.close()


def _write_copy(base: sqlite3.Connection, target: Path) -> int:
    with translate_errors(target):
        path = resolve(target)
        if os.path.lexists(path):
            raise LogFileError(f"file {target} exists: name another one, or remove it first")
        part = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
        copy_database(base, part, phase=COPY)
        try:
            os.link(part, path)  # unlike a rename, it never replaces a file
        except FileExistsError:
            raise LogFileError(
                f"file {target} exists: name another one, or remove it first"
            ) from None
        except OSError:  # the file system has no hard links
            part.rename(path)
        else:
            part.unlink()
        return path.stat().st_size


def copy_database(base: sqlite3.Connection, target: Path, *, phase: str) -> None:
    """Copy the database of *base* to the new file *target*, with *phase* in its state.

    If that fails, there is no file. Raises OSError, sqlite3.Error.
    """
    os.close(create_private(target))
    try:
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            base.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # no file beside it
            copy.execute("BEGIN")
            if (state := read_state(copy)) is not None:
                write_state(copy, state._replace(phase=phase))
            copy.execute("COMMIT")
        finally:
            copy.close()
    except BaseException:
        target.unlink()
        raise
