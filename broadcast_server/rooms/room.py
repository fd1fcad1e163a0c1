"""The room: who takes part in it, and what each participant is sent. Start reading here.

`Room` is a pure state machine. Its caller reports what has happened, and the room returns a list
of *actions*: what the caller has to do now. For example, bob is in the room, and alice joins and
publishes a message:

    room.connect(alice)
        [Send(None, Joined("alice", 2)), Subscribe(alice, 0, Welcome(...))]
    room.receive(alice, "hello")
        [Publish(alice, "hello", None, "alice")]
    room.deliver(Message(1, "alice", "hello", ...))
        [Send(None, Message(1, "alice", "hello", ...))]

The caller carries out the actions at once, in order, and without awaiting in between. That is
enough for all participants to see the same events in the same order. The room knows no socket,
clock, framework or `await`, so a test can play through any sequence of events.

Theory of operation:

- A *participant* is one connection, as the room sees it. It is either a member or a subscriber.
- A *member* has a name in the room. It can publish, and it is in the list of members. It joins
  with `connect`. The room keeps names unique: a member that asks for a taken name gets the next
  free numeric suffix, such as ``bob-2``.
- A *subscriber* only receives. It has no name, it is in no list, and nobody is told about it. It
  begins with `subscribe`.
- The *log* numbers the messages of the room and keeps the newest of them. A *log entry* has
  a number: it is a message, or the note that replaces a hidden one. A random *epoch* identifies the
  log, and a *cursor* (an epoch and a number) identifies a place in it.
- The room never numbers a message. It returns `Publish`, and the caller hands the text to the log.
  When the message has its number, the caller passes it to `deliver`. In the standalone server this
  happens at once, in memory. In the Django deployment it happens after a database transaction, and
  the message may come from another process. The room works the same way in both.
- Joins, leaves and renames are events without a number. They are not in the log. Those of a *quiet*
  member say so: they are for lists of members, and are not told to people.
- The *resume position* is the number after which a participant receives messages. A client that
  reconnects sends its cursor (`since`), and the position follows from it. A client without a cursor
  gets as many past messages as it asks for (`history`). The welcome says whether messages that the
  client has not received are no longer in the log (`recovered`, `missed`).
- A *session* is a random string that a client keeps across its connections. If a member joins with
  the session of another member, it takes over: it gets that member's place in the list and name,
  and the stale connection is closed with `REPLACED`. Nobody else is told. If the connection of a
  member broke, its name is kept for its session for a while. The room has digests of sessions only.
- An *operator* is a member that has shown the operator key. What it does in the room is an *act*:
  it locks the room, for example. The room carries it out and tells everyone (`operator_acts`).
- A client can give a message an id. The *id scope* is the namespace of such ids: the session, or a
  random token of the connection. A message with the same id and scope as a message in the log is a
  duplicate. The caller does not log it again but calls `acknowledge_duplicate`.

The neighbours: `live_room` calls the room and carries out its actions, `local_room` and the
replica of the Django deployment do the logging, and `fanout` turns `Send` and `Subscribe` into
bytes. With members in several processes, in the Django deployment, a `Roster` names them.
"""

from __future__ import annotations

from itertools import count, islice

from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.protocol.codec import decode_json, decode_text, plain_lines
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import (
    MAX_LISTED_MEMBERS,
    MAX_WELCOME_MEMBERS,
    Error,
    Format,
    Joined,
    Left,
    LogEntry,
    Members,
    MembersRequest,
    PingRequest,
    Pong,
    PrivateRequest,
    RenameRequest,
    SayRequest,
)
from broadcast_server.protocol.names import validate_name
from broadcast_server.protocol.operators import HIDE, OperatorRequest
from broadcast_server.protocol.rejection import REPLACED, STOPPING, Rejection

from .actions import (
    Action,
    ClaimName,
    Close,
    Operate,
    Publish,
    PublishLines,
    Send,
    Subscribe,
    close_with,
)
from .faults import TOO_MANY_FAULTS, is_too_faulty
from .kept_names import KEEPING_CODES, KeptNames
from .message_log import LogExtent
from .name_table import NameTable
from .operator_acts import operate
from .participant import Participant
from .private import send_private
from .quota import MAX_ACTS_PER_HEARTBEAT, MAX_RENAMES_PER_HEARTBEAT, Quota
from .renames import rename
from .resume import resume_position
from .room_control import RoomControl, identity_of, refuse_act
from .roster import Roster
from .welcome import welcome


