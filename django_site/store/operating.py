"""Operating: carries out what operators do in a room, in one transaction with its record.

`broadcast_server.rooms.operator_acts` does the same for the standalone server. An act is a row that
every replica reads, with the number of the message that it follows: so everyone gets it at the same
place among the messages. Each act changes the version of the roster, since a process publishes
without looking further as long as that is the version it knows. All functions block.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from django.db import transaction
from django.db.models import F

from broadcast_server.protocol.messages import Error
from broadcast_server.protocol.names import validate_name
from broadcast_server.protocol.operators import (
    BAN,
    HIDE,
    REPORT,
    OperatorEvent,
    OperatorRequest,
    event_of,
    validate_topic,
)
from broadcast_server.rooms.hiding import nothing_found
from broadcast_server.rooms.operator_acts import MAX_COMPARED_NAMES
from broadcast_server.rooms.room_control import KICKED, not_operator
from django_site import models
from django_site.accounts.models import Account
from django_site.accounts.name_key import stored_key

from . import banning, hiding, presence, rejections, reports, restrictions
from .kept_names import kept_in
from .message_log import escape_nul, unescape_nul
from .operators import is_operator, missing_permission
from .records import record
from .senders import last_message

KEPT_ACTS = 1000
"""How many acts of a room are kept for replicas that have not read them."""

WORDS = {
    ("mute", False): "unmute",
    ("lock", False): "unlock",
    ("announce", False): "end announce",
}
"""What a record calls an act that ends something."""


class OperateAttempt(NamedTuple):
    """A member that asks for an act: its connection's id, and the request."""

    connection_id: str
    request: OperatorRequest


class LoggedAct(NamedTuple):
    """Act number *number* of a room, which comes after message number *after*."""

    number: int
    after: int
    event: OperatorEvent


class _Refused(Exception):
    """An act is not possible, for the reason that *error* says."""

    def __init__(self, error: Error) -> None:
        self.error = error


def operate(room: int, attempts: Sequence[OperateAttempt]) -> list[OperatorEvent | Error | None]:
    """Carry out *attempts* in one transaction, and return the answer to each.

    That is None for an act that everyone is told of, the event if nothing has changed, or an error.
    """
    with transaction.atomic():
        row = models.Room.objects.select_for_update().get(pk=room)
        return [_attempt(row, each) for each in attempts]


def _attempt(room: models.Room, attempt: OperateAttempt) -> OperatorEvent | Error | None:
    request = attempt.request
    here = models.Member.objects.filter(room=room, token=attempt.connection_id, end_code=None)
    member = here.select_related("account").first()
    if member is None:
        return rejections.PROCESS_LOST.error
    if request.act == REPORT:
        return reports.report(room, member, request)
    if member.account is None or not is_operator(member.account):
        return not_operator(request, has_accounts=True)
    if missing := missing_permission(member.account, request.act):
        text = f"{request.act} needs the permission to {missing}: ask an administrator for it"
        return Error("not_operator", text, request.id)
    return carry_out(room, request, member.name, member.account)


def carry_out(
    room: models.Room, request: OperatorRequest, by_name: str, by: Account, reason: str = ""
) -> OperatorEvent | Error | None:
    """Carry out *request* of *by*, who is called *by_name*, in *room*, which is locked.

    Returns what `operate` does for an attempt. The caller notifies the replicas.
    """
    if request.id is not None and len(escape_nul(request.id)) > models.MAX_ID_CHARS:
        return rejections.BAD_ID.error
    try:
        done, is_new = _carry_out(room, request, by)
    except _Refused as refused:
        return refused.error
    event = event_of(done, by_name)
    if not is_new:
        return event
    _log_act(room, event)
    if done.act != BAN:  # which has a record for each thing that is banned
        record(by, WORDS.get((done.act, done.on), done.act), _subject(room, done), reason)
    return None


def _subject(room: models.Room, done: OperatorRequest) -> str:
    """Return what a record says of the subject of an act."""
    if done.act == "slow":
        return f"room {room.name}, one message in {done.seconds} s"
    if done.act == HIDE:
        count = "1 message" if done.messages == 1 else f"{done.messages} messages"
        what = f"message {done.seq}" if done.seq else count
        return f"{what} of {done.name} in room {room.name}"
    about = done.name or done.text
    return f"{about} in room {room.name}" if about else f"room {room.name}"


