"""The roll: what one transaction has to know of a room to let people in, read in bulk.

To ask the database for each of a crowd whether it is banned, whose session it has and
whether its name is free takes ten queries each, and everyone waits for them: the room is
locked. So it is asked once for all of them, who comes in is kept here, and `write` puts
them into the table together. What was not foreseen is asked when it is needed. It is
true as long as the room's lock is held. It blocks, and does not decide who comes in.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from broadcast_server.names import numbered

from . import models
from .accounts.models import Account
from .keys import stored_key

AHEAD = 64
"""So many suffixes are looked up at once: a crowd of one name needs as many."""


class Roll:
    """The members of *room*, which is locked, as far as they concern who is foreseen."""

    def __init__(
        self,
        room: models.Room,
        names: Iterable[str],
        sessions: Iterable[str | None] = (),
        accounts: Iterable[int] = (),
    ) -> None:
        self.room = room
        self._here = models.Member.objects.filter(room=room)
        # By their keys: those that were asked for, and what was found of them.
        self._asked: set[str] = set()
        self._taken: set[str] = set()
        self._freed: set[str] = set()  # since, whatever the table says
        self._owners: dict[str, int] = {}
        self._bans: dict[str, models.Ban] = {}
        self._all = False  # whether all that are taken were asked for
        self._numbers: dict[str, int] = {}  # where the search for a suffix goes on
        self._new: list[models.Member] = []
        self._moved: dict[int, models.Member] = {}
        self._look_up(key for name in names for key in _ban_keys(name))
        known = {each for each in sessions if each is not None}
        ghosts = self._here.filter(session__in=known) if known else ()
        self._sessions = {ghost.session: ghost for ghost in ghosts}
        signed_in = set(accounts)
        bans = bans_in(room).filter(account__in=signed_in).order_by("until") if signed_in else ()
        self._banned = {ban.account_id: ban for ban in bans}  # the longest is the last

    # -- what it says --

    def ban(self, name: str, account: Account | None) -> models.Ban | None:
        """Return the longest ban that *account* is under, or without one who asks for *name*."""
        if account is not None:
            return self._banned.get(account.pk)
        keys = _ban_keys(name)
        self._look_up(keys)
        found = [self._bans[key] for key in keys if key in self._bans]
        return max(found, key=lambda ban: ban.until, default=None)

    def ghost(self, session: str | None) -> models.Member | None:
        """Return the member that has *session*."""
        return self._sessions.get(session) if session is not None else None

    def is_taken(self, name: str) -> bool:
        """Tell whether someone here has *name*."""
        key = stored_key(name)
        self._look_up([key])
        return key in self._taken

    def is_owned(self, name: str) -> bool:
        """Tell whether *name* is an account's."""
        key = stored_key(name)
        self._look_up([key])
        return key in self._owners

    def free(self, name: str, account: Account | None) -> str:
        """Return *name*, or with the next suffix that is free.

        Free is what nobody here has, nor an account that may yet come, and for a guest what
        is not banned: else a ban of bob-2 would be over as soon as who asked for bob comes
        again.
        """
        base = stored_key(name)
        self._look_up([base])
        if self._is_free(base, account):
            return name
        if not self._all:
            self._take(self._here)
            self._all = True
        number = self._numbers.get(base, 2)
        while not self._is_free_ahead(name, number, account):
            number += 1
        self._numbers[base] = number + 1
        return numbered(name, number)

    def _is_free_ahead(self, name: str, number: int, account: Account | None) -> bool:
        key = stored_key(numbered(name, number))
        if key in self._taken:
            return False
        if key not in self._asked:
            ahead = range(number, number + AHEAD)
            self._look_up(stored_key(numbered(name, each)) for each in ahead)
        return self._is_free(key, account)

    def _is_free(self, key: str, account: Account | None) -> bool:
        owner = self._owners.get(key)
        if key in self._taken or (owner is not None and (account is None or owner != account.pk)):
            return False
        return account is not None or key not in self._bans

    def _look_up(self, keys: Iterable[str]) -> None:
        new = set(keys) - self._asked
        if not new:
            return
        self._asked |= new
        if not self._all:
            self._take(self._here.filter(key__in=new))
        owners = Account.objects.filter(key__in=new)
        self._owners.update(owners.values_list("key", "pk"))
        for ban in bans_in(self.room).filter(key__in=new).order_by("until"):
            self._bans[ban.key] = ban

    def _take(self, members: QuerySet[models.Member]) -> None:
        self._taken |= set(members.values_list("key", flat=True)) - self._freed

    # -- what happens --

    def add(self, member: models.Member) -> None:
        """Put *member*, who has come in, on the roll."""
        self._new.append(member)
        self.take(member.key)
        if member.session is not None:
            self._sessions[member.session] = member

    def move(self, member: models.Member, process: str, token: str) -> None:
        """Give the place of *member* to a newer connection of its session."""
        member.process_id, member.token = process, token
        if member.pk is not None:
            self._moved[member.pk] = member

    def drop(self, member: models.Member) -> None:
        """Take *member*, who has to go, off the roll, and free its name and session."""
        self.give(member.key)
        self._sessions.pop(member.session, None)

    def take(self, key: str) -> None:
        """Note that the name of *key* is someone's now."""
        self._taken.add(key)
        self._freed.discard(key)

    def give(self, key: str) -> None:
        """Note that the name of *key* is nobody's now."""
        self._taken.discard(key)
        self._freed.add(key)

    def write(self) -> None:
        """Put who has come into the table."""
        models.Member.objects.bulk_create(self._new)
        models.Member.objects.bulk_update(self._moved.values(), ["process", "token"])
        self._new.clear()
        self._moved.clear()


def bans_in(room: models.Room) -> QuerySet[models.Ban]:
    """Find the bans that are in force in *room*."""
    bans = models.Ban.objects.filter(Q(room=room) | Q(room=None))
    return bans.filter(until__gt=Now(), lifted=None)


def _ban_keys(name: str) -> list[str]:
    """Return the keys whose bans are about who asks for *name*."""
    # It may come to be called bob-2, so a ban of bob is of bob-2 as well.
    base, _, number = name.rpartition("-")
    return [stored_key(each) for each in ([name, base] if number.isdecimal() and base else [name])]
