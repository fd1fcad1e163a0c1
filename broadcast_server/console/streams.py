"""Standard output and standard error: writing to them whatever state they are in.

A stream may be closed from the start, its reader may have closed it, or its disk may be full. In
none of these cases does the user see a traceback.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from broadcast_server.protocol.sanitize import strip_control

from .os_error import describe_os_error


def is_utf8(encoding: str) -> bool:
    """Return whether *encoding* is a name of UTF-8."""
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def note(text: str) -> None:
    """Write *text* as one line to standard error, without anything that a terminal would obey."""
    write_stderr(strip_control(text))


def write_stderr(line: str) -> None:
    """Write *line*, which may have colours, to standard error unchanged."""
    if sys.stderr is None:  # closed from the start; print would write to standard output instead
        return
    with suppress(OSError, ValueError):  # closed since then
        print(line, file=sys.stderr, flush=True)


def print_text(text: str, encoding: str | None = None) -> int:
    """Write *text* to standard output, and return the exit code of a command that does only that.

    Without an *encoding*, it is that of standard output, and what it does not have is written as an
    escape.
    """
    try:
        _write_stdout(text, encoding)
    except BrokenPipeError:
        return 1
    except OSError as error:
        note(stdout_error(error))
        return 1
    return 0


def print_result(line: str, encoding: str | None = None) -> None:
    """Write *line*, which says what was done, to standard output.

    If that is impossible, it was done all the same, so this is only noted. Without an *encoding*,
    it is that of standard output, and what it does not have is written as an escape.
    """
    try:
        _write_stdout(f"{line}\n", encoding)
    except BrokenPipeError:
        pass
    except OSError as error:
        note(stdout_error(error))


def _write_stdout(text: str, encoding: str | None) -> None:
    """Write without a buffer: what cannot be written would be tried again at the exit."""
    stream = sys.stdout
    if stream is None:
        return
    stream.flush()
    data = text.encode(encoding or stream.encoding or "utf-8", "backslashreplace")
    raw = getattr(stream.buffer, "raw", stream.buffer)
    while data:
        data = data[raw.write(data) or 0 :]


def stdout_error(error: OSError) -> str:
    """Return the message that standard output cannot be written."""
    return f"Could not write to standard output: {describe_os_error(error)}"


def flush_streams() -> OSError | None:
    """Flush standard output and standard error. Return the error of standard output, if any.

    A stream that cannot be flushed is redirected to the null device. Otherwise Python would report
    the error again when it exits.
    """
    stdout_failure: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout:
                stdout_failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
    return stdout_failure
