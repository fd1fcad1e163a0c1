"""Compute the keys of names anew: names that look alike have the same key now.

Of two accounts that look alike, both stay. The older one has the key, and the other one a key that
no name has: its owner signs in with the name as it is spelled, and joins with a number. The output
names such accounts, and those whose names are not valid any more. A name that is not valid stays
until it is changed.
"""

import sys
from typing import Any

from django.db import migrations

from broadcast_server.protocol.names import validate_name
from django_site.accounts.name_key import MAX_KEY_CHARS, stored_key


def compute_keys(apps: Any, schema_editor: Any) -> None:
    accounts = apps.get_model("accounts", "Account").objects.order_by("pk")
    owners: dict[str, tuple[int, str]] = {}
    found = [
        (pk, name, key, stored_key(name))
        for pk, name, key in accounts.values_list("pk", "username", "key").iterator()
    ]
    for pk, name, _, key in found:
        owners.setdefault(key, (pk, name))
        try:
            validate_name(name)
        except ValueError as error:
            report(f"account {pk} ({name!r}): {error}; rename it if you like")
    changed = []
    for pk, name, before, key in found:
        owner, owner_name = owners[key]
        if owner != pk:
            report(
                f"account {pk} ({name!r}) looks like account {owner} ({owner_name!r}): it signs in"
                " with exactly this name, and joins rooms with a number; rename it if you like"
            )
            key = f"{key[: MAX_KEY_CHARS - 24]}:{pk}"  # no name has a colon in its key
        if key != before:
            changed.append((pk, key))
    for pk, _ in changed:  # the new key of one may be the old one of another
        accounts.filter(pk=pk).update(key=f":{pk}")
    for pk, key in changed:
        accounts.filter(pk=pk).update(key=key)


def report(line: str) -> None:
    print(f"\n  {line}", file=sys.stderr, end="")


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0002_attempts"),
    ]

    operations = [
        migrations.RunPython(compute_keys, migrations.RunPython.noop, elidable=False),
    ]
