"""The query log: with ``DEBUG``, Django formats each statement and keeps 9,000 of each connection.

It forgets them when a request for a page begins in the same thread. The rooms have a thread in
which none begins, and a statement of theirs can hold a batch of hundreds of messages. Formatting
one takes a parser, which costs more than the statement itself.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.backends.signals import connection_created


def keep_no_statements() -> None:
    """Have every new connection use plain cursors, if ``DEBUG`` is on."""
    if settings.DEBUG:
        connection_created.connect(_use_plain_cursors, dispatch_uid=__name__)


def _use_plain_cursors(connection: Any, **_: object) -> None:
    connection.make_debug_cursor = connection.make_cursor