def _log_act(room: models.Room, event: OperatorEvent) -> None:
    room.acts += 1
    models.Act.objects.create(
        room=room,
        number=room.acts,
        after=room.head,
        act=event.act,
        by=event.by,
        name=event.name,
        on=event.on,
        text=_written_text(event),
        client_id=None if event.id is None else escape_nul(event.id),
    )
    models.Act.objects.filter(room=room, number__lte=room.acts - KEPT_ACTS).delete()
    models.Room.objects.filter(pk=room.pk).update(acts=room.acts, roster=F("roster") + 1)


def read_acts(room: int, after: int, upto: int) -> list[LoggedAct]:
    """Return the acts after number *after*, up to number *upto*.

    Raises `models.Room.DoesNotExist` if some of them are not kept any more.
    """
    rows = models.Act.objects.filter(room=room, number__gt=after, number__lte=upto)
    acts = [LoggedAct(row.number, row.after, _read_act(row)) for row in rows.order_by("number")]
    if len(acts) != upto - after:
        raise models.Room.DoesNotExist
    return acts


def _written_text(event: OperatorEvent) -> str:
    """Return what the text of a row of *event* is: numbers, if the act has any."""
    match event.act:
        case "slow":
            return str(event.seconds)
        case "hide":
            return f"{event.seq} {event.messages}"
        case "topic":
            return event.text
    return ""


def _read_act(row: models.Act) -> OperatorEvent:
    id = None if row.client_id is None else unescape_nul(row.client_id)
    event = OperatorEvent(row.act, row.by, row.name, row.on, "", id)
    match row.act:
        case "slow":
            return event._replace(seconds=int(row.text or 0))
        case "hide":
            seq, messages = map(int, row.text.split())
            return event._replace(seq=seq, messages=messages)
    return event._replace(text=row.text)


def _carry_out(
    room: models.Room, request: OperatorRequest, by: Account
) -> tuple[OperatorRequest, bool]:
    """Return *request* with what was meant, and whether it has changed anything."""
    match request.act:
        case "kick":
            return _kick(room, request)
        case "mute":
            return _mute(room, request)
        case "lock":
            return request, _set(room, "locked", request.on)
        case "announce":
            return request, _set(room, "announce", request.on)
        case "hide":
            return _hide(room, request)
        case "ban":
            return _ban(room, request, by)
        case "slow":
            is_new = _set(room, "slow", request.seconds)
            if is_new:
                models.Pace.objects.filter(room=room).delete()
            return request, is_new
    try:
        topic = validate_topic(request.text)
    except ValueError as error:
        raise _Refused(Error("bad_topic", str(error), request.id)) from None
    return request._replace(text=topic), _set(room, "topic", topic)


def _set(room: models.Room, field: str, value: object) -> bool:
    if getattr(room, field) == value:
        return False
    setattr(room, field, value)
    room.save(update_fields=[field])
    return True


def _hide(room: models.Room, request: OperatorRequest) -> tuple[OperatorRequest, bool]:
    if not request.seq:
        _validate(request)
    done = hiding.hide(room, request)
    if done is None:
        raise _Refused(nothing_found(request))
    return done, done.messages > 0


def _ban(room: models.Room, request: OperatorRequest, by: Account) -> tuple[OperatorRequest, bool]:
    reason = banning.clean_reason(request.text)
    if len(reason) > reports.MAX_REASON_CHARS:
        raise _Refused(reports.too_long(reason, request.id))
    found: models.Member | models.KeptName | models.Message | None = None
    if request.seq:
        messages = models.Message.objects.filter(room=room, seq=request.seq)
        found = messages.select_related("account").first()
    else:
        member, kept = _find(room, request)
        found = member or kept or last_message(room, request.name)
    if found is None:
        raise _Refused(nothing_found(request) if request.seq else _not_here(room, request))
    target = banning.target_of(found)
    _refuse_operator(request, target.name, target.account)
    if not banning.ban(room, target, by, reason):
        text = f"nothing is known of {target.name} that others here do not share: kick it instead"
        raise _Refused(Error("not_distinct", text, request.id))
    return request._replace(name=target.name), True


def _validate(request: OperatorRequest) -> str:
    """Return the name in *request*. Raises if it is invalid."""
    try:
        return validate_name(request.name)
    except ValueError as error:
        raise _Refused(Error("bad_name", str(error), request.id)) from None


