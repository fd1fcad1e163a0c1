"""The site's own secret key: a file that its first process creates, for a site on one machine."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from broadcast_server.console.os_error import describe_os_error

KEY_BYTES = 48
"""The random bytes of a key. In base64 they are 64 characters."""

KEY = re.compile(r"[A-Za-z0-9_-]{64}")
REMEDY = "delete it for a new key, which signs everyone out, or set SECRET_KEY"


def own_secret_key(path: Path) -> str:
    """Return the key in the file *path*, after creating it if there is none.

    All processes that start at the same time get the same key. Raises ValueError if the file
    cannot be created or read, or if its content is not a key.
    """
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise ValueError(f"{path}: {describe_os_error(error)} (set SECRET_KEY)") from None


def _create(path: Path) -> None:
    """Create the file, complete from the start, unless another process was faster."""
    # mkstemp() creates files with the mode 0600. A link fails if the name exists, and a rename
    # would replace the key that another process has read already.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()


def _read(path: Path) -> str:
    # Without O_NONBLOCK, opening a pipe waits for somebody who writes to it.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: not a file ({REMEDY})")
        if os.name == "posix" and status.st_mode & stat.S_IRWXO:
            raise ValueError(f"{path}: other users can read or change it ({REMEDY})")
        if os.name == "posix" and status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"{path}: it belongs to another user ({REMEDY})")
        key = file.read(4096).decode("latin-1").removesuffix("\n")
    if KEY.fullmatch(key) is None:
        problem = "it is damaged" if key else "it is empty"
        raise ValueError(f"{path}: {problem} ({REMEDY})")
    return key
