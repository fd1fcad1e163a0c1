"""The command `migrate`: Django's own, for one process at a time, and with errors in words."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import Error as DatabaseError
from django.db import connection

from django_site.store.migration_lock import migration_lock
from django_site.store.schema import report_outage


class Command(migrate.Command):
    """Creates and changes the tables of the site."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate the database, when no other process does."""
        try:
            connection.ensure_connection()  # before its checks, which would say so in many lines
            with migration_lock():
                super().handle(*args, **options)
        except DatabaseError as error:
            report_outage(error)
