"""Private files: those that the program writes, which only their owner may read.

Messages and positions in rooms are nobody else's business on a shared machine, whatever the umask
says. On Windows a file has no such mode, and inherits the access rights of its folder.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

PRIVATE_MODE = 0o600
OTHERS = 0o077
"""The bits of a mode that give anyone besides the owner access."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(OSError):
    """There is something at a path that is no regular file. The text says what, and the remedy."""

    def __init__(self, kind: str) -> None:
        super().__init__(errno.EINVAL, kind)
        self.kind = kind


def resolve(path: Path) -> Path:
    """Return the absolute path of the file that *path* means, through symbolic links.

    Raises OSError if *path* is relative to a folder that was deleted.
    """
    return Path(os.path.realpath(path))


def create_private(path: Path) -> int:
    """Create the file *path*, which must not exist, and return its descriptor, for writing.

    A symbolic link at *path* is not followed. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), PRIVATE_MODE)
    set_private(descriptor)  # a umask such as 0777 would leave the owner without access, too
    return descriptor


SQLITE_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""What SQLite adds to the name of a database for the files that it keeps beside it."""

WAS_OPEN = "was open to other users, its mode is 0600 now"
IS_OPEN = "is open to other users (let its owner chmod it)"


def check_sqlite_files(path: Path) -> None:
    """Check that the files beside the SQLite database *path* are files, and no links elsewhere.

    Raises `NotAFileError`, OSError.
    """
    for suffix in SQLITE_SUFFIXES[1:]:
        file = path.with_name(path.name + suffix)
        if os.path.lexists(file):
            check_regular(file.lstat())  # SQLite makes no links there, so another user did


def make_sqlite_private(path: Path) -> str:
    """Make the SQLite database *path* private, and the files beside it, if they exist.

    SQLite gives the files that it creates there later the mode of the database.

    Returns what the operator should know about the file, "" if nothing: `WAS_OPEN` or `IS_OPEN`.
    Raises `NotAFileError`, OSError.
    """
    files = [path.with_name(path.name + suffix) for suffix in SQLITE_SUFFIXES]
    check_sqlite_files(path)
    try:
        changed = sum(make_private(each) for each in files if os.path.lexists(each))
    except OSError as error:
        if error.errno != errno.EPERM:  # it belongs to another user, who shares it with us
            raise
        return IS_OPEN
    return WAS_OPEN if changed else ""


def check_regular(status: os.stat_result) -> int:
    """Return the mode of a regular file. Raises `NotAFileError` if it is anything else."""
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file"))
    return status.st_mode


def make_private(path: Path) -> bool:
    """Take access to the file *path* from everyone but its owner, if others have any.

    Returns whether that was needed. Raises `NotAFileError` if it is not a regular file, OSError if
    it does not exist or its mode cannot be changed.
    """
    mode = check_regular(path.stat())
    if os.name == "nt" or not mode & OTHERS:
        return False
    path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    return True


def set_private(descriptor: int) -> None:
    """Give an open file the mode `PRIVATE_MODE`. Raises OSError if it belongs to another user."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, PRIVATE_MODE)
