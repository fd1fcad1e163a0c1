"""The schema: at the start, the site's own SQLite file is migrated, any other database checked."""

from __future__ import annotations

import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from . import private_database


def prepare_database() -> None:
    """Migrate or check the database. Raises SystemExit with what to do if it is not ready."""
    private_database.report_access()
    if settings.EMBEDDED:
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            file = settings.DATABASES["default"]["NAME"]
            sys.exit(f"the database {file} cannot be used: {error} (BROADCAST_DATA moves it)")
    else:
        try:
            executor = MigrationExecutor(connection)
        except ImproperlyConfigured as error:  # its library is not installed
            sys.exit(f"DATABASE_URL: {' '.join(str(error).split())}")
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            sys.exit(f"the database does not answer: {reason} (start it, or set DATABASE_URL)")
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            names = ", ".join(f"{each.app_label}.{each.name}" for each, _ in missing)
            sys.exit(
                f"{len(missing)} migrations are not applied ({names}): python manage.py migrate"
            )
    connection.close()
