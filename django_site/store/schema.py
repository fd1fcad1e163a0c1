"""The schema: at the start, the site's own SQLite file is migrated, any other database checked."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from django.conf import settings
from django.core.checks import CheckMessage
from django.core.checks import Error as Failure
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from django_site.configuration.startup_failure import FINAL, PASSING, end_start

from . import epochs, private_database


def prepare_database() -> None:
    """Migrate or check the database. Raises StartupFailure if it is not ready.

    It does so in a thread, since uvicorn imports the application in its event loop if it has
    several workers, and Django refuses to use the database there.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_prepare).result()


def report_outage(error: Exception) -> NoReturn:
    """Say why the database cannot be used, and which variable names it. Raises StartupFailure."""
    end_start(_describe_outage(error), FINAL if settings.EMBEDDED else PASSING)


def check_database(
    app_configs: object, databases: Collection[str] | None = None, **_: object
) -> list[CheckMessage]:
    """Report to `manage.py check --database default` that the database cannot be used."""
    if not databases or connection.alias not in databases:
        return []
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        return [Failure(_describe_outage(error), id="django_site.E001")]
    return []


def _describe_outage(error: Exception) -> str:
    reason = " ".join(str(error).split())
    if settings.EMBEDDED:
        file = settings.DATABASES["default"]["NAME"]
        return f"the database {file} cannot be used: {reason} (BROADCAST_DATA moves it)"
    return f"the database does not answer: {reason} (start it, or set DATABASE_URL)"


def _prepare() -> None:
    private_database.report_access()
    try:
        if settings.EMBEDDED:
            call_command("migrate", interactive=False, verbosity=0)
        else:
            _check_migrations()
        epochs.end_if_restored()
    except DatabaseError as error:
        report_outage(error)
    finally:
        connection.close()


def _check_migrations() -> None:
    try:
        executor = MigrationExecutor(connection)
    except ImproperlyConfigured as error:  # its library is not installed
        end_start(f"DATABASE_URL: {error}")
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{each.app_label}.{each.name}" for each, _ in missing)
        end_start(f"{len(missing)} migrations are not applied ({names}): python manage.py migrate")
