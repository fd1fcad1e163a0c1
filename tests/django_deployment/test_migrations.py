"""The migrations: processes of the version before go on while they are applied and afterwards."""

from __future__ import annotations

import django_client  # noqa: F401  # it sets Django up

# isort: split

from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterField,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation

BASE = {"accounts": "0003", "django_site": "0008"}
"""The migrations of which rows are known to be as they should; what follows is checked."""


def breaks_older_processes(operation: Operation) -> bool:
    """Tell whether a process that does not know of *operation* could not read or insert any more.

    It names the columns that it knows, so others need a value from the database.
    """
    if isinstance(operation, AddField):
        return not (operation.field.null or operation.field.has_db_default())
    kinds = (AlterField, DeleteModel, RemoveField, RenameField, RenameModel)
    return isinstance(operation, kinds)


def test_an_older_process_goes_on_beside_a_newer_one() -> None:
    """Each column that was added has a value of its own, and none was removed or renamed."""
    migrations = MigrationLoader(None).disk_migrations
    checked = [
        (app, name, operation)
        for (app, name), migration in migrations.items()
        if app in BASE and name[:4] > BASE[app]
        for operation in migration.operations
    ]
    assert len(checked) > 20
    assert not [each for each in checked if breaks_older_processes(each[2])]