def _kick(room: models.Room, request: OperatorRequest) -> tuple[OperatorRequest, bool]:
    member, kept = _find(room, request)
    if member is None:
        if kept is None:
            raise _Refused(_not_here(room, request))
        restrictions.restrict(room, "kick", restrictions.kept_keys(kept))
        kept.delete()
        return request._replace(name=kept.name), True
    is_alone = not _shares_address(member)
    restrictions.restrict(room, "kick", restrictions.member_keys(member, with_address=is_alone))
    present = models.Member.objects.filter(room=room)
    gone = present.filter(pk=member.pk)
    if is_alone and member.address and member.account_id is None:
        gone |= present.filter(name="", account=None, address=member.address)
    presence.remove_in(gone, KICKED)
    return request._replace(name=member.name), True


def _mute(room: models.Room, request: OperatorRequest) -> tuple[OperatorRequest, bool]:
    member, kept = _find(room, request)
    if not request.on:
        return _unmute(room, request, member, kept)
    if member is not None:
        is_alone = not _shares_address(member)
        keys = restrictions.member_keys(member, with_address=is_alone)
        is_new = restrictions.restrict(room, "mute", keys) and not member.muted
        models.Member.objects.filter(pk=member.pk).update(muted=True)
        return request._replace(name=member.name), is_new
    if kept is None:
        raise _Refused(_not_here(room, request))
    is_new = restrictions.restrict(room, "mute", restrictions.kept_keys(kept))
    return request._replace(name=kept.name), is_new


def _unmute(
    room: models.Room,
    request: OperatorRequest,
    member: models.Member | None,
    kept: models.KeptName | None,
) -> tuple[OperatorRequest, bool]:
    keys = {stored_key(request.name)}
    if member is not None:
        keys |= restrictions.member_keys(member, with_address=True)
        request = request._replace(name=member.name)
    elif kept is not None:
        keys |= restrictions.kept_keys(kept)
        request = request._replace(name=kept.name)
    was_muted = restrictions.lift(room, "mute", keys)
    for each in models.Member.objects.filter(room=room, muted=True):
        known = restrictions.member_keys(each, with_address=True)
        is_meant = member is not None and each.pk == member.pk
        if is_meant or restrictions.find(room, "mute", known) is None:
            was_muted = was_muted or is_meant
            models.Member.objects.filter(pk=each.pk).update(muted=False)
    if not was_muted and member is None:
        raise _Refused(_not_here(room, request))
    return request, was_muted


def _find(
    room: models.Room, request: OperatorRequest
) -> tuple[models.Member | None, models.KeptName | None]:
    """Find who is meant: a member, or one whose name is kept. Raises if that is an operator."""
    key = stored_key(_validate(request))
    here = models.Member.objects.filter(room=room, key=key, end_code=None)
    member = here.select_related("account").first()
    if member is None:
        return None, kept_in(room).filter(key=key).first()
    if request.act != "mute" or request.on:
        _refuse_operator(request, member.name, member.account)
    return member, None


def _refuse_operator(request: OperatorRequest, name: str, account: Account | None) -> None:
    if is_operator(account):
        verb = {"kick": "kicked", "mute": "muted", BAN: "banned"}[request.act]
        text = f"{name} is an operator, who cannot be {verb}"
        raise _Refused(Error("is_operator", text, request.id))


def _shares_address(member: models.Member) -> bool:
    """Tell whether another member, or one that comes back, has the address of *member*."""
    if not member.address:
        return True
    others = models.Member.objects.filter(room=member.room_id, address=member.address)
    others = others.filter(end_code=None).exclude(name="").exclude(pk=member.pk)
    kept = kept_in(member.room).filter(address=member.address).exclude(session=member.session or "")
    return others.exists() or kept.exists()


def _not_here(room: models.Room, request: OperatorRequest) -> Error:
    present = models.Member.objects.filter(room=room, end_code=None).exclude(name="")
    by_key = dict(present.values_list("key", "name")[:MAX_COMPARED_NAMES])
    nearest = get_close_matches(stored_key(request.name), by_key, 1)
    remedy = f" (do you mean {by_key[nearest[0]]}?)" if nearest else ""
    return Error("not_here", f"nobody here has the name {request.name}{remedy}", request.id)
