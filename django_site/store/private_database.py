"""The private database: an SQLite file of the site that only its owner can read.

It holds every message. Django creates it as the umask says, wherever it first connects: in a
server, in `manage.py migrate` or in any other command.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connection
from django.db.backends.signals import connection_created

from broadcast_server.console.private_file import make_sqlite_private

logger = logging.getLogger(__name__)


def report_access() -> None:
    """Make a file that exists already private, and log if that was needed."""
    file = _file_of(connection)
    if file is not None:
        with suppress(OSError):  # what is wrong with it is said by whoever opens it
            if access := make_sqlite_private(file):
                logger.warning("the database %s %s", file, access)


def watch() -> None:
    """From now on, make the file of each new connection private."""
    connection_created.connect(_connected)


def _connected(connection: Any, **_: object) -> None:
    file = _file_of(connection)
    if file is not None:
        with suppress(OSError):
            make_sqlite_private(file)


def _file_of(connection: Any) -> Path | None:
    """Return the SQLite file of a connection, None if it has none."""
    if connection.vendor != "sqlite":
        return None
    name = str(connection.settings_dict["NAME"])
    return None if not os.path.lexists(name) else Path(os.path.realpath(name))
