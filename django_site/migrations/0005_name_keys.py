"""Compute the keys of names anew: names that look alike have the same key now."""

from typing import Any

from django.db import migrations

from django_site.accounts.name_key import stored_key


def compute_keys(apps: Any, schema_editor: Any) -> None:
    bans = apps.get_model("django_site", "Ban").objects
    for pk, name, before in bans.exclude(name="").values_list("pk", "name", "key").iterator():
        key = stored_key(name)
        if key != before:
            bans.filter(pk=pk).update(key=key)
    # Members are connected to processes that are older than this rule. Where two of them look
    # alike, the key of the second is one that no name has, until it leaves.
    members = apps.get_model("django_site", "Member").objects
    rows = members.exclude(name="").filter(end_code=None).order_by("pk")
    found = list(rows.values_list("pk", "room_id", "name"))
    for pk, _, _ in found:  # the new key of one may be the old one of another
        members.filter(pk=pk).update(key=f":{pk}")
    taken: set[tuple[int, str]] = set()
    for pk, room, name in found:
        key = stored_key(name)
        if (room, key) not in taken:
            taken.add((room, key))
            members.filter(pk=pk).update(key=key)


class Migration(migrations.Migration):

    dependencies = [
        ("django_site", "0004_rewrite_tables"),
        ("accounts", "0003_name_keys"),
    ]

    operations = [
        migrations.RunPython(compute_keys, migrations.RunPython.noop, elidable=False),
    ]
