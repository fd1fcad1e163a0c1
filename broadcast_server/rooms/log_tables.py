"""The log tables: what a log file consists of, and how it is made or upgraded."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .message_log import LogFileError

SCHEMA_VERSION = 2
"""The version of the tables. A file with a later version is not opened."""

APPLICATION_ID = 0x62636C67
"""Identifies the file as ours, also to file(1): the ASCII characters "bclg"."""

SCHEMA = """
CREATE TABLE state (secret BLOB NOT NULL, boot TEXT NOT NULL, safe INTEGER NOT NULL);
CREATE TABLE room (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE message (
    room TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, id TEXT, source TEXT NOT NULL,
    PRIMARY KEY (room, seq)
) WITHOUT ROWID;
CREATE TABLE session_key (key BLOB NOT NULL, clean INTEGER NOT NULL);
"""
"""The tables. In `message`, `source` is the id scope. In `room`, `epoch` is not read. In `state`,
`boot` is the boot of the machine in which the file was last open, the mark of the marker, and the
phase, with spaces between them (see `log_state`); `safe` is 1 if a power cut cannot take any of its
messages. In `session_key`, `clean` is 0 while unused parts of the file may have sessions in clear,
as in version 1."""

TABLE_QUERIES = (
    "SELECT secret, boot, safe FROM state LIMIT 0",
    "SELECT name, epoch, head FROM room LIMIT 0",
    "SELECT room, seq, name, text, at, id, source FROM message LIMIT 0",
)
"""They fail if a table or a column is missing."""


def prepare_tables(base: sqlite3.Connection, shown: Path) -> bool:
    """Make or upgrade the tables, within a transaction of the caller. Return whether it is new.

    Raises `LogFileError` with the name *shown* if the file has a later version, sqlite3.Error.
    """
    (version,) = base.execute("PRAGMA user_version").fetchone()
    (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version > SCHEMA_VERSION:
        raise LogFileError(
            f"log file {shown} has version {version}, this program knows versions up to"
            f" {SCHEMA_VERSION}: update this program, or name another file"
        )
    if not tables:
        base.execute(f"PRAGMA application_id={APPLICATION_ID}")
        base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in filter(str.strip, SCHEMA.split(";")):
            base.execute(statement)
    for query in TABLE_QUERIES:
        base.execute(query)
    if tables and version < SCHEMA_VERSION:
        from .log_upgrade import upgrade

        upgrade(base)
        base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    return not tables