class Room:
    """One room: its members in the order in which they joined, and its subscribers.

    The length of a room is the number of its members, without subscribers. Text that is longer
    than *max_message_bytes* in UTF-8 is answered with an error. With a *roster*, the members are in
    several processes: see `Roster`. In *kept_names* it keeps names for clients that come back.
    *control* has what operators have decided about it.
    """

    def __init__(
        self,
        name: str,
        log: LogExtent,
        max_message_bytes: int,
        roster: Roster | None = None,
        kept_names: KeptNames | None = None,
        control: RoomControl | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.max_message_bytes = max_message_bytes
        self.control = control or RoomControl(name)
        self._roster = roster
        self._members: dict[int, Participant] = {}  # by member_id
        self.names = NameTable(name, kept_names)
        self._sessions: dict[str, Participant] = {}
        self._member_ids = count(1)
        self._renames = Quota(MAX_RENAMES_PER_HEARTBEAT)
        self._acts = Quota(MAX_ACTS_PER_HEARTBEAT)
        self._subscribers: set[Participant] = set()

    def __len__(self) -> int:
        """Count the members, in all processes."""
        return len(self._members) if self._roster is None else len(self._roster)

    def __contains__(self, participant: Participant) -> bool:
        return self._members.get(participant.member_id) is participant

    @property
    def has_participants(self) -> bool:
        """Whether there are members or subscribers in this process."""
        return bool(self._members or self._subscribers)

    @property
    def subscriber_count(self) -> int:
        """How many subscribers there are. They are not members."""
        return len(self._subscribers)

    def has_session(self, session: str | None) -> bool:
        """Return whether a member has *session*: a client that joins with it takes over."""
        return session in self._sessions

    def members(self) -> tuple[Participant, ...]:
        """Return the members."""
        return tuple(self._members.values())

    def subscribers(self) -> tuple[Participant, ...]:
        """Return the subscribers."""
        return tuple(self._subscribers)

    def connect(self, member: Participant) -> list[Action]:
        """Add *member* under the name that it asks for, or with the next free suffix.

        If its session is that of another member, *member* takes over the place and the name of
        that stale connection, which is closed.
        """
        if self._roster is not None:
            return self._connect_from_roster(member)
        actions: list[Action] = []
        previous = self._sessions.get(member.join.session or "")
        if previous is None:
            kept_name = self.names.take_kept(member.join.session)
            member.name = self.names.next_free(kept_name or member.join.name)
            member.member_id, member.quiet = next(self._member_ids), member.join.quiet
            member.joined_at = self.control.now()
        else:
            member.name, member.member_id = previous.name, previous.member_id
            member.quiet = previous.quiet  # whoever was told of its join is told of its leave
            member.joined_at = previous.joined_at
            actions += close_with(previous, REPLACED)
        self._members[member.member_id] = member
        self.names.add(member)
        self.control.joined(member)
        if member.join.session:
            self._sessions[member.join.session] = member
        if previous is None:
            actions.append(Send(None, Joined(member.name, len(self), None, member.quiet or None)))
        # `Joined` comes before `Subscribe`, so the member is not told of its own join.
        return [*actions, self._welcome(member)]

    def _connect_from_roster(self, member: Participant) -> list[Action]:
        """Add *member* under its name from the roster, taking over from a member with this name."""
        previous = self.names.owner(member.name)
        actions = [] if previous is None else self.take_over(previous)
        member.member_id = next(self._member_ids) if previous is None else previous.member_id
        self._members[member.member_id] = member
        self.names.add(member)
        return [*actions, self._welcome(member)]

    def take_over(self, previous: Participant) -> list[Action]:
        """Close *previous*, whose session continues on a newer connection. Nobody else is told."""
        self._remove(previous)
        return close_with(previous, REPLACED)

    def set_name(self, member: Participant, name: str) -> None:
        """Give *member* the name that it has on the roster now."""
        self.names.release(member.name)
        member.name = name
        self.names.add(member)

    def is_subscriber(self, participant: Participant) -> bool:
        """Return whether *participant* is one of the room's subscribers."""
        return participant in self._subscribers

    def subscribe(self, subscriber: Participant) -> list[Action]:
        """Add *subscriber*, which receives everything but has no name. Nobody is told."""
        self._subscribers.add(subscriber)
        return [self._welcome(subscriber)]

    def author_name(self, join: JoinRequest) -> str:
        """Return the name of a message whose author publishes without joining (HTTP `POST`).

        This is the name that the session has or had, else that in *join* or its next free suffix.
        """
        member = self._sessions.get(join.session or "")
        name = self.names.find_kept(join.session) if member is None else member.name
        return name or self.names.next_free(join.name)

    def check_join(self, join: JoinRequest, address: str) -> Rejection | None:
        """Return why operators do not let a client join or subscribe, None if it may.

        *address* is the key of its address.
        """
        is_known = self.has_session(join.session) or self.names.find_kept(join.session) is not None
        return self.control.check_join(join, address, self.names.next_free, is_known=is_known)

    def check_publish(self, join: JoinRequest, address: str) -> Rejection | None:
        """Return why operators do not let a client publish without joining, None if it does so now.

        *address* is the key of its address. In slow mode, its turn is taken.
        """
        return self.check_join(join, address) or self.control.check_post(
            join, self.author_name(join), address, lambda: self._count_at(address)
        )

    def receive(self, member: Participant, frame: str) -> list[Action]:
        """Decode a frame that *member* sent, and handle its lines one by one."""
        decode = decode_json if member.join.format is Format.JSON else decode_text
        actions: list[Action] = []
        members_listed = False
        silence = self.control.silence(member)
        # In the Django deployment, the transaction that logs a message decides about slow mode.
        is_slow = self._roster is None and bool(self.control.mode.slow) and not member.join.operator
        is_free = silence is None and not is_slow
        if is_free and member.join.format is Format.TEXT:
            texts = plain_lines(frame, self.max_message_bytes)
            if texts is not None:
                member.faults = 0
                return [PublishLines(member, texts, member.name)]
        for request in decode(frame, self.max_message_bytes):
            match request:
                case SayRequest() if is_free:
                    actions.append(Publish(member, request.text, request.id, member.name))
                case SayRequest(id=id):
                    error = silence or self._take_turn(member, id)
                    actions.append(
                        Publish(member, request.text, id, member.name)
                        if error is None
                        else Send(member, Error(error.code, error.text, id))
                    )
                case PingRequest(id=id):
                    actions.append(Send(member, Pong(id)))
                case RenameRequest():
                    actions += self.rename(member, request)
                case OperatorRequest():
                    actions += self.operate(member, request)
                case PrivateRequest():
                    names = self.names if self._roster is None else None
                    actions.append(send_private(names, member, request))
                case MembersRequest():
                    # One answer for each frame: 200,000 of these requests fit into a frame, and
                    # the answer can be a hundred times as long as the request.
                    if not members_listed:
                        actions.append(Send(member, self.list_members()))
                        members_listed = True
                case Error():
                    actions.append(Send(member, request))
                    if is_too_faulty(member, request):
                        return actions + self.kick(member, TOO_MANY_FAULTS)
                    continue
            member.faults = 0
        return actions

    def _take_turn(self, member: Participant, id: str | None) -> Error | None:
        """Return why slow mode rejects a message of *member*, None if it takes its turn now."""
        if self.log.seq_of(member.id_scope, id) is not None:
            return None  # it is in the log, and is confirmed
        return self.control.take_turn(
            identity_of(member), member.joined_at, lambda: self._count_at(member.address)
        )

    def _count_at(self, address: str) -> int:
        """Count the members of this process that have *address*."""
        return sum(each.address == address for each in self._members.values())

    def list_members(self, limit: int = MAX_LISTED_MEMBERS) -> Members:
        """Return the answer to a `MembersRequest`: the first *limit* members of all."""
        if self._roster is not None:
            names, verified = self._roster.names(limit), self._roster.verified_names(limit)
            return Members(len(self), names, verified)
        names = tuple(member.name for member in islice(self._members.values(), limit))
        return Members(len(self), names)

    def deliver(self, entry: LogEntry) -> list[Action]:
        """Send *entry*, which now has its number in the log, to everyone.

        This includes the author of a message, for which it is the echo. Entries must be delivered
        in the order of their numbers.
        """
        return [Send(None, entry)]

    def acknowledge_duplicate(self, member: Participant, id: str, seq: int) -> list[Action]:
        """Answer a message of *member* that is in the log already, as number *seq*.

        If the message comes after the member's resume position, this connection has received the
        echo or will receive it, and a second answer would be one too many. Otherwise the member
        gets a `duplicate` error, because it would wait for the echo forever.
        """
        if seq > member.after_seq:
            return []
        text = f"message was said before, as number {seq}"
        return [Send(member, Error("duplicate", text, id))]

    def rename(self, member: Participant, request: RenameRequest) -> list[Action]:
        """Rename *member* to the requested name, or with the next free suffix.

        The member gets an error instead if the name is invalid, or if it has requested more than
        `MAX_RENAMES_PER_HEARTBEAT` valid names since the last heartbeat.
        """
        try:
            name = validate_name(request.name)
        except ValueError as error:
            return [Send(member, Error("bad_name", str(error), request.id))]
        if not self._renames.take(member.member_id):
            return [Send(member, self._renames.error("name was changed", request.id))]
        if self._roster is not None:
            return [ClaimName(member, name, request.id)]
        return rename(self.names, self.control, member, name, request.id)

    def operate(self, member: Participant, request: OperatorRequest) -> list[Action]:
        """Carry out *request* if *member* is an operator, see `operator_acts`, or answer it."""
        has_accounts = self._roster is not None
        error = refuse_act(member, request, self._acts, has_accounts=has_accounts)
        if error is not None:
            return [Send(member, error)]
        if has_accounts or request.act == HIDE:  # which is up to whoever has the log
            return [Operate(member, request)]
        return operate(self, member, request)

    def reset_quotas(self) -> None:
        """Let every member make as many requests as at first. Call it each heartbeat."""
        self._renames.reset()
        self._acts.reset()

    def disconnect(self, participant: Participant, code: int | None = None) -> list[Action]:
        """Forget *participant*, whose connection is lost with *code*, and tell the others."""
        self._subscribers.discard(participant)
        if participant not in self:  # a subscriber, or replaced or kicked before
            return []
        self._remove(participant)
        self._renames.forget(participant.member_id)
        self._acts.forget(participant.member_id)
        if self._roster is not None:  # it announces who left
            return []
        if participant.join.session:
            del self._sessions[participant.join.session]
        if code in KEEPING_CODES:
            self.names.keep(participant)
        return [Send(None, Left(participant.name, len(self), participant.quiet or None))]

    def kick(self, participant: Participant, rejection: Rejection) -> list[Action]:
        """Close *participant* with *rejection*. If it was a member, tell the others."""
        if participant not in self and participant not in self._subscribers:
            return []
        return [*close_with(participant, rejection), *self.disconnect(participant, rejection.code)]

    def stop(self) -> list[Action]:
        """Close everyone because the server stops. Nobody is told who left."""
        participants = *self.members(), *self._subscribers
        closes = [Close(each, STOPPING.code, STOPPING.text) for each in participants]
        self._members.clear()
        self.names.keep_all()
        self._subscribers.clear()
        self._sessions.clear()
        return [Send(None, STOPPING.error), *closes]

    def _welcome(self, participant: Participant) -> Subscribe:
        """Set the resume position of *participant*, and return its `Subscribe`."""
        participant.after_seq, _, missed = self._resume_position(participant.join)
        members = self.list_members(MAX_WELCOME_MEMBERS)
        told = welcome(participant, self.name, members, self.log, self.control.mode, missed=missed)
        if self.max_message_bytes != MAX_MESSAGE_BYTES:
            told.max_bytes = self.max_message_bytes
        return Subscribe(participant, participant.after_seq, told)

    def _resume_position(self, join: JoinRequest) -> tuple[int, bool, int | None]:
        """Return the resume position, and `recovered` and `missed` of the welcome."""
        return resume_position(self.log, join)

    def _remove(self, member: Participant) -> None:
        del self._members[member.member_id]
        self.names.release(member.name)
