"""The keys of names in a database: they are computed anew when names come to look alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django_client  # noqa: F401  # it sets Django up
import pytest
from conftest import ROOT
from services import postgresql

from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key

UPGRADE = """
import json, sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils.timezone import now

executor = MigrationExecutor(connection)
executor.migrate([("accounts", "0002_attempts"), ("django_site", "0004_rewrite_tables")])
old = executor.loader.project_state(
    [("accounts", "0002_attempts"), ("django_site", "0004_rewrite_tables")]
).apps
Account = old.get_model("accounts", "Account")
for name in ("max", "rnax", "ALICE", "a, b"):
    Account.objects.create(username=name, key=name.lower(), password="!")
room = old.get_model("django_site", "Room").objects.create(name="r")
process = old.get_model("django_site", "Process").objects.create(pk="p", seen=now())
Ban = old.get_model("django_site", "Ban")
Ban.objects.create(name="Bill", key="bill", until=now())
Ban.objects.create(account=Account.objects.get(username="max"), until=now())
Member = old.get_model("django_site", "Member")
for name, key in (("bob", "bob"), ("b0b", "b0b"), ("Bill", "bill"), ("", ":token")):
    Member.objects.create(room=room, process=process, name=name, key=key, token="t")
call_command("migrate", verbosity=0)
print(json.dumps({
    "accounts": list(Account.objects.order_by("pk").values_list("username", "key")),
    "bans": list(Ban.objects.order_by("pk").values_list("name", "key")),
    "members": list(Member.objects.order_by("pk").values_list("name", "key")),
}))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        if request.param == "sqlite":
            yield f"sqlite:///{folder}/db.sqlite3"
        else:
            with postgresql(Path(folder, "postgresql"), empty=True) as address:
                yield address


def test_keys_are_computed_anew(url: str) -> None:
    """Every row gets its new key; of two that look alike both stay, and accounts are reported."""
    done = subprocess.run(
        [sys.executable, "-c", UPGRADE],
        capture_output=True,
        check=True,
        cwd=ROOT,
        encoding="utf-8",
        env={**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "django_site.settings"},
        timeout=120,
    )
    rows = json.loads(done.stdout)
    assert rows["accounts"] == [
        ["max", "rnax"],
        ["rnax", "rnax:2"],
        ["ALICE", "allce"],
        ["a, b", "a, b"],
    ]
    assert rows["bans"] == [["Bill", "blll"], ["", ""]]
    assert rows["members"] == [["bob", "bob"], ["b0b", ":2"], ["Bill", "blll"], ["", ":token"]]
    report = [line.strip() for line in done.stderr.splitlines() if "account" in line]
    assert len(report) == 2
    assert report[0].startswith("account 4 ('a, b'): name contains a comma")
    assert report[1].startswith("account 2 ('rnax') looks like account 1 ('max')")


def test_an_older_account_keeps_its_name() -> None:
    """Accounts that look alike, or whose names are not valid any more, sign in and are saved."""
    first = Account.objects.create_user("willi", password="secret")
    key = f"{stored_key('willi')}:2"
    old = [Account(username="wi11i", key=key), Account(username="x, y", key="x, y")]
    second, invalid = Account.objects.bulk_create(old)
    assert Account.objects.find("wi11i") == second
    assert {*map(Account.objects.find, ("willi", "WILLI", "wiIIi"))} == {first}
    for each in (second, invalid):
        again = Account.objects.get_by_natural_key(each.username)
        again.email = "a@example.org"
        again.full_clean(exclude=["password"])
        again.save()
        again.refresh_from_db()
        assert (again.key, again.email) == (each.key, "a@example.org")
        again.username = "y, z"
        with pytest.raises(ValueError, match="comma"):
            again.save()
