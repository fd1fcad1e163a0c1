"""The token: read from --token-file or from the environment, for clients and the server."""

from __future__ import annotations

import argparse
import os

from broadcast_server.console.child_environment import TOKEN_VARIABLE


def token_from_options(options: argparse.Namespace) -> str | None:
    """Return the token, or None without one.

    A typed --token-file takes precedence over BROADCAST_TOKEN, which takes precedence over
    BROADCAST_TOKEN_FILE. Raises ValueError for an invalid token or an unreadable file.
    """
    path, token = options.token_file, os.environ.get(TOKEN_VARIABLE)
    if not path and not token:
        return None
    from broadcast_server.admission.token import read_token_file, validate_token

    if token and (not path or "token_file" not in options.typed):
        return validate_token(token, TOKEN_VARIABLE)
    return read_token_file(path)
