"""The log tables: what a log file consists of, and how it is made or upgraded."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from .log_room_modes import create_room_modes
from .message_log import LogFileError

SCHEMA_VERSION = 3
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
`boot` is the boot of the machine in which the file was last open, the mark of the marker, the
phase, and the time of the marker, with spaces between them (see `log_state`); `safe` is 1 if a
power cut cannot take any of its messages. In `session_key`, `clean` is 0 while unused parts of the
file may have sessions in clear, as in version 1."""

TABLES = frozenset(
    {"state", "room", "message", "session_key", "kept_name", "room_mode", "slow_mode", "mute"}
)
"""All tables. For `kept_name` see `log_kept_names`, for `room_mode` and `slow_mode`
`log_room_modes`, for `mute` `log_mutes`."""

COMPUTING_WORDS = frozenset({"as", "check", "default", "virtual", "references"})
"""A table whose definition has none of these words computes nothing:
https://www.sqlite.org/lang_createtable.html."""

PLAIN_INDEX = re.compile(
    r"create index [\w\"]+ on [\w\"]+ ?\([\w\", ]+\)", re.IGNORECASE | re.ASCII
)
"""An index that somebody else added. It computes nothing and deletes no rows."""

TABLE_QUERIES = (
    "SELECT secret, boot, safe FROM state LIMIT 0",
    "SELECT name, epoch, head FROM room LIMIT 0",
    "SELECT room, seq, name, text, at, id, source FROM message LIMIT 0",
)
"""They fail if a table or a column is missing."""


def find_foreign(base: sqlite3.Connection) -> str:
    """Return the name of a table of ours that has another's definition, "" if there is none.

    SQLite runs what a view, a trigger or a computed column in a file says, which may never end.
    Raises sqlite3.Error.
    """
    rows = base.execute("SELECT type, tbl_name, sql FROM sqlite_master").fetchall()
    for kind, table, sql in rows:
        if str(table).lower() not in TABLES or (kind == "index" and sql is None):
            continue
        text = " ".join(str(sql).split())
        if kind == "index" and PLAIN_INDEX.fullmatch(text):
            continue
        if kind != "table" or not COMPUTING_WORDS.isdisjoint(re.findall(r"\w+", text.lower())):
            return str(table).lower()
    return ""


def check_tables(base: sqlite3.Connection, shown: Path) -> None:
    """Raise `LogFileError` with the name *shown* if a table is not ours, sqlite3.Error."""
    if table := find_foreign(base):
        raise LogFileError(
            f"log file {shown} has a view, a trigger or another definition that computes at"
            f" table {table}: name another file"
        )


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
    check_tables(base, shown)
    if not tables:
        base.execute(f"PRAGMA application_id={APPLICATION_ID}")
        base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        for statement in filter(str.strip, SCHEMA.split(";")):
            base.execute(statement)
        create_room_modes(base)
    for query in TABLE_QUERIES:
        base.execute(query)
    if tables and version < SCHEMA_VERSION:
        from .log_upgrade import upgrade

        upgrade(base, version)
        base.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    return not tables
