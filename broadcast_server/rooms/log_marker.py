"""The log marker: the small file beside a log file that says that the log file is whole.

It has the *mark* that the log file has as well. The mark changes whenever a server opens or closes
the log file, so a copy that was made in between does not match the marker. It also has the time of
the last change to the log file as the file system has it (`st_ctime`). No copy keeps that time,
whatever it copies, so a log file that is restored together with its marker does not match it
either. The marker is deleted when a write to the log file fails, because a deletion needs no space
on the disk.

While the server itself changes the log file (a checkpoint), that time is not known. So the server
first writes to the marker that the log file may change, and then to the journal at which time it
wrote that. No copy of the marker has that time. So the epochs continue if the process ends in the
meantime, but not with a copy that was made then.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

CHANGING = "+"
"""Stands after the time while the server itself changes the log file."""


class LogMarker:
    """The marker in the file *path*.

    Once it was written, it stays open: if its folder is renamed, it is still the same marker.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.allows_change = False
        """Whether it was last written before a change to the log file, and not yet after it."""
        self._descriptor: int | None = None

    def has(self, mark: str) -> bool:
        """Return whether the marker is of a log file with *mark*, or of a copy of that.

        An empty marker has an empty mark: the first versions wrote no marks.
        """
        return mark in self._read()[0]

    def matches(self, changed: int, allowed: int) -> bool:
        """Return whether it is of the log file itself, and not of a copy.

        *changed* is the time of the last change to the log file, in ns, and *allowed* the time that
        the log file has of the marker, see `allow_change`. Early versions wrote no time.
        """
        _, time, is_changing = self._read()
        if time in (None, changed):
            return True
        try:
            return is_changing and allowed == self.path.lstat().st_ctime_ns
        except OSError:
            return False

    def is_of_another_file(self, mark: str) -> bool:
        """Return whether there is a marker, but not of a log file with *mark*.

        Of a marker without a time it is not known: the mark may have been in the journal only.
        """
        marks, time, _ = self._read()
        return time is not None and mark not in marks

    @property
    def has_final_time(self) -> bool:
        """Whether it has the time of the last change, so that no server was just changing it."""
        _, time, is_changing = self._read()
        return time is not None and not is_changing

    def _read(self) -> tuple[list[str], int | None, bool]:
        """Return the marks, the time, and whether the log file may change after it.

        Without a marker there is no mark. Without a time it is None.
        """
        try:
            if not self._is_file():
                return [], None, False
            with self.path.open("rb") as file:
                text = file.read(MARKER_BYTES).decode("ascii", "replace")
        except OSError:
            return [], None, False
        marks, _, end = text.rstrip().partition("@")
        time = end.removesuffix(CHANGING)
        return (
            marks.rstrip(" ").split(" "),
            int(time) if time.isdecimal() else None,
            time != end,
        )

    def write(self, *marks: str, changed: int) -> None:
        """Say that a log file with one of *marks* is whole. Raises OSError.

        *changed* is the time of its last change, in ns.
        """
        self._write(f"{' '.join(marks)} @{changed}")
        self.allows_change = False

    def allow_change(self, *marks: str, changed: int) -> int:
        """As `write`, before the server changes the log file. Raises OSError.

        Return the time of this change to the marker, in ns. Commit it to the journal, and then
        change the log file.
        """
        descriptor = self._write(f"{' '.join(marks)} @{changed}{CHANGING}")
        self.allows_change = True
        return os.fstat(descriptor).st_ctime_ns

    def _write(self, text: str) -> int:
        if self._descriptor is None:
            self._descriptor = self._open()
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, text.ljust(MARKER_BYTES).encode())
        return self._descriptor

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


@contextmanager
def translate_marker_errors(marker: LogMarker, log_file: Path) -> Iterator[None]:
    """Turn an error of the system about the marker of *log_file* into a `LogFileError`."""
    try:
        yield
    except OSError as error:
        reason = describe_file_error(error)
        if isinstance(error, NotAFileError):
            reason = f"it is {error.kind} (remove it)"
        raise LogFileError(
            f"file {marker.path} beside log file {log_file} cannot be written: {reason}"
        ) from None
