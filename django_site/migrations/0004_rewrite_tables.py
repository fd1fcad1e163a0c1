"""Writes the SQLite file anew, since unused parts of it still have the sessions in clear.

In PostgreSQL the rows that were replaced disappear with the next VACUUM of the tables.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations


def rewrite(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "sqlite":
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("django_site", "0003_session_digests")]

    operations = [migrations.RunPython(rewrite, migrations.RunPython.noop)]
