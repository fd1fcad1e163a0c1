"""Presence: who is in a room, across all processes.

A member is a row, whose name and session the database keeps unique. Each change
of a room's members moves its roster's version on, by which every process sees
that it has to look again. A process that was not seen for a while has died, and
anyone may take its members out. Every function here blocks, and is called in a
thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import CharField, F, Q, QuerySet, Value
from django.db.models.functions import Cast, Concat, Now

from broadcast_server.entry import Entry
from broadcast_server.protocol import CloseCode, Error, Renamed

from . import bell, ends, models
from .accounts.models import Account
from .ends import End, Refused
from .keys import stored_key
from .roll import Roll

DEAD: float = settings.BROADCAST_DEAD
"""Seconds without a sign of life after which the members of a process are taken out."""

BEAT = DEAD / 4
"""Seconds between two signs of life."""


@dataclass(frozen=True, slots=True)
class Present:
    """A member as everyone sees it: its row, name, which connection it is, and if verified.

    Who only listens has no name, and nobody sees it.
    """

    id: int
    name: str
    token: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Someone who wants to come in: what it asks for, which connection it is, and whose."""

    entry: Entry
    token: str
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """Someone who is here wants another name: which connection it is, and which request."""

    token: str
    name: str
    id: str | None


def enter(room: int, process: str, newcomers: Sequence[Newcomer]) -> list[str | Refused]:
    """Let people in, in one transaction, and return each one's name, or why it cannot.

    Who has the session of one who comes is replaced by it. An account comes in under its
    own name. Refused is who is banned, and everyone if the room is closed.
    """
    names = [_wanted(each.entry, each.account) for each in newcomers]
    with transaction.atomic():
        # It may have been taken for dead, and may not have noticed yet.
        models.Process.objects.get_or_create(pk=process, defaults={"seen": Now()})
        row = models.Room.objects.select_for_update().get(pk=room)
        sessions = [each.entry.session for each in newcomers]
        accounts = [each.account.pk for each in newcomers if each.account is not None]
        roll = Roll(row, filter(None, names), sessions, accounts)
        found = [_enter(roll, process, each) for each in newcomers]
        roll.write()
        models.Room.objects.filter(pk=room).update(roster=F("roster") + 1)
    return found


def _wanted(entry: Entry, account: Account | None) -> str:
    return entry.name if account is None else account.username


def name_of(room: models.Room, entry: Entry, account: Account | None) -> str:
    """Return the name under which someone speaks who does not come in for it.

    Raises `Refused` as for a newcomer, and for a guest with the name of an account.
    """
    name, key = _wanted(entry, account), account and account.pk
    roll = Roll(room, [name], [entry.session], [key] if key else [])
    _check(roll, entry, account)
    member = roll.ghost(entry.session)
    if member is not None and member.account_id == key:
        return member.name
    if account is None and roll.is_owned(name):
        raise Refused(ends.not_yours(name))
    return roll.free(name, account)


def count(room: models.Room) -> int:
    """Count who is here, and who only listens."""
    return models.Member.objects.filter(room=room, end_code=None).count()


def _check(roll: Roll, entry: Entry, account: Account | None) -> None:
    if roll.room.closed is not None:
        raise Refused(ends.closed(roll.room))
    if account is None and not entry.name:  # who only listens: a ban is of a name
        return
    ban = roll.ban(entry.name, account)
    if ban is not None:
        raise Refused(ends.banned(ban))


def _enter(roll: Roll, process: str, who: Newcomer) -> str | Refused:
    try:
        _check(roll, who.entry, who.account)
    except Refused as refused:
        return refused
    if not who.entry.name:
        return _let_listen(roll, process, who)
    return _replace(roll, process, who) or _add(roll, process, who)


def _let_listen(roll: Roll, process: str, who: Newcomer) -> str:
    """Note someone who has no name: whoever has to go goes by its row."""
    key = f":{who.token}"  # no name's, which have no colon
    roll.add(
        models.Member(
            room=roll.room, process_id=process, key=key, token=who.token, account=who.account
        )
    )
    return ""


def banned(ban: models.Ban) -> QuerySet[models.Member]:
    """Find whom *ban* is about of those who are here."""
    if ban.account is not None:
        here = models.Member.objects.filter(account=ban.account)
    else:  # an account answers for its name by itself
        numbers = rf"^{re.escape(ban.key)}-[0-9]+$"
        named = Q(key=ban.key) | Q(key__regex=numbers)
        here = models.Member.objects.filter(named, account=None)
    return here if ban.room is None else here.filter(room=ban.room)


def _replace(roll: Roll, process: str, who: Newcomer) -> str | None:
    ghost = roll.ghost(who.entry.session)
    if ghost is None:
        return None
    if ghost.account_id != (who.account and who.account.pk):
        _take_off(roll, ghost, ends.REPLACED)  # it has signed in meanwhile, or out
        return None
    roll.move(ghost, process, who.token)
    return ghost.name


def _add(roll: Roll, process: str, who: Newcomer) -> str:
    account = who.account
    name = _wanted(who.entry, account)
    if account is not None and roll.is_taken(name):
        roll.write()
        here = models.Member.objects.filter(room=roll.room, key=account.key)
        guest = here.exclude(account=account).first()
        if guest is not None:  # the name was free when they came, and now it is its owner's
            _take_off(roll, guest, ends.NAME_OWNED)
    name = roll.free(name, account)
    roll.add(
        models.Member(
            room=roll.room,
            process_id=process,
            key=stored_key(name),
            name=name,
            session=who.entry.session,
            token=who.token,
            account=account,
        )
    )
    return name


