"""The code cache: the compiled modules of the single file, in a folder of the user.

Python caches nothing of what it imports from a zip file, and to compile that is a third of the
work of a start. Whoever can write into the cache can run code as this user. So it is used only
where nobody else can write, and on systems that can tell. All that can go wrong with it means only
that modules are compiled again.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
import time
from importlib.util import MAGIC_NUMBER, source_hash

FOLDER = "broadcast-server"
"""The folder of the cache, in the user's folder for caches."""

OTHERS_WRITE = 0o022
OTHERS = 0o077
"""The bits of a mode that let anyone besides the owner write, or do anything."""

MAX_ENTRIES = 3
"""Entries that are kept: each build of the file has one for each version of Python."""

MAX_ENTRY_BYTES = 2**25

ENTRY, TEMPORARY = ".code", ".new"
"""The endings of the files in the folder."""

TEMPORARY_LASTS_S = 60.0
"""Seconds after which a temporary file is removed: its process was killed while it wrote."""

CHECKSUM_BYTES = 8
"""An entry is a checksum of the rest, its own name, and the modules in the format of `marshal`."""


def is_supported() -> bool:
    """Return whether this system can tell who can write into a folder."""
    # Under sudo and the like, the real user's folder is not the effective user's.
    return hasattr(os, "geteuid") and os.geteuid() == os.getuid() and os.open in os.supports_dir_fd


class CodeCache:
    """The cached modules of one build of the single file, for this version of Python.

    Args:
        content: The bytes of the single file.

    """

    def __init__(self, content: bytes) -> None:
        # Python recognises a source by this hash, too (PEP 552). It is not made against forgery,
        # but to have a forged file cached, a user must have run it.
        of_python = f"{sys.implementation.cache_tag}-{MAGIC_NUMBER.hex()}-{sys.flags.optimize}"
        self._name = f"{of_python}-{source_hash(content).hex()}{ENTRY}"
        self._head = self._name.encode()  # for an entry that was renamed

    def load(self) -> dict[str, bytes]:
        """Return the cached modules by their names, each in the format of `marshal`."""
        try:
            folder = _open_folder(create=False)
            try:
                return self._read(folder)
            finally:
                os.close(folder)
        except OSError:
            return {}

    def add(self, modules: dict[str, bytes]) -> None:
        """Cache *modules*, in addition to those that are cached, and remove old entries."""
        try:
            folder = _open_folder(create=True)
            try:
                self._write(folder, {**self._read(folder), **modules})
                _remove_old(folder)
            finally:
                os.close(folder)
        except OSError:  # the disk is full, or the folder is read-only or somebody else's
            pass

    def _read(self, folder: int) -> dict[str, bytes]:
        try:  # not waiting for a pipe that has this name
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self._name, flags, dir_fd=folder)
        except OSError:
            return {}
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_own(status, OTHERS_WRITE):
                return {}
            entry = file.read() if status.st_size <= MAX_ENTRY_BYTES else b""
        named = memoryview(entry)[CHECKSUM_BYTES:]
        # Python may crash on what `marshal` reads from a damaged file.
        if entry[:CHECKSUM_BYTES] != source_hash(named) or named[: len(self._head)] != self._head:
            return {}
        modules: dict[str, bytes] = marshal.loads(named[len(self._head) :])  # noqa: S302  # ours
        return modules

    def _write(self, folder: int, modules: dict[str, bytes]) -> None:
        named = self._head + marshal.dumps(modules)
        temporary = f"{os.urandom(8).hex()}{TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)  # whatever the umask is
                file.write(source_hash(named) + named)
            os.replace(temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(temporary, dir_fd=folder)
            raise


_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


def _open_folder(*, create: bool) -> int:
    """Return a descriptor of the cache's folder. Raises OSError if it cannot be used.

    What is in a folder is opened through the folder's descriptor: nobody can exchange a part of
    the path after it was checked.
    """
    parent = _open_parent(create=create)
    try:
        if create:
            _make_folder(FOLDER, parent)
        return _checked(os.open(FOLDER, _OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=parent), OTHERS)
    finally:
        os.close(parent)


def _open_parent(*, create: bool) -> int:
    """Return a descriptor of the user's folder for caches (XDG Base Directory Specification)."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):  # the specification has a relative one ignored
        return _checked(os.open(chosen, _OPEN_FOLDER), OTHERS_WRITE)
    path = os.environ.get("HOME", "")
    if not os.path.isabs(path):
        raise FileNotFoundError
    home = _checked(os.open(path, _OPEN_FOLDER), OTHERS_WRITE)
    try:
        if create:
            _make_folder(".cache", home)
        return _checked(os.open(".cache", _OPEN_FOLDER, dir_fd=home), OTHERS_WRITE)
    finally:
        os.close(home)


def _make_folder(name: str, parent: int) -> None:
    """Make a private folder, if nothing has its name, in one where only this user can write."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        os.chmod(name, 0o700, dir_fd=parent)  # whatever the umask is
    except FileExistsError:
        pass


def _checked(descriptor: int, forbidden: int) -> int:
    """Return the descriptor. If it is not the user's alone, close it and raise PermissionError."""
    if _is_own(os.fstat(descriptor), forbidden):
        return descriptor
    os.close(descriptor)
    raise PermissionError


def _is_own(status: os.stat_result, forbidden: int) -> bool:
    """Return whether a file is this user's, and nobody else has a right in *forbidden*."""
    return status.st_uid == os.geteuid() and not status.st_mode & forbidden


def _remove_old(folder: int) -> None:
    """Remove all but the newest entries, and what was left behind while it was written."""
    times: dict[str, float] = {}
    for name in os.listdir(folder):
        if name.endswith((ENTRY, TEMPORARY)):
            try:
                times[name] = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
            except FileNotFoundError:  # another process has removed it
                pass
    entries = sorted((name for name in times if name.endswith(ENTRY)), key=times.__getitem__)
    old = time.time() - TEMPORARY_LASTS_S
    stale = [name for name in times if name.endswith(TEMPORARY) and times[name] < old]
    for name in [*entries[:-MAX_ENTRIES], *stale]:
        try:
            os.unlink(name, dir_fd=folder)
        except OSError:
            pass
