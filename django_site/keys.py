"""The key of a name, as a column holds it: what is unique in a name, whoever has it."""

from __future__ import annotations

import hashlib

from broadcast_server.names import name_key

KEY = 200
"""So many characters of a key fit into its column."""


def stored_key(name: str) -> str:
    """Return the key of *name*, or a digest of it: it may be 18 times as long as the name."""
    key = name_key(name)
    return key if len(key) <= KEY else hashlib.sha256(key.encode()).hexdigest()
