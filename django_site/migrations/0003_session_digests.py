"""Replaces the sessions of clients, which are secrets, by their digests."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from broadcast_server.protocol.session_key import DIGEST_PREFIX, SessionKey
from django_site.store.site_key import site_key

ROWS_PER_STATEMENT = 1000


def digest_sessions(apps: Any, schema_editor: Any) -> None:
    """Replace the sessions in both tables."""
    key, connection = site_key(), schema_editor.connection
    for name, column in (("Message", "source"), ("Member", "session")):
        table = apps.get_model("django_site", name)
        rows = table.objects.using(connection.alias).exclude(**{column: None}).order_by("pk")
        # Django's bulk_update takes five times as long.
        statement = f"UPDATE {table._meta.db_table} SET {column} = %s WHERE id = %s"  # noqa: S608
        last = 0
        while chunk := list(rows.filter(pk__gt=last).values_list("pk", column)[:ROWS_PER_STATEMENT]):
            with connection.cursor() as cursor:
                cursor.executemany(statement, [(_scope(stored, key), pk) for pk, stored in chunk])
            last = chunk[-1][0]


def _scope(stored: str, key: SessionKey) -> str:
    """Return the id scope for a *stored* one, which is a session unless it begins with #."""
    mark = "~" if stored.startswith("~") else ""  # the message came without an id
    session = stored.removeprefix(mark)
    if not session or session[0] in ("#", DIGEST_PREFIX):
        return stored
    return mark + key.digest(session)


class Migration(migrations.Migration):
    dependencies = [("django_site", "0002_accounts_and_moderation")]

    operations = [migrations.RunPython(digest_sessions, migrations.RunPython.noop)]
