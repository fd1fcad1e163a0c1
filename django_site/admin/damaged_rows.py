"""Damaged rows: a list in the admin shows the other ones, and says how many it leaves out.

SQLite stores a value of any type in any column, and bytes that are no UTF-8 as text. One such row
must not hide all others from a moderator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from django.db import OperationalError
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    Field,
    IntegerField,
    Model,
    QuerySet,
    TextField,
)

M = TypeVar("M", bound=Model)

TYPES: tuple[tuple[type[Field[Any, Any]], type], ...] = (
    (BooleanField, bool),
    (IntegerField, int),
    (DateTimeField, datetime),
    (CharField, str),
    (TextField, str),
)
"""What a row has in the columns of a kind, after Django has read it."""


def readable(rows: QuerySet[M], one: Callable[[object], QuerySet[M]]) -> tuple[list[M], int]:
    """Return those of *rows* that can be read, and how many cannot.

    *one* returns the row with a primary key. All rows are read in one query, unless that fails.
    """
    found: list[M | None]
    try:
        found = list(rows)
    except (OperationalError, TypeError, ValueError) as error:
        if not is_damage(error):
            raise
        found = [_read(one(key)) for key in rows.values_list("pk", flat=True)]
    whole = [row for row in found if row is not None and not is_damaged(row)]
    return whole, len(found) - len(whole)


def is_damage(error: Exception) -> bool:
    """Tell whether the database has answered with a value that Django cannot read."""
    return not isinstance(error, OperationalError) or "decode to UTF-8" in str(error)


def is_damaged(row: Model) -> bool:
    """Tell whether a value of *row*, or of a row that was read with it, is not of its type."""
    own = (
        (field, getattr(row, field.attname))
        for field in row._meta.concrete_fields
        if field.attname in row.__dict__  # else it was not read
    )
    related: Iterable[object] = row._state.fields_cache.values()
    return any(_is_wrong(*each) for each in own) or any(
        is_damaged(each) for each in related if isinstance(each, Model)
    )


def _read(rows: QuerySet[M]) -> M | None:
    try:
        return next(iter(rows), None)
    except (OperationalError, TypeError, ValueError) as error:
        if not is_damage(error):
            raise
        return None


def _is_wrong(field: Field[Any, Any], value: object) -> bool:
    if value is None:
        return not field.null
    target: Field[Any, Any] = getattr(field, "target_field", field)  # of a foreign key
    types = [type for kind, type in TYPES if isinstance(target, kind)]
    return any(type(value) is not each and not isinstance(value, each) for each in types)
