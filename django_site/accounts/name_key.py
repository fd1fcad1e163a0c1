"""The key of a name as it is stored: it is the same for all spellings of the name."""

from __future__ import annotations

import hashlib
import re

from broadcast_server.protocol.names import name_key

MAX_KEY_CHARS = 200
"""How many characters of a key fit into its column."""

MIN_SHORTENED_CHARS = 24
"""How many characters a name has at least if it was shortened for its number."""

# A number at the end of a key, where 0 and 1 are letters, and what is left of one.
_NUMBER = re.compile(" *[\u30fc-][ \u30fc-]*(?:[lo]|\\d)*$")


def stored_key(name: str) -> str:
    """Return the key of *name*, or a digest if it is too long: it may have 18 times its length."""
    return _fit(name_key(name))


def family_keys(name: str) -> tuple[list[str], list[str]]:
    """Return the keys of which a ban applies to *name*, and beginnings of further ones.

    The keys are those of *name* without any, one, two ... of the numbers at its end: the server
    adds one to a name that is taken, so a client that asks for ``bob`` may be called ``bob-2``. For
    its number, a long name is shortened.
    """
    keys = [name_key(name)]
    while (base := _NUMBER.sub("", keys[-1])) not in ("", keys[-1]):
        keys.append(base)
    beginnings = keys[1:] if len(name) >= MIN_SHORTENED_CHARS else []
    return [_fit(key) for key in keys], beginnings


def _fit(key: str) -> str:
    return key if len(key) <= MAX_KEY_CHARS else hashlib.sha256(key.encode()).hexdigest()
