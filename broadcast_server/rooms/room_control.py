"""Room control: what operators have decided about one room, and what follows for its clients.

The room asks it who may join and who may publish. The acts themselves are in `operator_acts`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.names import name_key
from broadcast_server.protocol.operators import REPORT, OperatorRequest
from broadcast_server.protocol.rejection import Rejection

from .participant import Participant
from .quota import Quota
from .restrictions import KICK_S, Identity, Restrictions, held_name
from .room_mode import RoomMode, RoomModes
from .slow_mode import SlowMode, too_soon

LOCKED = Rejection(
    CloseCode.REMOVED, Error("locked", "this room is locked: ask one of its operators to unlock it")
)
KICKED = Rejection(
    CloseCode.REMOVED,
    Error("kicked", f"you were kicked from this room, for {KICK_S / 60:.0f} minutes"),
)
MUTED = Error("muted", "you are muted in this room: nobody received this")
ANNOUNCE_ONLY = Error("announce_only", "only operators write in this room now: announce mode is on")


def not_operator(request: OperatorRequest, *, has_accounts: bool) -> Error:
    """Return the answer to *request* of somebody who is no operator, and how to become one."""
    how = "sign in with a moderator's account" if has_accounts else "connect with the operator key"
    return Error("not_operator", f"{request.act} is for operators of the room: {how}", request.id)


def refuse_act(
    member: Participant, request: OperatorRequest, acts: Quota, *, has_accounts: bool
) -> Error | None:
    """Return why *member* may not ask for *request*, None if it may.

    *acts* counts what each member asks for. Where the server *has_accounts*, it has moderators too.
    """
    if request.act == REPORT:
        text = "this server has no moderators to report to: ask whoever runs it"
        return None if has_accounts else Error("no_reports", text, request.id)
    if not member.join.operator:
        return not_operator(request, has_accounts=has_accounts)
    if not acts.take(member.member_id):
        return acts.error("the room was changed", request.id)
    return None


class RoomControl:
    """The mode of one room, and who was kicked or muted there.

    *modes* and *restrictions* are those of all rooms; without them it has its own. In the Django
    deployment the database decides who is restricted, and the caller sets `mode`.
    """

    def __init__(
        self,
        room: str,
        modes: RoomModes | None = None,
        restrictions: Restrictions | None = None,
    ) -> None:
        self._room = room
        self._modes = RoomModes() if modes is None else modes
        self._restrictions = Restrictions(lambda: 0.0) if restrictions is None else restrictions
        self._slow_mode = SlowMode()
        self.mode = self._modes[room]

    def set_mode(self, mode: RoomMode) -> bool:
        """Set the *mode* of the room. Return False if too many rooms have one already."""
        if not self._modes.set(self._room, mode):
            return False
        if mode.slow != self.mode.slow:
            self._slow_mode.clear()
        self.mode = mode
        return True

    # -- who may join and publish --

    def check_join(
        self, join: JoinRequest, address: str, next_free: Callable[[str], str], *, is_known: bool
    ) -> Rejection | None:
        """Return why a client may not join, subscribe or publish here, None if it may.

        *address* is the key of its address, *next_free* returns the name that it would get, and
        *is_known* says that its session has a member or a kept name here.
        """
        if join.operator or is_known:
            return None
        if self.mode.locked:
            return LOCKED
        if not self._restrictions:
            return None
        if self._time_left(Identity(join.session or "", "", address)):
            return KICKED
        held = self.check_name(join.name, next_free)
        return None if held is None else Rejection(CloseCode.REMOVED, held)

    def check_name(self, name: str, next_free: Callable[[str], str]) -> Error | None:
        """Return why nobody may have *name* now, None if it was not kicked.

        *next_free* returns the name that a client gets that asks for it.
        """
        if not self._restrictions:
            return None
        left = max(self._time_left(Identity(name=each)) for each in (name, next_free(name)))
        if not left:
            return None
        minutes = ceil(left / 60)
        wait = "a minute" if minutes == 1 else f"{minutes} minutes"
        # Without the name itself: a close frame has room for 123 bytes only.
        text = f"this name was kicked from the room: take another, or wait {wait}"
        return Error("kicked", text)

    def silence(self, member: Participant) -> Error | None:
        """Return why *member* may not publish now, None if it may."""
        if member.is_muted:
            return MUTED
        return ANNOUNCE_ONLY if self.mode.announce and not member.join.operator else None

    def check_post(
        self, join: JoinRequest, name: str, address: str, count_members: Callable[[], int]
    ) -> Rejection | None:
        """Return why a client may not publish as *name* without joining, None if it does so now.

        *count_members* returns how many members have its address.
        """
        if join.operator:
            return None
        client = Identity(join.session or "", name, address)
        if self.is_muted(client):
            return Rejection(CloseCode.REMOVED, MUTED)
        if self.mode.announce:
            return Rejection(CloseCode.REMOVED, ANNOUNCE_ONLY)
        error = self.take_turn(client, None, count_members)
        return None if error is None else Rejection(CloseCode.REMOVED, error)

    def now(self) -> float:
        """Return the time of the clock of the restrictions."""
        return self._restrictions.now()

    def take_turn(
        self, client: Identity, joined_at: float | None, count_members: Callable[[], int]
    ) -> Error | None:
        """Return why *client* has to wait in slow mode, None if it publishes a message now.

        It has joined at the time *joined_at*, None if it is no member, and *count_members* returns
        how many members have its address.
        """
        seconds = self.mode.slow
        if not seconds:
            return None
        name = held_name(client.name) if client.id_scope else name_key(client.name)
        keys = [each for each in (client.id_scope, name and f":{name}") if each]
        now = self.now()
        is_new = joined_at is None or joined_at > now - seconds
        wait = self._slow_mode.wait(
            keys,
            client.address if is_new else "",
            seconds=seconds,
            now=now,
            count_members=count_members,
        )
        if wait > 0:
            return too_soon(seconds, wait)
        self._slow_mode.note(now, keys, client.address)
        return None

    def _time_left(self, client: Identity) -> float:
        return self._restrictions.time_left("kick", self._room, client)

    # -- restrictions --

    def kick(self, client: Identity) -> None:
        """Keep *client* out of the room for `KICK_S`."""
        self._restrictions.add("kick", self._room, client)

    def mute(self, client: Identity) -> None:
        """Mute *client* until it is unmuted."""
        self._restrictions.add("mute", self._room, client)

    def unmute(self, client: Identity) -> bool:
        """Unmute *client*. Return whether it was muted."""
        return self._restrictions.remove("mute", self._room, client)

    def is_muted(self, client: Identity) -> bool:
        """Return whether *client* is muted."""
        return self._restrictions.time_left("mute", self._room, client) > 0

    def joined(self, member: Participant) -> None:
        """Note whether *member*, which has its name now, is muted."""
        member.is_muted = not member.join.operator and self.is_muted(identity_of(member))

    def renamed(self, member: Participant, old_name: str) -> None:
        """Note the new name of *member*: a mute holds for it as well."""
        if member.is_muted:
            known = Identity(member.id_scope, old_name, member.address)
            self._restrictions.add_name("mute", self._room, known, member.name)
        else:
            self.joined(member)


def identity_of(member: Participant) -> Identity:
    """Return what *member* is known by."""
    return Identity(member.id_scope, member.name, member.address)
