"""The beginning and the ending of a command, in words for people."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

LONGEST = 200
"""Characters of a command that people are shown."""


def command_words(command: Sequence[str]) -> str:
    """Write a *command* as one types it, in one line that is not too long."""
    typed = os.fsencode(shlex.join(command)).decode(errors="replace")
    line = " ".join(typed.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def lasted_words(seconds: float) -> str:
    """Say how long something took, as exactly as anybody wants to know."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def ended_words(code: int) -> str:
    """Say how a command ended."""
    if code >= 0:
        return f"ended with {code}"
    import signal

    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # of the real-time ones few have a name
        return f"was killed by signal {-code}"
