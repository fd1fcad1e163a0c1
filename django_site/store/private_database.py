"""The private database: an SQLite file of the site that only its owner can read.

It holds every message. Django creates it as the umask says, wherever it first connects: in a
server, in `manage.py migrate` or in any other command.

SQLite cannot know that another file was put in its place, or none. It goes on with the old one,
which nobody finds again, and the journal that it leaves beside the new one damages that. So this
process uses one file per path, and neither connects nor logs a message when it is another.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import OperationalError, connection
from django.db.backends.signals import connection_created

from broadcast_server.console.private_file import make_sqlite_private

logger = logging.getLogger(__name__)

_identities: dict[Path, tuple[int, int]] = {}
"""The device and inode of the file that this process has first connected to, by its path."""


def report_access() -> None:
    """Make a file that exists already private, and log if that was needed."""
    file = _file_of(connection)
    if file is not None:
        with suppress(OSError):  # what is wrong with it is said by whoever opens it
            if access := make_sqlite_private(file):
                logger.warning("the database %s %s", file, access)


def watch() -> None:
    """From now on, make the file of each new connection private, and accept no other there."""
    connection_created.connect(_connected)


def _connected(connection: Any, **_: object) -> None:
    file = _file_of(connection)
    if file is not None:
        with suppress(OSError):
            make_sqlite_private(file)
    try:
        check_in_place(connection)
    except OperationalError:
        connection.close()  # Django would go on to use it, although this handler has failed
        raise


def check_in_place(connection: Any) -> None:
    """Raise OperationalError if the SQLite file of *connection* was replaced or removed."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or ":memory:" in name or "mode=memory" in name:
        return
    path = Path(name)
    try:
        found = path.stat()
        identity = found.st_dev, found.st_ino
    except FileNotFoundError:
        identity = 0, 0
    if _identities.setdefault(path, identity) != identity:
        what = "replaced" if any(identity) else "removed"
        raise OperationalError(
            f"the file {path} was {what} while the site was using it (stop the site, and restore it"
            " as docs/deploy.md says)"
        )


def _file_of(connection: Any) -> Path | None:
    """Return the SQLite file of a connection, None if it has none."""
    if connection.vendor != "sqlite":
        return None
    name = str(connection.settings_dict["NAME"])
    return None if not os.path.lexists(name) else Path(os.path.realpath(name))
