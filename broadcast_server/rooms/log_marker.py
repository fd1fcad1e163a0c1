"""The log marker: the small file beside a log file that says that the log file is whole.

It has the *mark* that the log file has as well. The mark changes whenever a server opens or closes
the log file, so a copy that was made in between does not match the marker. It also has the time of
the last change to the log file as the file system has it (`st_ctime`). No copy keeps that time,
whatever it copies, so a log file that is restored together with its marker does not match it
either. The marker is deleted when a write to the log file fails, because a deletion needs no space
on the disk.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.console.private_file import (
    PRIVATE_MODE,
    NotAFileError,
    check_regular,
    set_private,
)

from .message_log import LogFileError

MARKER_BYTES = 80
"""The size of a marker: two marks of 16 characters, a time, and spaces, so that nothing of what it
had before is left behind."""

ANY_TIME = 0
"""Stands for the time of the last change while the server itself changes the log file."""


class LogMarker:
    """The marker in the file *path*.

    Once it was written, it stays open: if its folder is renamed, it is still the same marker.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def matches(self, mark: str, changed: int = ANY_TIME) -> bool:
        """Return whether the marker says that a log file with *mark* is whole.

        *changed* is the time of the last change to the log file, in ns. An empty marker matches an
        empty mark: the first versions wrote no marks. Later ones wrote no time.
        """
        marks, time = self._read()
        return mark in marks and (time in (None, ANY_TIME, changed) or changed == ANY_TIME)

    def is_of_another_file(self, mark: str) -> bool:
        """Return whether there is a marker, but not of a log file with *mark*.

        Of a marker without a time it is not known: the mark may have been in the journal only.
        """
        marks, time = self._read()
        return time is not None and mark not in marks

    @property
    def has_time(self) -> bool:
        """Whether it has the time of the last change, so that no server was just changing it."""
        return self._read()[1] not in (None, ANY_TIME)

    def _read(self) -> tuple[list[str], int | None]:
        """Return the marks, none if there is no marker, and the time, None if it has none."""
        try:
            if not self._is_file():
                return [], None
            with self.path.open("rb") as file:
                text = file.read(MARKER_BYTES).decode("ascii", "replace")
        except OSError:
            return [], None
        marks, _, time = text.rstrip().partition("@")
        return marks.rstrip(" ").split(" "), int(time) if time.isdecimal() else None

    def write(self, *marks: str, changed: int = ANY_TIME) -> None:
        """Say that a log file with one of *marks* is whole. Raises OSError.

        *changed* is the time of its last change.
        """
        if self._descriptor is None:
            self._descriptor = self._open()
        data = f"{' '.join(marks)} @{changed}".ljust(MARKER_BYTES).encode()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, data)

    def _open(self) -> int:
        if os.path.lexists(self.path):
            check_regular(self.path.lstat())  # to open a pipe would wait for its reader
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, PRIVATE_MODE)
        with suppress(PermissionError):  # it belongs to another user, who shares it with us
            set_private(descriptor)
        return descriptor

    def remove(self) -> bool:
        """Say that the log file is not whole. Return False if the marker cannot be deleted."""
        emptied = self._empty()
        try:
            self.path.unlink()
        except FileNotFoundError:
            return emptied
        except OSError:
            try:
                return not self._is_file()
            except FileNotFoundError:
                return emptied
            except OSError:
                return False
        return True

    def _empty(self) -> bool:
        """Empty the marker wherever it is by now, and close it. Return False if it cannot be."""
        if self._descriptor is None:
            return True
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the marker, which stays as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_file(self) -> bool:
        """Return whether there is a regular file, and not a folder or a link. Raises OSError."""
        return stat.S_ISREG(self.path.lstat().st_mode)


def write_marker(marker: LogMarker, log_file: Path, *marks: str) -> None:
    """Write *marks* to the marker of *log_file*. Raises LogFileError."""
    try:
        marker.write(*marks)
    except OSError as error:
        reason = describe_file_error(error)
        if isinstance(error, NotAFileError):
            reason = f"it is {error.kind} (remove it)"
        raise LogFileError(
            f"file {marker.path} beside log file {log_file} cannot be written: {reason}"
        ) from None
