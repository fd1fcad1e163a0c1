"""Presence: the members and subscribers of a room, across all processes.

Each is a row of the room's roster. The database keeps names and sessions unique. Every change of
a roster increases its version, which tells each process to read it again.

All functions block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from django.db import transaction
from django.db.models import CharField, F, QuerySet, Value
from django.db.models.functions import Cast, Concat, Now

from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import CloseCode, Error, Renamed
from broadcast_server.protocol.rejection import REPLACED, Rejection
from broadcast_server.rooms.room_control import ANNOUNCE_ONLY, KICKED, LOCKED, MUTED
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key

from . import notifier, rejections, restrictions
from .kept_names import address_digest, keep_names
from .operators import is_operator
from .origins import origin_of
from .rejections import Rejected
from .roster_batch import RosterBatch
from .silence import as_rejection


@dataclass(frozen=True, slots=True)
class Present:
    """A participant on the roster: its row, its name, its connection's id.

    *verified* is whether it joined with an account, *quiet* whether people are not told of it, and
    *muted* whether it may not publish. A subscriber has no name, and is not shown to anyone.
    """

    id: int
    name: str
    connection_id: str
    verified: bool
    quiet: bool = False
    muted: bool = False


@dataclass(frozen=True, slots=True)
class JoinAttempt:
    """A connection that asks to join: its request, its id, and its account if it has one.

    *address* is that of its client, None if it is unknown.
    """

    join: JoinRequest
    connection_id: str
    account: Account | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class RenameAttempt:
    """A member that asks for the name *name*: its connection's id, and the request's id."""

    connection_id: str
    name: str
    id: str | None


class Leaving(NamedTuple):
    """A connection to take off the roster, and whether its name is kept for its session."""

    connection_id: str
    keeps_name: bool


def join(room: int, process: str, attempts: Sequence[JoinAttempt]) -> list[str | Rejected]:
    """Put *attempts* on the roster in one transaction. Returns a name or a rejection for each.

    An attempt with the session of a member takes over that member's place. An account joins under
    its own name. Banned clients are rejected, and everyone if the room is closed. The name of a
    subscriber is empty.
    """
    names = [_requested_name(each.join, each.account) for each in attempts]
    with transaction.atomic():
        # Others may have declared this process dead and removed it, before it noticed, or may be
        # about to: they lock the process before its rooms, and so does this.
        processes = models.Process.objects.select_for_update(no_key=True)
        processes.get_or_create(pk=process, defaults={"seen": Now()})
        row = models.Room.objects.select_for_update().get(pk=room)
        sessions = [each.join.session for each in attempts]
        accounts = [each.account.pk for each in attempts if each.account is not None]
        addresses = [each.address for each in attempts]
        roster = RosterBatch(row, filter(None, names), sessions, accounts, addresses)
        results = [_join(roster, process, each) for each in attempts]
        roster.write()
        models.Room.objects.filter(pk=room).update(roster=F("roster") + 1)
    return results


def _requested_name(request: JoinRequest, account: Account | None) -> str:
    return request.name if account is None else account.username


def author_name(
    room: models.Room,
    request: JoinRequest,
    account: Account | None,
    address: str | None = None,
) -> str:
    """Return the name under which a client at *address* publishes without joining.

    Raises `Rejected` in the cases in which `join` does, and if a guest asks for the name of an
    account.
    """
    name, key = _requested_name(request, account), account and account.pk
    roster = RosterBatch(room, [name], [request.session], [key] if key else [], [address])
    _check(roster, request, account, address)
    silence = _silence_of_post(roster, request, account, address)
    if silence is not None:
        raise Rejected(as_rejection(silence))
    member = roster.member_of_session(request.session)
    if member is not None and member.account_id == key:
        return member.name
    kept_name = roster.take_kept(request.session) if account is None else None
    if kept_name is not None:  # the batch is not written, so it is still kept
        return roster.free_name(kept_name, None)
    if account is None and roster.is_owned(name):
        raise Rejected(rejections.name_owned(name))
    free = roster.free_name(name, account)
    if account is None:
        _check_kicked_names(room, free)
    return free


def count(room: models.Room) -> int:
    """Count the members and the subscribers of *room*."""
    return models.Member.objects.filter(room=room, end_code=None).count()


def _check(
    roster: RosterBatch, request: JoinRequest, account: Account | None, address: str | None
) -> None:
    if roster.room.closed is not None:
        raise Rejected(rejections.closed(roster.room))
    ban = roster.ban(request.name, account) or (
        roster.ban_of_client(request.session, address) if account is None else None
    )
    if ban is not None:
        raise Rejected(rejections.banned(ban))
    if not (roster.room.locked or roster.room.restricted) or roster.is_known(request.session):
        return
    if is_operator(account):
        return
    if roster.room.locked:
        raise Rejected(LOCKED)
    keys = restrictions.client_keys(request.session, address, account)
    if restrictions.find(roster.room, "kick", keys) is not None:
        raise Rejected(KICKED)
    if account is None and request.name:
        _check_kicked_names(roster.room, request.name)


def _check_kicked_names(room: models.Room, *names: str) -> None:
    """Raise `Rejected` if a member was kicked who had one of *names*, or a look-alike of it."""
    kick = restrictions.find(room, "kick", set().union(*map(restrictions.name_keys, names)))
    if kick is not None:
        raise Rejected(rejections.name_kicked(restrictions.seconds_left(kick)))


def _silence_of_post(
    roster: RosterBatch, request: JoinRequest, account: Account | None, address: str | None
) -> Error | None:
    """Return why a client may not publish without joining, apart from slow mode."""
    room = roster.room
    if not (room.announce or room.restricted) or is_operator(account):
        return None
    member = roster.member_of_session(request.session)
    name = request.name if member is None else member.name
    keys = restrictions.client_keys(request.session, address, account)
    keys |= restrictions.name_keys(name) if account is None else set()
    if restrictions.find(room, "mute", keys) is not None or (member and member.muted):
        return MUTED
    return ANNOUNCE_ONLY if room.announce else None


def _join(roster: RosterBatch, process: str, attempt: JoinAttempt) -> str | Rejected:
    try:
        _check(roster, attempt.join, attempt.account, attempt.address)
        if not attempt.join.name:
            return _subscribe(roster, process, attempt)
        return _take_over(roster, process, attempt) or _add_member(roster, process, attempt)
    except Rejected as rejected:
        return rejected


def _subscribe(roster: RosterBatch, process: str, attempt: JoinAttempt) -> str:
    """Add a subscriber. It needs a row too, so that a moderator or a ban can remove it."""
    roster.add(
        models.Member(
            room=roster.room,
            process_id=process,
            key=f":{attempt.connection_id}",  # no name has this key, since names contain no colon
            token=attempt.connection_id,
            address=address_digest(client_key(attempt.address)),
            origin=origin_of(attempt.address),
            account=attempt.account,
        )
    )
    return ""


def _take_over(roster: RosterBatch, process: str, attempt: JoinAttempt) -> str | None:
    """Take over the place of the same session's earlier connection, and return its name."""
    previous = roster.member_of_session(attempt.join.session)
    if previous is None:
        return None
    if previous.account_id != (attempt.account and attempt.account.pk):
        # The client has signed in or out since then, so it joins as somebody else.
        _remove_member(roster, previous, REPLACED)
        return None
    roster.take_over(previous, process, attempt.connection_id, attempt.address)
    return previous.name


