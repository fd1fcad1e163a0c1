"""Tokens: where a client sends one, where an operator stores one, and which are valid.

No error text contains the token that it is about.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path

from broadcast_server.console.os_error import describe_file_error

MAX_TOKEN_CHARS = 1024

BEARER_PREFIX = "bearer."
"""The prefix of the subprotocol that carries a token, for pages: a browser lets them set no
header on a WebSocket."""


def find_token(headers: Mapping[str, str], subprotocols: Iterable[str]) -> str | None:
    """Return the token that a request carries, or None if it carries none.

    The Authorization header takes precedence over the offered *subprotocols*. *headers* have
    lower-case names. A subprotocol that cannot be decoded gives the empty string, which is
    never the right token.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for subprotocol in subprotocols:
        if subprotocol.startswith(BEARER_PREFIX):
            encoded = subprotocol.removeprefix(BEARER_PREFIX)
            try:
                padded = encoded + "=" * (-len(encoded) % 4)
                return urlsafe_b64decode(padded).decode()
            except ValueError:
                return ""
    return None


def validate_token(token: str, source: str) -> str:
    """Return *token*, or raise ValueError with the rule that it breaks.

    The text of the error begins with *source*, the place that the token comes from.
    """
    if not 1 <= len(token) <= MAX_TOKEN_CHARS:
        problem = "empty" if not token else "too long"
        raise ValueError(f"{source}: it is {problem}, a token is 1 to {MAX_TOKEN_CHARS} characters")
    if not all("!" <= char <= "~" for char in token):
        raise ValueError(f"{source}: a token is one line of visible ASCII characters")
    return token


def read_token_file(path: str) -> str:
    """Read a token from the file *path*. Raises ValueError if it cannot be read or is invalid."""
    try:
        with Path(path).open("rb") as file:
            # One character too many is enough to reject it. The file may be an endless pipe.
            data = file.read(MAX_TOKEN_CHARS + 1)
    except (OSError, ValueError) as error:
        reason = describe_file_error(error) if isinstance(error, OSError) else "not a valid path"
        raise ValueError(f"token file {path}: {reason}") from None
    return validate_token(data.decode("latin-1").strip(), f"token file {path}")


def token_from(token: str, path: str) -> str | None:
    """Return *token*, the value of BROADCAST_TOKEN, or the token in the file *path*.

    White space around a token is no part of it. An empty string stands for a setting that is
    absent; without both there is no token. Raises ValueError if the token is invalid.
    """
    if token:
        return validate_token(token.strip(), "BROADCAST_TOKEN")
    return read_token_file(path) if path else None
