"""Silence: which messages are not published, because of a mute, announce mode or slow mode.

It is decided in the transaction that logs the messages, with the room locked. All methods block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q
from django.utils.timezone import now

from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.rooms.room_control import ANNOUNCE_ONLY, MUTED
from broadcast_server.rooms.slow_mode import SlowMode, too_soon
from django_site import models
from django_site.accounts.name_key import stored_key

from .kept_names import address_digest
from .operators import find_operators
from .restrictions import name_keys


@dataclass(frozen=True, slots=True)
class Silenced:
    """A message of a member was not published, for the reason that *error* says."""

    error: Error


class Author(NamedTuple):
    """A member as the roster has it now, or a client that posts, which has not *joined*.

    *address* is a digest.
    """

    name: str
    muted: bool
    account: int | None
    session: str | None
    address: str
    joined: datetime | None
    connection_id: str


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
        self._slow_mode = SlowMode()
        self._new: dict[str, str] = {}  # the addresses by the keys of who has published now
        if room.slow:
            self._read(self._authors.values())

    def of_member(self, connection_id: str) -> Error | None:
        """Return why a member may not publish, None if it may: then it has to wait for the next."""
        author = self._authors[connection_id]
        if author.account in self._operators:
            return None
        if author.muted:
            return MUTED
        return ANNOUNCE_ONLY if self._room.announce else self._take_turn(author)

    def of_post(
        self, name: str, account: int | None, session: str | None, address: str | None
    ) -> Error | None:
        """Return why a client that posts as *name* has to wait, None if it may publish now."""
        if not self._room.slow or account in self._operators:
            return None
        digest = address_digest(client_key(address))
        author = Author(name, False, account, session, digest, None, "")
        self._read([author])
        return self._take_turn(author)

    def write(self) -> None:
        """Write who has published now, and delete who need not wait any longer."""
        if not self._new:
            return
        rows = models.Pace.objects.filter(room=self._room)
        rows.filter(at__lt=self._now - timedelta(seconds=self._room.slow)).delete()
        rows.bulk_create(
            (
                models.Pace(room=self._room, key=key, at=self._now, address=address)
                for key, address in self._new.items()
            ),
            update_conflicts=True,
            unique_fields=["room", "key"],
            update_fields=["at", "address"],
        )

    def _read(self, authors: Iterable[Author]) -> None:
        """Read when these have published, and others from the same addresses."""
        keys, addresses = set[str](), set[str]()
        for author in authors:
            keys.update(_keys(author))
            addresses.add(author.address if author.account is None else "")
        known = Q(key__in=keys - self._new.keys())
        begin = self._now - timedelta(seconds=self._room.slow)
        known |= Q(address__in=addresses - {""}, at__gt=begin) & ~Q(key__in=self._new)
        rows = models.Pace.objects.filter(known, room=self._room).order_by("at")
        for key, at, address in rows.values_list("key", "at", "address"):
            self._slow_mode.note(at.timestamp(), [key], address)

    def _take_turn(self, author: Author) -> Error | None:
        seconds = self._room.slow
        if not seconds:
            return None
        keys, moment = _keys(author), self._now.timestamp()
        address = author.address if author.account is None else ""
        begin = self._now - timedelta(seconds=seconds)
        is_new = author.joined is None or author.joined > begin
        wait = self._slow_mode.wait(
            keys,
            address if is_new else "",
            seconds=seconds,
            now=moment,
            count_members=lambda: self._count_members(address),
        )
        if wait > 0:
            return too_soon(seconds, wait)
        self._slow_mode.note(moment, keys, address)
        self._new.update({key: address if key == keys[0] else "" for key in keys})
        return None

    def _count_members(self, address: str) -> int:
        present = models.Member.objects.filter(room=self._room, end_code=None, address=address)
        return present.exclude(name="").count()


def _keys(author: Author) -> list[str]:
    """Return by what an author is known; the first of them stands for it."""
    if author.account is not None:
        return [f":account:{author.account}"]
    if author.session:
        return [f":session:{author.session}", *name_keys(author.name)]
    connection = [f":connection:{author.connection_id}"] if author.connection_id else []
    return [*connection, stored_key(author.name)]


def read_authors(room: int, connection_ids: Iterable[str]) -> Mapping[str, Author]:
    """Return those of these connections that are members now, by their ids.

    A connection has a new id each time, so nobody else is found by it: neither a member that has
    the name now, nor the same client on another connection.
    """
    wanted = set(connection_ids)
    if not wanted:
        return {}
    here = models.Member.objects.filter(room=room, token__in=wanted, end_code=None)
    rows = here.values_list("name", "muted", "account", "session", "address", "joined", "token")
    return {row[-1]: Author(*row) for row in rows}
