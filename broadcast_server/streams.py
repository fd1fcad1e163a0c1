"""The standard streams, and what may be wrong with them.

Each may be closed from the start, be closed by its reader, or be full: nothing
of it may end in a traceback. What goes through them is not known here.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from .safe import safe_text


def note(text: str) -> None:
    """Write a line to standard error, if there is one."""
    show(safe_text(text))


def show(line: str) -> None:
    """Write a line of our own making to standard error as it is, with its colours."""
    if sys.stderr is None:  # print would take standard output for it
        return
    with suppress(OSError, ValueError):  # it is closed: nobody wants to know
        print(line, file=sys.stderr, flush=True)


def reason(error: OSError) -> str:
    """Say in a few words what the system has against it."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def no_output(error: OSError) -> str:
    """Say that standard output cannot be written."""
    return f"Could not write to standard output: {reason(error)}"


def settle() -> OSError | None:
    """Flush what was printed, and return what is wrong with standard output.

    In the place of a stream that takes no more comes one that takes all, or
    Python would complain of it when it ends.
    """
    wrong: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                wrong = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    return wrong
