"""The session key in a log file, by which its clients are recognised after a restart."""

from __future__ import annotations

import secrets
import sqlite3

from broadcast_server.protocol.session_key import KEY_BYTES

from .log_rows import fetch_rows


def read_session_key(base: sqlite3.Connection) -> tuple[bytes, bool]:
    """Return the key, and whether the file is clean of sessions. Make a key if there is none."""
    match fetch_rows(base, "SELECT key, clean FROM session_key"):
        case [(bytes() as key, int() as clean)] if len(key) == KEY_BYTES:
            return key, bool(clean)
    key = secrets.token_bytes(KEY_BYTES)  # for a new file, or after damage
    base.execute("DELETE FROM session_key")
    base.execute("INSERT INTO session_key VALUES (?, 1)", (key,))
    return key, True
