"""Arguments and variables: what somebody typed, as text in whatever encoding the terminal has."""

from __future__ import annotations

import os


def argument_text(argument: str, errors: str = "replace") -> str:
    """Return an argument of the command line, or the value of a variable, as text.

    Python has decoded it by the locale. What the locale does not know is UTF-8, as in a container
    without a locale; what is not UTF-8 either is replaced. A path is left as it is: it means bytes.

    With *errors* ``"strict"``, what is not UTF-8 raises UnicodeDecodeError instead.
    """
    if argument.isascii() or not any("\udc80" <= char <= "\udcff" for char in argument):
        return argument
    return os.fsencode(argument).decode(errors=errors)
