"""Silence: which messages are not published, because of a mute, announce mode or slow mode.

It is decided in the transaction that logs the messages, with the room locked. All methods block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from django.utils.timezone import now

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.rooms.room_control import ANNOUNCE_ONLY, MUTED
from django_site import models
from django_site.accounts.name_key import stored_key

from .operators import find_operators


@dataclass(frozen=True, slots=True)
class Silenced:
    """A message of a member was not published, for the reason that *error* says."""

    error: Error


class Author(NamedTuple):
    """A member as the roster has it now."""

    name: str
    muted: bool
    account: int | None
    session: str | None
    connection_id: str


def slow_mode(room: models.Room, seconds: float) -> Error:
    """Return the error for an author who has to wait for *seconds*."""
    text = f"slow mode: one message in {room.slow} s here, wait {ceil(seconds)} s"
    return Error("slow_mode", text)


def as_rejection(error: Error) -> Rejection:
    """Return *error* as the rejection of a message that a client posts."""
    return Rejection(CloseCode.REMOVED, error)


class Silence:
    """Decides who may publish in *room*, which is locked; *authors* are the members among them."""

    def __init__(self, room: models.Room, authors: Iterable[Author], posting: set[int]) -> None:
        self._room = room
        self._authors = {each.connection_id: each for each in authors}
        accounts = {each.account for each in self._authors.values() if each.account is not None}
        self._operators = find_operators(accounts | posting)
        self._now = now()
        self._last: dict[str, datetime] = {}
        self._new: dict[str, datetime] = {}
        if room.slow:
            keys = {key for each in self._authors.values() for key in _keys(each)}
            self._read(keys)

    def of_member(self, connection_id: str) -> Error | None:
        """Return why a member may not publish, None if it may: then it has to wait for the next."""
        author = self._authors[connection_id]
        if author.account in self._operators:
            return None
        if author.muted:
            return MUTED
        return ANNOUNCE_ONLY if self._room.announce else self._take(_keys(author))

    def of_post(self, name: str, account: int | None, session: str | None) -> Error | None:
        """Return why a client that posts as *name* has to wait, None if it may publish now."""
        if not self._room.slow or account in self._operators:
            return None
        keys = _keys(Author(name, False, account, session, ""))
        self._read(keys)
        return self._take(keys)

    def write(self) -> None:
        """Write who has published now, and delete who need not wait any longer."""
        if not self._new:
            return
        rows = models.Pace.objects.filter(room=self._room)
        rows.filter(at__lt=self._now - timedelta(seconds=self._room.slow)).delete()
        rows.bulk_create(
            (models.Pace(room=self._room, key=key, at=at) for key, at in self._new.items()),
            update_conflicts=True,
            unique_fields=["room", "key"],
            update_fields=["at"],
        )

    def _read(self, keys: set[str]) -> None:
        rows = models.Pace.objects.filter(room=self._room, key__in=keys - self._last.keys())
        self._last.update(rows.values_list("key", "at"))

    def _take(self, keys: set[str]) -> Error | None:
        if not self._room.slow:
            return None
        end = self._now - timedelta(seconds=self._room.slow)
        left = [(self._last[key] - end).total_seconds() for key in keys if key in self._last]
        if max(left, default=0) > 0:
            return slow_mode(self._room, min(max(left), self._room.slow))
        self._new.update(dict.fromkeys(keys, self._now))
        self._last.update(self._new)
        return None


def _keys(author: Author) -> set[str]:
    """Return by what an author is known: an account, a session, or connection and name."""
    if author.account is not None:
        return {f":account:{author.account}"}
    if author.session:
        return {f":session:{author.session}"}
    found = {stored_key(author.name)}
    return found | {f":connection:{author.connection_id}"} if author.connection_id else found


def read_authors(room: int, connection_ids: Iterable[str]) -> Mapping[str, Author]:
    """Return those of these connections that are members now, by their ids.

    A connection has a new id each time, so nobody else is found by it: neither a member that has
    the name now, nor the same client on another connection.
    """
    wanted = set(connection_ids)
    if not wanted:
        return {}
    here = models.Member.objects.filter(room=room, token__in=wanted, end_code=None)
    rows = here.values_list("name", "muted", "account", "session", "token")
    return {row[-1]: Author(*row) for row in rows}
