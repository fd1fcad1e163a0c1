"""The log upgrade: turns a log file of an earlier version into one of this version.

Version 1 has sessions in clear. A session is a secret of its client, so version 2 has a digest in
its place. Changing the rows is not enough: SQLite leaves what it replaced in unused parts of the
file. So the file is written anew as well. Both steps may be interrupted, and the next start
continues with them.

Version 3 has the modes of rooms. A program that does not know them would open a locked room.
"""

from __future__ import annotations

import secrets
import sqlite3

from broadcast_server.protocol.session_key import KEY_BYTES, SessionKey

from .log_room_modes import create_room_modes


def upgrade(base: sqlite3.Connection, version: int) -> None:
    """Upgrade a file of *version*, within a transaction of the caller."""
    if version < 2:
        _replace_sessions(base)
    create_room_modes(base)


def _replace_sessions(base: sqlite3.Connection) -> None:
    """Replace the sessions in the file by digests."""
    key = SessionKey(raw := secrets.token_bytes(KEY_BYTES))

    def id_scope(source: bytes) -> str | bytes:
        try:
            text = source.decode()
        except UnicodeDecodeError:  # damage, which is found when its room is read
            return b""
        return text if text[:1] == "#" else key.digest(text)  # "#": random, without a session

    base.execute("CREATE TABLE session_key (key BLOB NOT NULL, clean INTEGER NOT NULL)")
    base.execute("INSERT INTO session_key VALUES (?, 0)", (raw,))
    base.create_function("id_scope", 1, id_scope, deterministic=True)
    # As bytes, because a text that is not UTF-8 could not be passed to the function.
    base.execute(
        "UPDATE message SET source = id_scope(CAST(source AS BLOB)) WHERE typeof(source) = 'text'"
    )


def rewrite_file(base: sqlite3.Connection) -> None:
    """Write the file anew, so that nothing of the sessions is left in it or in its journal."""
    base.execute("VACUUM")
    base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    base.execute("UPDATE session_key SET clean = 1")
