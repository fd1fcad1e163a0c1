"""Drop an index: the two constraints of a message have indexes that begin with the room as well."""

from __future__ import annotations

from django.db import migrations, models

NAME = "django_site_message_room_id_0914a5c1"


class Migration(migrations.Migration):
    """Without it, an insert takes less, and PostgreSQL cannot take it in place of a better one."""

    dependencies = [("django_site", "0010_moderation")]
    operations = [
        # Django would rewrite the whole table in SQLite.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX IF EXISTS {NAME}",
                    f"CREATE INDEX {NAME} ON django_site_message (room_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "message",
                    "room",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=models.CASCADE,
                        related_name="messages",
                        to="django_site.room",
                    ),
                )
            ],
        )
    ]
