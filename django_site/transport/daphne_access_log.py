"""Daphne's access log, which is none of Python's loggers: in JSON, and without any secrets.

Verified with Daphne 4.2.3.
"""

from __future__ import annotations

import logging
from typing import Any

from daphne.access import AccessLogGenerator

from broadcast_server.server.log_format import formatter
from django_site.configuration.secret_addresses import hide_secrets


def write_access_log_as_json() -> None:
    """Write each line of Daphne's access log as the log's JSON, from now on."""
    AccessLogGenerator.write_entry = _write_json


def hide_in_access_log() -> None:
    """Hide secrets in what Daphne writes about each request, from now on."""
    write_entry = AccessLogGenerator.write_entry

    def write_hidden(self: Any, host: Any, date: Any, request: str, **options: Any) -> None:
        write_entry(self, host, date, hide_secrets(request), **options)

    AccessLogGenerator.write_entry = write_hidden


def _write_json(
    self: Any,
    host: str,
    date: object,
    request: str,
    status: int | None = None,
    length: int | None = None,
    **_: object,
) -> None:
    text = f'{host} "{request}" {status or "-"} {length or "-"}'
    fields = {"client": host, "request": request, "status": status, "bytes": length}
    record = logging.LogRecord(AccessLogGenerator.__module__, logging.INFO, "", 0, text, None, None)
    record.fields = {name: value for name, value in fields.items() if value is not None}
    self.stream.write(formatter("json").format(record) + "\n")
