"""The lists of the admin: a damaged row of SQLite does not hide the others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import django_client  # noqa: F401  # it sets Django up

# isort: split

import pytest
from accounts_client import account, browser_of
from django.contrib.admin import site
from django.db import connection
from django.db.models import BooleanField, Model
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from django_site.accounts.models import Account, Token
from django_site.models import Ban, Member, Message, Process, Record, Report, Room

_numbers = itertools.count(1)

BAD = {
    "CharField": "CAST(x'80' AS TEXT)",
    "TextField": "CAST(x'80' AS TEXT)",
    "EmailField": "x'ff'",
    "DateTimeField": "x'ff'",
}
"""A value by the kind of a column; for others it is a text."""


@pytest.fixture(scope="module")
def root() -> Client:
    """A browser in which an account with all permissions is signed in."""
    owner = account()
    Account.objects.filter(pk=owner.pk).update(is_staff=True, is_superuser=True)
    return browser_of(Account.objects.get(pk=owner.pk))


def new_room() -> Room:
    """Create a room."""
    return Room.objects.create(name=f"damaged-list-{next(_numbers)}")


def new_message() -> Message:
    """Create a message in a room of its own."""
    room, number = new_room(), next(_numbers)
    return Message.objects.create(
        room=room, seq=1, name="bob", text="hi", at=now(), source="s", client_id=f"{number}"
    )


def new_member() -> Member:
    """Create a member in a room of its own."""
    process, _ = Process.objects.get_or_create(id="test", defaults={"seen": now()})
    token = f"t{next(_numbers)}"
    return Member.objects.create(room=new_room(), process=process, key="k", name="b", token=token)


MAKERS: dict[type[Model], Callable[[], Model]] = {
    Room: new_room,
    Message: new_message,
    Member: new_member,
    Report: lambda: Report.objects.create(message=new_message(), reporter="r", by="ann"),
    Ban: lambda: Ban.objects.create(name="eve", until=now()),
    Record: lambda: Record.objects.create(by_name="ann", action="hide", subject="s"),
    Account: account,
    Token: lambda: Token.objects.create(account=account(), label="x", digest=f"{next(_numbers)}"),
}
"""How a row of each list is made."""


def columns(table: type[Model]) -> list[Any]:
    """Return the columns of *table* that may hold anything: no key is among them."""
    fields = table._meta.concrete_fields
    return [each for each in fields if not (each.primary_key or each.is_relation)]


def write(table: type[Model], column: str, value: str, values: list[Any]) -> None:
    """Write SQL into a *column* of a row, whose key is the last of *values*."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints=ON")
        statement = f'UPDATE "{table._meta.db_table}" SET "{column}" = {value} WHERE id = %s'
        cursor.execute(statement, values)
        cursor.execute("PRAGMA ignore_check_constraints=OFF")


@pytest.mark.parametrize("table", MAKERS, ids=lambda table: table.__name__)
def test_a_damaged_row_does_not_hide_the_others(
    table: type[Model], root: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever column is damaged, the others are listed, and a line says that one is not."""
    if table in (Account, Room):
        # They are sorted by name, so a damaged one would be behind all that other tests of this
        # process have left. All other lists begin with what is new.
        monkeypatch.setattr(type(site.get_model_admin(table)), "list_per_page", 10_000)
    view = f"admin:{table._meta.app_label}_{table._meta.model_name}"
    rows = [MAKERS[table]() for _ in range(3)]
    key = rows[1].pk
    act = f"{view}_hide" if table is Message else None
    try:
        for field in columns(table):
            if isinstance(field, BooleanField):  # any other value is false to Python's SQLite
                continue
            bad = BAD.get(field.get_internal_type(), "'x'")
            good = field.get_db_prep_save(getattr(rows[1], field.attname), connection)
            write(table, field.column, bad, [key])
            try:
                page = root.get(reverse(f"{view}_changelist"))
                change = root.get(reverse(f"{view}_change", args=[key]))
                acting = root.get(reverse(act), {"pk": key}) if act else change
            finally:
                write(table, field.column, "%s", [good, key])
            assert page.status_code == 200, field.name
            assert {change.status_code, acting.status_code} <= {302, 404}, field.name
            text = page.content.decode()
            listed = [f"/{row.pk}/change/" in text for row in rows]
            # A report is open unless it has been handled, and a member is here unless it has an
            # end code, whatever is in the column then.
            assert listed == [True, False, True], field.name
            has_told = "cannot be shown, as the database is damaged" in text
            assert has_told or field.name in ("handled", "end_code"), field.name
    finally:
        for row in rows:
            row.delete()
