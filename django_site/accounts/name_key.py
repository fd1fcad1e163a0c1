"""The key of a name as it is stored: it is the same for all spellings of the name."""

from __future__ import annotations

import hashlib

from broadcast_server.protocol.names import name_key

MAX_KEY_CHARS = 200
"""How many characters of a key fit into its column."""


def stored_key(name: str) -> str:
    """Return the key of *name*, or a digest if it is too long: it may have 18 times its length."""
    key = name_key(name)
    return key if len(key) <= MAX_KEY_CHARS else hashlib.sha256(key.encode()).hexdigest()
