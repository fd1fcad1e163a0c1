"""The cursor file: the position of a client in its room, from which its next run continues.

It holds one line, `ROOM EPOCH.SEQ`. The sinks decide when a message counts as handled; this
module reads and writes the file.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.console.private_file import (
    NotAFileError,
    check_regular,
    create_private,
    resolve,
)
from broadcast_server.protocol.join import parse_cursor
from broadcast_server.protocol.messages import Cursor
from broadcast_server.protocol.names import validate_room

MAX_FILE_BYTES = 256
"""Bytes that are read; the longest room with the longest cursor needs 149."""


class CursorFileError(Exception):
    """A cursor file cannot be read or written; the text names the file and the reason."""


class CursorFile:
    """The cursor file of one client. It need not exist yet. Only its owner can read it.

    If *path* is a symbolic link, the file is the one that it leads to now. Raises CursorFileError
    if there is no way to tell which file is meant.
    """

    def __init__(self, path: Path) -> None:
        self._shown_path = str(path)
        self._saved: Cursor | None = None
        try:
            self._path = resolve(path)  # `save` would replace a symbolic link itself
        except OSError:
            raise CursorFileError(
                f"cursor file {path}: the current folder was deleted (change to another one)"
            ) from None

    def load(self, room: str | None) -> tuple[str | None, Cursor | None]:
        """Return the room and the cursor in the file; *room* and None if it does not exist.

        Raises CursorFileError if the file is unreadable, or is for another room than *room*.
        """
        try:
            check_regular(self._path.stat())  # to open a pipe would wait for its writer
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return room, None
        except NotAFileError as error:
            raise CursorFileError(
                f"cursor file {self._shown_path}: it is {error.kind} (name a file)"
            ) from None
        except OSError as error:
            raise CursorFileError(
                f"cursor file {self._shown_path}: {describe_file_error(error)}"
            ) from None
        saved = _parse(data)
        if saved is None:
            raise CursorFileError(
                f"cursor file {self._shown_path}: it does not hold ROOM EPOCH.SEQ"
                " (name a new file to start from now)"
            )
        saved_room, cursor = saved
        if room not in (None, saved_room):
            raise CursorFileError(
                f"cursor file {self._shown_path}: it is for room {saved_room}, not {room}"
                " (use another file)"
            )
        return saved_room, cursor

    def save(self, room: str, cursor: Cursor) -> None:
        """Write *room* and *cursor* to disk, unless the file has this cursor already.

        The file is replaced in one step: after a crash at any moment it holds the old line or the
        new one. Raises CursorFileError.
        """
        if cursor == self._saved:
            return
        # In a folder that others can write to, nobody can put a link in the place of a name that
        # nobody can guess.
        new = self._path.with_name(f".cursor-{secrets.token_hex(8)}")
        try:
            with os.fdopen(create_private(new), "wb") as file:
                file.write(f"{room} {cursor}\n".encode())
                file.flush()
                # Without this, a power cut could leave the new name without its content.
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                new.unlink()
            raise CursorFileError(
                f"Could not write cursor file {self._shown_path}: {describe_file_error(error)}"
            ) from None
        self._saved = cursor


def _parse(data: bytes) -> tuple[str, Cursor] | None:
    """Return the room and the cursor, None if *data* is not one complete line of both."""
    words = data.decode(errors="replace").split()
    if len(words) != 2 or not data.endswith(b"\n"):
        return None
    cursor = parse_cursor(words[1])
    if cursor is None:
        return None
    try:
        return validate_room(words[0]), cursor
    except ValueError:
        return None
