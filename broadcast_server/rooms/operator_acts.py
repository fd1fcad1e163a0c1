"""Operator acts: carries out what an operator of a room asks for, and says who is told of it.

Everyone in the room gets an event for each act, in order with the messages around it. An act that
changes nothing is answered to the operator alone.
"""

from __future__ import annotations

from typing import Protocol

from broadcast_server.protocol.messages import Error, Members
from broadcast_server.protocol.names import name_key, validate_name
from broadcast_server.protocol.operators import BAN, OperatorRequest, event_of, validate_topic
from broadcast_server.protocol.rejection import Rejection

from .actions import Action, NoteAct, Send
from .name_table import NameTable
from .participant import Participant
from .restrictions import Identity
from .room_control import KICKED, RoomControl, identity_of
from .room_mode import MAX_ROOM_MODES

MAX_COMPARED_NAMES = 1000
"""Among how many names the nearest to an unknown one is looked for."""


class OperatedRoom(Protocol):
    """What is needed of a `Room`."""

    control: RoomControl
    names: NameTable

    def members(self) -> tuple[Participant, ...]:
        """Return the members."""

    def subscribers(self) -> tuple[Participant, ...]:
        """Return the subscribers."""

    def list_members(self) -> Members:
        """Return the answer to a `MembersRequest`."""

    def kick(self, participant: Participant, rejection: Rejection) -> list[Action]:
        """Close *participant* with *rejection*."""


def operate(room: OperatedRoom, operator: Participant, request: OperatorRequest) -> list[Action]:
    """Carry out *request* of *operator*, and return what follows from it."""
    if request.act == BAN:
        text = "this server has no bans: kick keeps somebody out for 10 minutes"
        return [Send(operator, Error("no_bans", text, request.id))]
    if request.act in ("kick", "mute"):
        return _act_on_member(room, operator, request)
    mode = room.control.mode
    match request.act:
        case "lock":
            mode = mode._replace(locked=request.on)
        case "announce":
            mode = mode._replace(announce=request.on)
        case "slow":
            mode = mode._replace(slow=request.seconds)
        case _:
            try:
                mode = mode._replace(topic=validate_topic(request.text))
            except ValueError as error:
                return [Send(operator, Error("bad_topic", str(error), request.id))]
            request = request._replace(text=mode.topic)
    is_new = mode != room.control.mode
    if not room.control.set_mode(mode):
        text = f"{MAX_ROOM_MODES} rooms have a topic or a mode, which is the limit: clear one first"
        return [Send(operator, Error("too_many_modes", text, request.id))]
    return _tell(operator, request, is_new=is_new)


def _tell(operator: Participant, request: OperatorRequest, *, is_new: bool) -> list[Action]:
    """Return the actions that tell everyone of an act, or *operator* alone if it is not new."""
    event = event_of(request, operator.name)
    return [Send(None, event), NoteAct(event)] if is_new else [Send(operator, event)]


def _act_on_member(
    room: OperatedRoom, operator: Participant, request: OperatorRequest
) -> list[Action]:
    try:
        name = validate_name(request.name)
    except ValueError as error:
        return [Send(operator, Error("bad_name", str(error), request.id))]
    member = room.names.owner(name)
    if member is not None and member.join.operator and (request.act == "kick" or request.on):
        verb = "kicked" if request.act == "kick" else "muted"
        text = f"{member.name} is an operator, who cannot be {verb}"
        return [Send(operator, Error("is_operator", text, request.id))]
    known = _kept_identity(room, name) if member is None else identity_of(member)
    if request.act == "mute" and not request.on:
        return _unmute(room, operator, request, known or Identity(name=name))
    if known is None:
        return [Send(operator, _not_here(room, name, request.id))]
    if _shares_address(room, known):
        known = Identity(known.id_scope, known.name)
    request = request._replace(name=known.name)
    if request.act == "mute":
        is_new = not room.control.is_muted(known)
        room.control.mute(known)
        if member is not None:
            member.is_muted = True
        return _tell(operator, request, is_new=is_new)
    room.control.kick(known)
    actions = _tell(operator, request, is_new=True)
    if member is None:
        room.names.take_kept(known.id_scope)
    else:
        actions += room.kick(member, KICKED)
    for subscriber in room.subscribers():
        is_same = subscriber.id_scope == known.id_scope
        if is_same or (known.address and subscriber.address == known.address):
            actions += [] if subscriber.join.operator else room.kick(subscriber, KICKED)
    return actions


def _kept_identity(room: OperatedRoom, name: str) -> Identity | None:
    """Return who comes back as *name*, None if it is not kept for anyone."""
    kept = room.names.kept(name)
    return None if kept is None else Identity(kept.session, kept.name, kept.address)


def _shares_address(room: OperatedRoom, client: Identity) -> bool:
    """Return whether another member, or one that comes back, has the address of *client*."""
    others = (each for each in room.members() if each.id_scope != client.id_scope)
    return any(each.address == client.address for each in others) or room.names.is_kept_at(
        client.address, but=client.id_scope
    )


def _unmute(
    room: OperatedRoom, operator: Participant, request: OperatorRequest, known: Identity
) -> list[Action]:
    is_new = room.control.unmute(known)
    for member in room.members():
        if member.is_muted:  # perhaps by the address that it shares
            room.control.joined(member)
    if not is_new and room.names.owner(known.name) is None:
        return [Send(operator, _not_here(room, known.name, request.id))]
    return _tell(operator, request._replace(name=known.name), is_new=is_new)


def _not_here(room: OperatedRoom, name: str, id: str | None) -> Error:
    from difflib import get_close_matches  # which only a mistake needs

    by_key = {name_key(each): each for each in room.list_members().members[:MAX_COMPARED_NAMES]}
    nearest = get_close_matches(name_key(name), by_key, 1)
    remedy = f" (do you mean {by_key[nearest[0]]}?)" if nearest else ""
    return Error("not_here", f"nobody here has the name {name}{remedy}", id)
