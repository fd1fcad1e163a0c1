"""An account is called an account, also in the names of its permissions."""

from typing import Any

from django.db import migrations

ACTIONS = "add", "change", "delete", "view"


def rename_permissions(apps: Any, editor: Any) -> None:
    permissions = apps.get_model("auth", "Permission").objects.using(editor.connection.alias)
    for action in ACTIONS:
        named = permissions.filter(content_type__app_label="accounts", codename=f"{action}_account")
        named.update(name=f"Can {action} account")


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0003_name_keys"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="account",
            options={"verbose_name": "account", "verbose_name_plural": "accounts"},
        ),
        migrations.RunPython(rename_permissions, migrations.RunPython.noop, elidable=True),
    ]
