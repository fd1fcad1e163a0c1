"""Wait limits: how long a process that serves clients waits for PostgreSQL, and PostgreSQL for it.

A process that stands still in a transaction holds the row of a room locked, and a database that
stands still answers nothing, while the connection between them is intact. Neither may stop those
that run. SQLite needs no such limits, except that nothing ends the transaction of a process that
stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from django.db.backends.signals import connection_created

IDLE_IN_TRANSACTION_S = 5
"""Seconds after which PostgreSQL ends the session of a process that does nothing in a transaction.
What the process wanted to write is tried again, when it runs again."""

LOCK_S = 2
"""Seconds for which a statement waits for a lock. All rooms of a process share a connection: the
others have their turn before it is tried again."""

STATEMENT_S = 20
"""Seconds that a statement may take."""

ANSWER_S = 25.0
"""Seconds without the end of a statement after which the process gives the connection up. It is
more than `STATEMENT_S`: a database that runs says why a statement has ended."""

SESSION_SETTINGS = {
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
    "lock_timeout": f"{LOCK_S}s",
    "statement_timeout": f"{STATEMENT_S}s",
    # For an answer that a process which stands still does not take; nothing on a Unix socket.
    "tcp_user_timeout": "20s",
}

Steps = Generator[int, int, Any]
"""A step by step operation of psycopg: it yields what it waits for, and is sent what is ready."""


def limit_waits() -> None:
    """Apply the limits to every connection that this process opens from now on."""
    connection_created.connect(_limit_connection)


def _limit_connection(connection: Any, **_: Any) -> None:
    if connection.vendor != "postgresql":
        return
    raw = connection.connection
    if hasattr(raw, "wait"):  # psycopg 2 waits in its library
        raw.wait = _limit_wait(raw.wait, raw.close, connection.Database.OperationalError)
    calls = ", ".join(["set_config(%s, %s, false)"] * len(SESSION_SETTINGS))
    values = [each for pair in SESSION_SETTINGS.items() for each in pair]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {calls}", values)


def _limit_wait(
    wait: Callable[..., Any], close: Callable[[], object], error: type[Exception]
) -> Callable[..., Any]:
    """Return psycopg's *wait* with a limit, beyond which it closes the connection and fails."""

    def until(deadline: float, steps: Steps) -> Steps:
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    close()
                    raise error(f"no answer for {ANSWER_S:g} seconds")
                wanted = steps.send(ready)
        except StopIteration as end:
            return end.value

    def wait_within_limit(steps: Steps, *arguments: Any, **options: Any) -> Any:
        return wait(until(time.monotonic() + ANSWER_S, steps), *arguments, **options)

    return wait_within_limit