def _add_member(roster: RosterBatch, process: str, attempt: JoinAttempt) -> str:
    account = attempt.account
    kept_name = roster.take_kept(attempt.join.session) if account is None else None
    name = kept_name or _requested_name(attempt.join, account)
    if account is not None and roster.is_taken(name):
        roster.write()
        guests = models.Member.objects.filter(room=roster.room, account=None)
        guest = guests.filter(key=stored_key(name)).first()
        if guest is not None:  # it joined before there was an account with its name
            _remove_member(roster, guest, rejections.NAME_OWNED)
    asked, name = name, roster.free_name(name, account)
    if name != asked and account is None:
        _check_kicked_names(roster.room, name)
    roster.add(
        models.Member(
            room=roster.room,
            process_id=process,
            key=stored_key(name),
            name=name,
            session=attempt.join.session,
            token=attempt.connection_id,
            address=address_digest(client_key(attempt.address)),
            origin=origin_of(attempt.address),
            account=account,
            quiet=attempt.join.quiet,
            muted=_is_muted(roster.room, attempt, name),
        )
    )
    return name


def _is_muted(room: models.Room, attempt: JoinAttempt, name: str) -> bool:
    if room.restricted is None or is_operator(attempt.account):
        return False
    keys = restrictions.client_keys(attempt.join.session, attempt.address, attempt.account)
    keys |= restrictions.name_keys(name) if attempt.account is None else set()
    return restrictions.find(room, "mute", keys) is not None


def _remove_member(roster: RosterBatch, member: models.Member, rejection: Rejection) -> None:
    roster.write()
    remove_in(models.Member.objects.filter(pk=member.pk), rejection)
    roster.remove(member)


def rename(room: int, attempts: Sequence[RenameAttempt]) -> list[Renamed | Error]:
    """Rename members in one transaction. Returns for each its old and new name, or an error.

    A member that asked for the name it has is in the result, but not in the roster's changes:
    the caller has to tell it.
    """
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        roster = RosterBatch(row, [each.name for each in attempts])
        results = [_rename(roster, each) for each in attempts]
        if any(isinstance(each, Renamed) and each.name != each.to for each in results):
            row.roster += 1
            row.save(update_fields=["roster"])
    return results


