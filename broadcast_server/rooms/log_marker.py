"""The log marker: the small file beside a log file that says that the log file is whole.

It has the *mark* that the log file has as well. The mark changes whenever a server opens or closes
the log file, so a copy that was made in between does not match the marker. The marker is deleted
when a write to the log file fails, because a deletion needs no space on the disk.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from broadcast_server.console.private_file import PRIVATE_MODE, check_regular, set_private

MAX_MARKER_BYTES = 256
"""Bytes that are read; a marker has at most two marks of 16 characters."""


class LogMarker:
    """The marker in the file *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def matches(self, mark: str) -> bool:
        """Return whether the marker says that a log file with *mark* is whole.

        An empty marker matches an empty mark: the first versions wrote no marks.
        """
        try:
            if not self._is_file():
                return False
            with self.path.open("rb") as file:
                marks = file.read(MAX_MARKER_BYTES).decode("ascii", "replace").split(" ")
        except OSError:
            return False
        return mark in marks

    def write(self, *marks: str) -> None:
        """Say that a log file with one of *marks* is whole. Raises OSError."""
        if os.path.lexists(self.path):
            check_regular(self.path.lstat())  # to open a pipe would wait for its reader
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, PRIVATE_MODE)
        try:
            with suppress(PermissionError):  # it belongs to another user, who shares it with us
                set_private(descriptor)
            data = " ".join(marks).encode()
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

    def remove(self) -> bool:
        """Say that the log file is not whole. Return False if the marker cannot be deleted."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return True
        except OSError:
            try:
                return not self._is_file()
            except FileNotFoundError:
                return True
            except OSError:
                return False
        return True

    def _is_file(self) -> bool:
        """Return whether there is a regular file, and not a folder or a link. Raises OSError."""
        return stat.S_ISREG(self.path.lstat().st_mode)
