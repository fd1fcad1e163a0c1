"""Process texts: a command, its duration and its exit code, as people read them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from broadcast_server.console.argument import argument_text

MAX_COMMAND_CHARS = 200
"""Characters of a command that are shown; the rest is cut off."""


def command_text(command: Sequence[str]) -> str:
    """Return *command* as you would type it, in one line of at most `MAX_COMMAND_CHARS`."""
    line = " ".join(argument_text(shlex.join(command)).split())
    return line if len(line) <= MAX_COMMAND_CHARS else f"{line[: MAX_COMMAND_CHARS - 1]}…"


def duration_text(seconds: float) -> str:
    """Return a duration such as `3.2 s`, `3 min 12 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def exit_text(code: int) -> str:
    """Return how a command ended, such as `ended with 2` or `was killed by SIGTERM`.

    A negative *code* is the number of the signal that killed it, as in `subprocess`.
    """
    if code >= 0:
        return f"ended with {code}"
    import signal

    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # most real-time signals have no name
        return f"was killed by signal {-code}"
