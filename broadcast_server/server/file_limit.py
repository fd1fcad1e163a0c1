"""The limit on open files, which bounds the number of clients."""

from __future__ import annotations

import sys

MAX_FILES = 2**17
"""How many open files the process asks the system for."""


def raise_file_limit() -> int | None:
    """Raise this process's limit on open files, and return it; None if there is no limit.

    Each client needs a file. The usual soft limit is 1024, for the sake of programs that use
    select(), which cannot handle higher numbers. asyncio has no such problem on the systems that
    have this limit.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft == resource.RLIM_INFINITY:
        return None
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS has a lower limit that it does not report
            return soft
        return wanted
    return soft


def file_limit() -> int | None:
    """Return this process's limit on open files; None if there is no limit."""
    try:
        import resource
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def max_clients_for(files: int | None) -> int:
    """Return how many clients fit into a limit of *files* open files, None for no limit.

    Some files are left over for the process itself, and for connections that are rejected: they
    have to be accepted to be told why.
    """
    return sys.maxsize if files is None else max(1, files - max(16, min(64, files // 4)))
