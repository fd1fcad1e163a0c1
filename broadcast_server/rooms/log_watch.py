"""The log watch: notices that a log file was moved, replaced or overwritten while it is open.

An open file stays open when its name is taken away. What is written to it then cannot be found
after the process has ended.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class Change(Enum):
    """What happened to a log file since the last look."""

    NONE = 0
    MISSING = 1
    """There is no file at its path: it was renamed or deleted, or its folder was."""
    REPLACED = 2
    """There is another file at its path."""
    NO_JOURNAL = 3
    """The journal beside it was renamed, deleted or replaced."""
    OVERWRITTEN = 4
    """It is the same file, with another content."""


class Stamp(NamedTuple):
    """What the file system knows of a file. The first two fields are its identity."""

    device: int
    inode: int
    changed_ns: int
    modified_ns: int
    size: int

    def is_same_file(self, other: Stamp | None) -> bool:
        """Return whether both are of one file, whatever its content."""
        return other is not None and self[:2] == other[:2]

    def has_same_content(self, other: Stamp) -> bool:
        """Return whether nothing was written to the file between them."""
        return self[3:] == other[3:]


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of what is at *path*, None if nothing can be found there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(
        status.st_dev, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size
    )


def journal_of(path: Path) -> Path:
    """Return the path of the journal that SQLite keeps beside the database *path*."""
    return path.with_name(f"{path.name}-wal")


def journal_size(path: Path) -> int:
    """Return the bytes in the journal beside the database *path*, 0 if there is none."""
    stamp = stamp_of(journal_of(path))
    return 0 if stamp is None else stamp.size


def delete_journal(path: Path) -> None:
    """Delete the journal beside the database *path*, and SQLite's index of it. Raises OSError."""
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


class LogWatch:
    """Watches the log file *path*, which was just opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = stamp_of(journal_of(path))
        self.stamp = stamp_of(path)
        """The file after the last change that is the server's own."""
        self.is_new_mode = False
        """Whether the last look found a change that is not one to the content."""

    @property
    def changed_ns(self) -> int:
        """The time of that change, as the file system has it."""
        return 0 if self.stamp is None else self.stamp.changed_ns

    def note_own_change(self) -> bool:
        """Take note that the server itself wrote to the file. Return False if it is not there."""
        stamp = stamp_of(self._path)
        if stamp is None or not stamp.is_same_file(self.stamp):
            return False
        self.stamp = stamp
        return True

    def look(self) -> Change:
        """Return what happened to the file. A new mode or owner is no change."""
        stamp = stamp_of(self._path)
        self.is_new_mode = stamp != self.stamp
        if stamp is None:
            return Change.MISSING
        if self.stamp is None or not stamp.is_same_file(self.stamp):
            return Change.REPLACED
        if not stamp.has_same_content(self.stamp):
            return Change.OVERWRITTEN
        journal = stamp_of(journal_of(self._path))
        if journal is None or not journal.is_same_file(self._journal):
            return Change.NO_JOURNAL
        return Change.NONE
