"""The cursor file: where a client was in its room, so that another run of it goes on there.

It holds one line, `ROOM EPOCH.SEQ`. What the client has done by then is not known here.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlencode

from .entry import Entry, parse_entry
from .protocol import Cursor, Format
from .streams import reason

LONGEST = 256
"""Bytes; the longest room with the longest cursor has 149."""


class BadCursorFile(Exception):
    """A cursor file cannot be used; the text says which and why."""


class CursorFile:
    """One client's cursor file; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))  # or a link would be replaced
        self._said = str(path)
        self._kept: Cursor | None = None

    def load(self, asked: str | None) -> tuple[str | None, Cursor | None]:
        """Return the room, which may be *asked* for, and the place in it if there is a file.

        Raises `BadCursorFile`.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(LONGEST + 1)
        except FileNotFoundError:
            return asked, None
        except OSError as error:
            raise BadCursorFile(f"cursor file {self._said}: {reason(error)}") from None
        found = _parsed(data)
        if found is None:
            raise BadCursorFile(
                f"cursor file {self._said}: it does not hold ROOM EPOCH.SEQ"
                " (without a file one begins now)"
            )
        if asked not in (None, found.room):
            raise BadCursorFile(
                f"cursor file {self._said}: it is of room {found.room}, not {asked}"
                " (give another file)"
            )
        return found.room, found.since

    def keep(self, room: str, cursor: Cursor) -> None:
        """Have the file say this place, in one step and on the disk. Raises `BadCursorFile`.

        At whatever moment this is cut off, the file is whole: the old one or the new one.
        """
        if cursor == self._kept:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            with new.open("wb") as file:
                file.write(f"{room} {cursor}\n".encode())
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name without content
            new.replace(self._path)
        except OSError as error:
            raise BadCursorFile(
                f"Could not write cursor file {self._said}: {reason(error)}"
            ) from None
        self._kept = cursor


def _parsed(data: bytes) -> Entry | None:
    words = data.decode(errors="replace").split()
    if len(words) != 2 or not data.endswith(b"\n"):
        return None
    entry = parse_entry(urlencode({"room": words[0], "since": words[1]}), Format.JSON)
    return entry if isinstance(entry, Entry) else None
