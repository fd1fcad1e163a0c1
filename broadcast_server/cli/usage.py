"""Usage errors: one line on standard error, and exit code 2."""

from __future__ import annotations

from broadcast_server.console.streams import note


def usage_error(command: str, text: str) -> int:
    """Print a usage error of *command*, and return the exit code."""
    note(f"broadcast-server {command}: error: {text}")
    return 2
