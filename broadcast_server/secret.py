"""The secret: a token that a server wants or a client brings, and what may be one.

What is wrong with it is told without it.
"""

from __future__ import annotations

from pathlib import Path

from .streams import reason

LONGEST = 1024


def checked(token: str, source: str) -> str:
    """Return *token*. Raises ValueError if it is none."""
    if not 1 <= len(token) <= LONGEST:
        found = "empty" if not token else "too long"
        raise ValueError(f"{source}: it is {found}, a token is 1 to {LONGEST} characters")
    if not all("!" <= char <= "~" for char in token):
        raise ValueError(f"{source}: a token is one line of visible ASCII characters")
    return token


def read(path: str) -> str:
    """Read the token that is in a file. Raises ValueError."""
    try:
        with Path(path).open("rb") as file:  # it may be a pipe
            data = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "no path"
        raise ValueError(f"token file {path}: {why}") from None
    return checked(data.decode("latin-1").strip(), f"token file {path}")


def token_of(said: str, path: str) -> str | None:
    """Return the token that a variable *said*, else that of the file *path*. Raises ValueError."""
    return checked(said, "BROADCAST_TOKEN") if said else read(path) if path else None
