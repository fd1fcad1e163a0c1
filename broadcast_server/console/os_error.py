"""Operating system errors in a few words, for messages to users."""

from __future__ import annotations

import os


def describe_os_error(error: OSError) -> str:
    """Return the reason for *error* in lower case, without the number and the file name."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