def _rename(roster: RosterBatch, attempt: RenameAttempt) -> Renamed | Error:
    present = models.Member.objects.filter(room=roster.room)
    member = present.filter(token=attempt.connection_id, end_code=None).first()
    if member is None:  # it was removed, and its process is about to close it
        return replace(rejections.PROCESS_LOST.error, id=attempt.id)
    before, name = member.name, attempt.name
    if name == before:
        return Renamed(name, name, True if member.account_id else None)
    if member.account_id:
        return Error("name_owned", "your name is that of your account", attempt.id)
    ban = roster.ban(name, None)
    if ban is not None:
        return Error("banned", rejections.name_banned(name, ban), attempt.id)
    if roster.is_owned(name):
        return Error("name_owned", f"{name} is the name of an account", attempt.id)
    roster.release_key(member.key)  # a member may have its own name in another spelling
    free = roster.free_name(name, None)
    try:
        _check_kicked_names(roster.room, name, free)
    except Rejected as rejected:
        roster.take_key(member.key)
        return replace(rejected.rejection.error, id=attempt.id)
    known = restrictions.member_keys(member, with_address=True)
    member.name, member.key = free, stored_key(free)
    if member.muted:
        restrictions.add_name(roster.room, known, member.name)
    elif restrictions.find(roster.room, "mute", restrictions.name_keys(member.name)) is not None:
        member.muted = True
    member.save(update_fields=["name", "key", "muted"])
    roster.take_key(member.key)
    return Renamed(before, member.name)


def account_changed(account: Account) -> None:
    """Close the connections of *account*, and of guests that have its name: they reconnect."""
    remove(models.Member.objects.filter(account=account), rejections.SIGN_IN_CHANGED)
    remove(
        models.Member.objects.filter(key=account.key).exclude(account=account),
        rejections.NAME_OWNED,
    )


def remove(members: QuerySet[models.Member], rejection: Rejection) -> None:
    """Remove *members* from their rooms. Their processes close them with *rejection*."""
    with transaction.atomic():
        rooms = remove_in(members, rejection)
        transaction.on_commit(lambda: notifier.notify_rooms(rooms))


def remove_in(members: QuerySet[models.Member], rejection: Rejection) -> list[int]:
    """Remove *members* within a transaction, and return the rooms, which the caller notifies.

    When a client joins, its replica notifies the others anyway, and must not wait for a channel
    layer that does not answer.
    """
    removed = members.filter(end_code=None)
    rooms = models.Room.objects.filter(members__in=removed).distinct()
    locked = lock_rooms(list(rooms.values_list("pk", flat=True)))
    # Names and sessions become free at once; no name has such a key, since names contain no
    # colon. A client that joined a room which is not locked stays: the version of that room's
    # roster does not change, so nobody would read it again.
    removed.filter(room__in=locked).update(
        key=Concat(Value(":"), Cast("pk", CharField())),
        session=None,
        end_code=rejection.code,
        end_fault=rejection.error.code,
        end_text=rejection.text,
    )
    models.Room.objects.filter(pk__in=locked).update(roster=F("roster") + 1)
    return locked


def read_removed(room: int, process: str) -> dict[str, Rejection]:
    """Return why *process* has to close connections that were removed, by their ids."""
    rows = models.Member.objects.filter(room=room, process=process).exclude(end_code=None)
    return {
        row.token: Rejection(CloseCode(row.end_code or 0), Error(row.end_fault, row.end_text))
        for row in rows
    }


def lock_rooms(rooms: Sequence[int]) -> list[int]:
    """Lock *rooms*, always in the same order, so that two transactions cannot deadlock."""
    locked = models.Room.objects.filter(pk__in=rooms).order_by("pk").select_for_update()
    return [room.pk for room in locked]


def leave(room: int, leaving: Sequence[Leaving]) -> None:
    """Take connections off the roster. A connection that was taken over has no row any more."""
    keeping = [each.connection_id for each in leaving if each.keeps_name]
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        if keeping:
            keep_names([room], models.Member.objects.filter(token__in=keeping))
        connection_ids = [each.connection_id for each in leaving]
        deleted, _ = models.Member.objects.filter(room=row, token__in=connection_ids).delete()
        if deleted:
            row.roster += 1
            row.save(update_fields=["roster"])


def read_present(room: int) -> tuple[Present, ...]:
    """Read the roster: members and subscribers, in the order in which they joined."""
    rows = models.Member.objects.filter(room=room, end_code=None).order_by("pk")
    columns = rows.values_list("pk", "name", "token", "account", "quiet", "muted")
    return tuple(
        Present(id, name, connection_id, account is not None, quiet, muted)
        for id, name, connection_id, account, quiet, muted in columns
    )
