"""The sign-in: which token a command brings or wants, of a file or of the environment."""

from __future__ import annotations

import argparse
import os

from .typed import TOKEN


def token(options: argparse.Namespace) -> str | None:
    """Return the token to sign in by: of a file that was typed, of the variable, of a file.

    Raises ValueError.
    """
    path, said = options.token_file, os.environ.get(TOKEN)
    if not path and not said:
        return None
    from .secret import checked, read  # for those only who have one

    if said and (not path or "token_file" not in options.typed):
        return checked(said, TOKEN)
    return read(path)
