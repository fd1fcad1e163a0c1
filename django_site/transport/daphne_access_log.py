"""Daphne's access log, which is none of Python's loggers: without the secrets in addresses.

Verified with Daphne 4.2.3.
"""

from __future__ import annotations

from typing import Any

from daphne.access import AccessLogGenerator

from django_site.configuration.secret_addresses import hide_secrets


def hide_in_access_log() -> None:
    """Hide secrets in what Daphne writes about each request, from now on."""
    write_entry = AccessLogGenerator.write_entry

    def write_hidden(self: Any, host: Any, date: Any, request: str, **options: Any) -> None:
        write_entry(self, host, date, hide_secrets(request), **options)

    AccessLogGenerator.write_entry = write_hidden
