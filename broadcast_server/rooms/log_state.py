"""The log state: the row of a log file that tells whether the file is the one that was last used.

It is compared with the marker beside the file (see `log_marker`).
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .log_rows import fetch_rows
from .log_tables import find_foreign

CLOSED, OPEN, COPY = "", "open", "copy"
"""The phases of a file: no server has it open; a server has it open, so that its newest messages
may be in the journal beside it; it is a backup that no server has opened yet."""


class LogState(NamedTuple):
    """The only row of the table `state`."""

    secret: bytes
    """The key from which the epochs of all rooms are derived."""
    boot_id: str
    """The boot of the machine in which the file was last opened, "" if unknown."""
    mark: str
    """The mark of the marker, "" in a file of the first version."""
    phase: str
    """`CLOSED`, `OPEN` or `COPY`."""
    safe: bool
    """Whether a power cut cannot take any of its messages."""
    allowed: int = 0
    """When the marker was written that last allowed a change to the file, in ns."""

    @classmethod
    def new(cls, secret: bytes, *, phase: str, safe: bool) -> LogState:
        """Return a state with a new mark, of this boot of the machine."""
        return cls(secret, current_boot_id(), secrets.token_hex(8), phase, safe)


def read_state(base: sqlite3.Connection) -> LogState | None:
    """Return the state in a file, None if it is new or damaged. Raises sqlite3.Error."""
    match fetch_rows(base, "SELECT secret, boot, safe FROM state"):
        case [(bytes() as secret, str() as boot, int() as safe)] if 16 <= len(secret) <= 64:
            boot_id, mark, phase, time, *_ = [*boot.split(" "), "", "", ""]
            allowed = int(time) if time.isdecimal() else 0
            return LogState(secret, boot_id, mark, phase, bool(safe), allowed)
    return None


def write_state(base: sqlite3.Connection, state: LogState) -> None:
    """Replace the state in a file. Raises sqlite3.Error."""
    boot = f"{state.boot_id} {state.mark} {state.phase} {state.allowed or ''}".rstrip(" ")
    base.execute("DELETE FROM state")
    base.execute("INSERT INTO state VALUES (?, ?, ?)", (state.secret, boot, int(state.safe)))


def write_allowed(base: sqlite3.Connection, allowed: int) -> None:
    """Commit the time *allowed* to the state in a file. Raises sqlite3.Error."""
    base.execute("BEGIN IMMEDIATE")
    try:
        if (state := read_state(base)) is not None:
            write_state(base, state._replace(allowed=allowed))
        base.execute("COMMIT")
    except BaseException:
        if base.in_transaction:
            base.execute("ROLLBACK")
        raise


def count_messages(base: sqlite3.Connection) -> float:
    """Return how many messages all rooms of a file have had. Raises sqlite3.Error."""
    return float(base.execute("SELECT total(head) FROM room").fetchone()[0])


def read_without_journal(path: Path) -> tuple[LogState | None, float]:
    """Return the state in the file *path* alone, None if it cannot be read, and `count_messages`.

    To close the file takes away SQLite's locks of this process on it: POSIX has it so.
    """
    with suppress(sqlite3.Error, UnicodeDecodeError):
        base = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", timeout=0, uri=True)
        try:
            if not find_foreign(base):
                return read_state(base), count_messages(base)
        finally:
            base.close()
    return None, 0


def current_boot_id() -> str:
    """Return the random id of the machine's current boot, or "" on a system without one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
