"""The health check: whether a connection that was kept still works, which Django asks PostgreSQL.

Django asks before each use in a thread, that is, for each transaction of a room. Under load that
was every second transaction, or every third one if several processes publish in the room.
"""

from __future__ import annotations

import time
from typing import Any

from django.db.backends.signals import connection_created

CHECK_INTERVAL_S = 0.1
"""Seconds for which a connection counts as working after it was opened or checked. If it is cut in
that time, the statement fails, as one does that is under way: a room tries it again, on a new
connection, and Django checks each connection that had an error."""


def limit_checks() -> None:
    """Check no connection, of those that are opened from now on, more often than that."""
    connection_created.connect(_limit_checks, dispatch_uid=__name__)


def _limit_checks(connection: Any, **_: Any) -> None:
    if connection.vendor != "postgresql":
        return
    check = type(connection).close_if_health_check_failed
    checked_at = time.monotonic()

    def check_if_due() -> None:
        nonlocal checked_at
        if connection.health_check_done:
            return
        now = time.monotonic()
        if now - checked_at < CHECK_INTERVAL_S:
            # Else it would be due later in this use, where it could begin a transaction.
            connection.health_check_done = True
            return
        checked_at = now
        check(connection)

    connection.close_if_health_check_failed = check_if_due
