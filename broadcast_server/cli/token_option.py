"""The token: read from --token-file or from the environment, for clients and the server."""

from __future__ import annotations

import argparse
import os

from broadcast_server.console.child_environment import TOKEN_VARIABLE
from broadcast_server.console.streams import note

TOKEN_FILE_VARIABLE = f"{TOKEN_VARIABLE}_FILE"


def token_from_options(options: argparse.Namespace) -> str | None:
    """Return the token, or None without one.

    A typed --token-file takes precedence over BROADCAST_TOKEN, which takes precedence over
    BROADCAST_TOKEN_FILE. Raises ValueError for an invalid token or an unreadable file, and for a
    server's token that is set and empty: the file or the variable that it should come from is
    missing, and the server would be open.
    """
    # As in a file, white space around it is no part of it.
    path, token = options.token_file, os.environ.get(TOKEN_VARIABLE, "").strip()
    typed = "token_file" in options.typed
    if options.command == "start" and not typed:
        for variable in (TOKEN_VARIABLE, TOKEN_FILE_VARIABLE):
            if variable in os.environ and not os.environ[variable].strip():
                raise ValueError(
                    f"{variable} is set and empty, so anyone could join"
                    " (give it a value, or unset it)"
                )
        if path and token:
            note(f"{TOKEN_FILE_VARIABLE} has no effect, as {TOKEN_VARIABLE} is set (unset one)")
    if typed and not path:
        raise ValueError("--token-file is empty (name a file)")
    if not path and not token:
        return None
    from broadcast_server.admission.token import read_token_file, validate_token

    if token and not typed:
        return validate_token(token, TOKEN_VARIABLE)
    return read_token_file(path)
