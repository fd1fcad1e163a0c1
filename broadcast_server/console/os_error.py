"""Operating system errors in a few words, for messages to users."""

from __future__ import annotations

import errno
import os

REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in it",
    errno.ELOOP: "name the file itself",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENXIO: "name a file",
    errno.EACCES: "run as a user who may use it, or name another file",
    errno.EPERM: "run as a user who may use it, or name another file",
    errno.EROFS: "name a file on another disk",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EMFILE: "raise ulimit -n",
}
"""What to do about an error with a file."""

DEFAULT_REMEDY = "check the disk, or name another file"


def describe_os_error(error: OSError) -> str:
    """Return the reason for *error* in lower case, without the number and the file name."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def describe_file_error(error: OSError) -> str:
    """Return the reason for *error*, which is about a file of the user, and the remedy."""
    remedy = REMEDIES.get(error.errno or 0, DEFAULT_REMEDY)
    return f"{describe_os_error(error)} ({remedy})"
