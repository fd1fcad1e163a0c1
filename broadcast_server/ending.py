"""The ending of a command, in words for people."""

from __future__ import annotations


def ended_words(code: int) -> str:
    """Say how a command ended."""
    if code >= 0:
        return f"ended with {code}"
    import signal

    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # of the real-time ones few have a name
        return f"was killed by signal {-code}"
