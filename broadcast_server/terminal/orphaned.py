"""Whether a shell could continue this program if it was suspended."""

from __future__ import annotations

import os


def is_orphaned() -> bool:
    """Whether no shell of this session started us, so that the system ignores SIGTSTP (POSIX)."""
    try:
        return os.getsid(os.getppid()) != os.getsid(0)
    except OSError:
        return True
