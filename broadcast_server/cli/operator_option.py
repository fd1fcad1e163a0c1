"""The operator key: read from --operator-file or from the environment, or made by `start`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from broadcast_server.console.child_environment import OPERATOR_VARIABLE

FILE_VARIABLE = f"{OPERATOR_VARIABLE}_FILE"

FILE, KEY = "operator file", "an operator key"  # what errors call them


def operator_key_from_options(options: argparse.Namespace) -> str | None:
    """Return the operator key, or None without one.

    A typed --operator-file takes precedence over BROADCAST_OPERATOR, which takes precedence over
    BROADCAST_OPERATOR_FILE. If the file does not exist, `start` makes it, and `has_made_key` of the
    *options* is true. Raises ValueError for an invalid key or an unreadable file.
    """
    # As in a file, white space around it is no part of it.
    path, key = options.operator_file, os.environ.get(OPERATOR_VARIABLE, "").strip()
    typed = "operator_file" in options.typed
    if options.command == "start" and not typed:
        for variable in (OPERATOR_VARIABLE, FILE_VARIABLE):
            if variable in os.environ and not os.environ[variable].strip():
                raise ValueError(
                    f"{variable} is set and empty, so nobody could be an operator"
                    " (give it a value, or unset it)"
                )
    if typed and not path:
        raise ValueError("--operator-file is empty (name a file)")
    if not path and not key:
        return None
    from broadcast_server.admission.token import read_token_file, validate_token

    if key and not typed:
        return validate_token(key, OPERATOR_VARIABLE, KEY)
    if options.command == "start" and not os.path.lexists(path):
        options.has_made_key = True
        return _make(path)
    return read_token_file(path, FILE, KEY)


def _make(path: str) -> str:
    """Make the file *path* with a random key, and return the key."""
    import secrets

    from broadcast_server.console.os_error import describe_file_error
    from broadcast_server.console.private_file import create_private

    key = secrets.token_urlsafe(18)
    try:
        with os.fdopen(create_private(Path(path)), "w", encoding="ascii") as file:
            file.write(f"{key}\n")
    except (OSError, ValueError) as error:
        reason = describe_file_error(error) if isinstance(error, OSError) else "not a valid path"
        raise ValueError(f"{FILE} {path} cannot be made: {reason}") from None
    return key
