"""Usage errors: one line on standard error, and exit code 2."""

from __future__ import annotations

from broadcast_server.console.streams import note

PROGRAM = "broadcast-server"
"""The program's name in messages and generated documents, however it was started."""


def usage_error(command: str | None, text: str) -> int:
    """Print a usage error of *command* (None: of the whole program); return the exit code."""
    note(f"{PROGRAM} {command}: error: {text}" if command else f"{PROGRAM}: error: {text}")
    return 2
