"""Tokens and operator keys: where a client sends one, where they are stored, and which are valid.

A token lets a client join, and the operator key makes it an operator. Both are read in the same
way. No error text contains the secret that it is about.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from broadcast_server.console.os_error import describe_file_error
from broadcast_server.protocol.operators import OPERATOR_HEADER, OPERATOR_PREFIX

MAX_TOKEN_CHARS = 1024

BEARER_PREFIX = "bearer."
"""The prefix of the subprotocol that carries a token, for pages: a browser lets them set no
header on a WebSocket."""


class Credentials(NamedTuple):
    """What a client shows to be admitted. A client without an operator key wants to be none."""

    token: str | None = None
    operator_key: str | None = None


def find_token(headers: Mapping[str, str], subprotocols: Iterable[str]) -> str | None:
    """Return the token that a request carries, or None if it carries none.

    The Authorization header takes precedence over the offered *subprotocols*. *headers* have
    lower-case names. A subprotocol that cannot be decoded gives the empty string, which is
    never the right token.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else _offered(BEARER_PREFIX, subprotocols)


def find_operator_key(headers: Mapping[str, str], subprotocols: Iterable[str]) -> str | None:
    """Return the operator key that a request carries, or None if it carries none.

    The arguments are those of `find_token`.
    """
    key = headers.get(OPERATOR_HEADER.lower())
    return key.strip() if key is not None else _offered(OPERATOR_PREFIX, subprotocols)


def _offered(prefix: str, subprotocols: Iterable[str]) -> str | None:
    """Return the secret after *prefix* in the offered *subprotocols*, or None if there is none."""
    for subprotocol in subprotocols:
        if subprotocol.startswith(prefix):
            encoded = subprotocol.removeprefix(prefix)
            try:
                padded = encoded + "=" * (-len(encoded) % 4)
                return urlsafe_b64decode(padded).decode()
            except ValueError:
                return ""
    return None


def find_credentials(headers: Mapping[str, str], subprotocols: Iterable[str]) -> Credentials:
    """Return the secrets that a request carries. The arguments are those of `find_token`."""
    return Credentials(find_token(headers, subprotocols), find_operator_key(headers, subprotocols))


def validate_token(token: str, source: str, what: str = "a token") -> str:
    """Return *token*, or raise ValueError with the rule that it breaks.

    The text of the error begins with *source*, the place that the token comes from. *what* is what
    it is, with its article.
    """
    if not 1 <= len(token) <= MAX_TOKEN_CHARS:
        problem = "empty" if not token else "too long"
        raise ValueError(f"{source}: it is {problem}, {what} is 1 to {MAX_TOKEN_CHARS} characters")
    if not all("!" <= char <= "~" for char in token):
        raise ValueError(f"{source}: {what} is one line of visible ASCII characters")
    return token


def read_token_file(path: str, file: str = "token file", what: str = "a token") -> str:
    """Read a token from the file *path*. Raises ValueError if it cannot be read or is invalid.

    *file* and *what* are what errors call the file and its content.
    """
    try:
        with Path(path).open("rb") as stream:
            # One character too many is enough to reject it. The file may be an endless pipe.
            data = stream.read(MAX_TOKEN_CHARS + 1)
    except (OSError, ValueError) as error:
        reason = describe_file_error(error) if isinstance(error, OSError) else "not a valid path"
        raise ValueError(f"{file} {path}: {reason}") from None
    return validate_token(data.decode("latin-1").strip(), f"{file} {path}", what)


def token_from(token: str, path: str) -> str | None:
    """Return *token*, the value of BROADCAST_TOKEN, or the token in the file *path*.

    White space around a token is no part of it. An empty string stands for a setting that is
    absent; without both there is no token. Raises ValueError if the token is invalid.
    """
    if token:
        return validate_token(token.strip(), "BROADCAST_TOKEN")
    return read_token_file(path) if path else None
