"""The session key: turns a client's session into a digest, by which the server knows the client.

A session is a secret. It is in the handshake or request of its client, and nowhere behind that: the
members of a room, message logs and tables have the digest. Without the key, nobody can tell which
session a digest belongs to, or check a guess.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b

SESSION_HEADER = "Broadcast-Session"
"""The header in which a program sends its session."""

SESSION_PREFIX = "session."
"""The prefix of the subprotocol that carries a session, for pages: a browser lets them set no
header on a WebSocket."""

DIGEST_PREFIX = "="
"""Begins every digest. No session begins with it, and neither does another id scope."""

KEY_BYTES = 32
"""The length of a key that is made at random."""

_SESSION = re.compile(r"[A-Za-z0-9_-]{16,64}")


class SessionKey:
    """The key of one server, or of all processes on one database. Without *key* it is random."""

    __slots__ = ("_key",)  # and no repr, so that no log line has it

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else key

    def digest(self, session: str) -> str:
        """Return the digest of *session*: `DIGEST_PREFIX` and 24 characters."""
        digest = blake2b(session.encode(), key=self._key, digest_size=18).digest()
        return DIGEST_PREFIX + urlsafe_b64encode(digest).decode()

    def digest_sent(self, session: str) -> str:
        """Return the digest of a *session* that a client sent, or raise ValueError."""
        if not _SESSION.fullmatch(session):
            raise ValueError("session is not 16 to 64 of A-Z a-z 0-9 _ -")
        return self.digest(session)


def find_session(
    headers: Sequence[str], subprotocols: Iterable[str], parameter: str | None
) -> str | None:
    """Return the session that a client sent, None if it sent none. It is not checked yet.

    *headers* are the values of all headers of this name. They take precedence over the offered
    *subprotocols*, and these over the *parameter* of the query. Several values in one of these
    places make a text that is no valid session: they are joined with commas (RFC 9110, section
    5.3).
    """
    if headers:
        return ",".join(headers)
    offered = [each for each in subprotocols if each.startswith(SESSION_PREFIX)]
    if offered:
        return ",".join(each.removeprefix(SESSION_PREFIX) for each in offered)
    return parameter
