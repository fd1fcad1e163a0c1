"""Damage: a row that the site cannot have written, because another program has.

SQLite stores a value of any type in any column, and bytes that are no UTF-8 as text. A room that
has such a row is closed to everyone, with one line in the log, and the other rooms go on. It is
an error of its own, so that it is not taken for a database that does not answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from django.db import DataError, OperationalError, connection

from broadcast_server.protocol.bounds import MAX_SEQ

Given = ParamSpec("Given")
Result = TypeVar("Result")


class DamagedRow(DataError):
    """A row has a value that the site cannot have written. The text says where."""


def finds_damage(read: Callable[Given, Result]) -> Callable[Given, Result]:
    """Have *read*, which asks the database, raise `DamagedRow` for a text that is no UTF-8."""

    @functools.wraps(read)
    def translated(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return read(*args, **kwargs)
        except OperationalError as error:
            if "decode to UTF-8" not in str(error):
                raise
            raise DamagedRow("a text in the database is not UTF-8") from None

    return translated


def check_room(room: object, columns: Iterable[str], counters: Iterable[object]) -> None:
    """Raise `DamagedRow` if one of the *counters* of *room*, which stand in *columns*, is none."""
    for name, value in zip(columns, counters, strict=True):
        if type(value) is not int or not 0 <= value <= MAX_SEQ:
            raise DamagedRow(f"{name} of room {room} is not a number from 0 to {MAX_SEQ}")


def check_messages(room: int, rows: Iterable[tuple[object, ...]]) -> None:
    """Raise `DamagedRow` if a value in *rows* has another type than its column.

    Only SQLite has such values. The rows are those of `message_log.read`.
    """
    if connection.vendor != "sqlite":
        return
    for row in rows:
        match row:
            case [int(), str(), str(), str(), str(), str(), (None | int())]:
                pass
            case _:
                raise DamagedRow(f"a message of room number {room} has a value of the wrong type")
