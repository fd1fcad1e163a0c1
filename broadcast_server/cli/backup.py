"""The backup command: copies the log file of a server, which may be running."""

from __future__ import annotations

import argparse

from broadcast_server.console.streams import note, print_result
from broadcast_server.rooms.message_log import LogFileError


def backup(options: argparse.Namespace) -> int:
    """Run `backup` with its *options*, and return the exit code."""
    try:
        from broadcast_server.rooms.log_backup import back_up
    except ImportError:
        note("this Python has no SQLite, which backup needs")
        return 1
    try:
        size = back_up(options.log_file, options.new_file)
    except LogFileError as error:
        note(str(error))
        return 1
    print_result(f"{options.new_file}: {size / 1024:.0f} KiB")
    return 0