def _take_off(roll: Roll, member: models.Member, end: End) -> None:
    roll.write()
    _remove(models.Member.objects.filter(pk=member.pk), end)
    roll.drop(member)


def rename(room: int, wishes: Sequence[Wish]) -> list[Renamed | Error]:
    """Give those who are here other names, in one transaction, or say why not.

    Whoever got the name that it has had is to be told so: the roster shows nothing of it.
    """
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        roll = Roll(row, [each.name for each in wishes])
        found = [_rename(roll, each) for each in wishes]
        if any(isinstance(each, Renamed) and each.name != each.to for each in found):
            row.roster += 1
            row.save(update_fields=["roster"])
    return found


def _rename(roll: Roll, wish: Wish) -> Renamed | Error:
    here = models.Member.objects.filter(room=roll.room)
    member = here.filter(token=wish.token, end_code=None).first()
    if member is None:  # it will be closed
        return Error(ends.LOST_SIGHT.fault, ends.LOST_SIGHT.text, wish.id)
    before, name = member.name, wish.name
    if name == before:
        return Renamed(name, name, True if member.account_id else None)
    if member.account_id:
        return Error("name_owned", "your name is that of your account", wish.id)
    ban = roll.ban(name, None)
    if ban is not None:
        return Error("banned", ends.name_banned(name, ban), wish.id)
    if roll.is_owned(name):
        return Error("name_owned", f"{name} is the name of an account", wish.id)
    roll.give(member.key)  # its own name in another spelling is free
    member.name = roll.free(name, None)
    member.key = stored_key(member.name)
    member.save(update_fields=["name", "key"])
    roll.take(member.key)
    return Renamed(before, member.name)


def account_changed(account: Account) -> None:
    """Have its members, and who has its name without being it, come again."""
    remove(models.Member.objects.filter(account=account), ends.SIGN_IN_CHANGED)
    remove(models.Member.objects.filter(key=account.key).exclude(account=account), ends.NAME_OWNED)


def remove(members: QuerySet[models.Member], end: End) -> None:
    """Take *members* out of their rooms; their processes will close them as *end* says."""
    with transaction.atomic():
        rooms = _remove(members, end)
        transaction.on_commit(lambda: bell.ring_for(rooms))


def _remove(members: QuerySet[models.Member], end: End) -> list[int]:
    """Do so in a transaction, and return the rooms, without a ring.

    Who is about to come in rings anyway, and a layer that hangs must not hold it up.
    """
    here = members.filter(end_code=None)
    rooms = models.Room.objects.filter(members__in=here).distinct()
    locked = _lock(list(rooms.values_list("pk", flat=True)))
    # What is unique in them is free from now on; no name's key has a colon in it.
    # Who came into another room meanwhile stays: its roster would not show it.
    here.filter(room__in=locked).update(
        key=Concat(Value(":"), Cast("pk", CharField())),
        session=None,
        end_code=end.code,
        end_fault=end.fault,
        end_text=end.text,
    )
    models.Room.objects.filter(pk__in=locked).update(roster=F("roster") + 1)
    return locked


def removed(room: int, process: str) -> dict[str, End]:
    """Return whom *process* has yet to close, by their tokens, and why."""
    rows = models.Member.objects.filter(room=room, process=process).exclude(end_code=None)
    return {
        row.token: End(CloseCode(row.end_code or 0), row.end_fault, row.end_text) for row in rows
    }


def _lock(rooms: Sequence[int]) -> list[int]:
    """Lock rooms, in one order, so that two who do this never wait for each other."""
    locked = models.Room.objects.filter(pk__in=rooms).order_by("pk").select_for_update()
    return [room.pk for room in locked]


def leave(room: int, tokens: Sequence[str]) -> None:
    """Take connections out, but for those that were replaced."""
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        gone, _ = models.Member.objects.filter(room=row, token__in=tokens).delete()
        if gone:
            row.roster += 1
            row.save(update_fields=["roster"])


def present(room: int) -> tuple[Present, ...]:
    """List who is here, in the order in which they came, and who only listens."""
    rows = models.Member.objects.filter(room=room, end_code=None).order_by("pk")
    return tuple(
        Present(id, name, token, account is not None)
        for id, name, token, account in rows.values_list("pk", "name", "token", "account")
    )


def beat(process: str) -> None:
    """Note that *process* lives, and take out the members of those that do not.

    All by the database's clock, since those of machines differ.
    """
    here = models.Process.objects.filter(pk=process)
    if not here.filter(seen__gte=Now() - timedelta(seconds=DEAD / 2)).update(seen=Now()):
        # Who was away itself, with the database perhaps, cannot tell who died meanwhile.
        models.Process.objects.update_or_create(pk=process, defaults={"seen": Now()})
        return
    with transaction.atomic():
        silent = models.Process.objects.filter(seen__lt=Now() - timedelta(seconds=DEAD))
        # What another process takes out just now is left to it.
        dead = [each.pk for each in silent.select_for_update(skip_locked=True)]
        if dead:
            _take_out(dead)


def end(process: str) -> None:
    """Take *process* and all of its members out: it stops."""
    with transaction.atomic():
        _take_out([process])


def _take_out(processes: Sequence[str]) -> None:
    rooms = models.Room.objects.filter(members__process__in=processes).distinct()
    locked = _lock(list(rooms.values_list("pk", flat=True)))
    models.Room.objects.filter(pk__in=locked).update(roster=F("roster") + 1)
    models.Process.objects.filter(pk__in=processes).delete()
