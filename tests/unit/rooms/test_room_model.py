"""The whole room against a small model: names, sessions, faults, resuming and slow readers at once.

The model sends everyone every event at once, and keeps plain lists. What each member of the real
room has received is compared with its list after every batch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import CloseCode, Cursor, Format, limit_text
from broadcast_server.protocol.names import MAX_NAME_CHARS, name_key, with_suffix, without_number
from broadcast_server.protocol.rejection import BINARY
from broadcast_server.rooms.local_room import LocalRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.metrics import Metrics
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.quota import MAX_RENAMES_PER_HEARTBEAT
from broadcast_server.rooms.receiver import Receiver
from broadcast_server.rooms.replays import Replays

MAX_MESSAGES = 100
"""How many messages the log keeps."""

MAX_MESSAGE_BYTES = 100

JSONEvent = dict[str, Any]
"""An event as JSON clients get it, without the time of day."""

NAMES = ("bob", "bob", "bob", "Bob", "bob-2", "bob-3", "x" * MAX_NAME_CHARS, "ß", "ss")
FORMATS = Format.TEXT, Format.JSON
"""Formats of members. That of event streams is JSON lines in an envelope."""

SESSIONS = (None, "s" * 16, "t" * 16)
INDEX = st.integers(0, 4)
"""Chooses a member, modulo the number of members: the first ones most often."""


class FakeReceiver:
    """A member's connection: it keeps what is written, and its buffer can be full."""

    encode = staticmethod(bytes)  # a frame is the payload itself

    def __init__(self, machine: RoomMachine, participant: Participant, small_buffer: bool) -> None:
        self.machine = machine
        self.participant = participant
        self.small_buffer = small_buffer  # it is full as soon as anything is written
        self.paused = False
        self.lost = False
        self.code: int | None = None
        self.lines: list[str] = []

    def write(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            assert not self.lost and self.code is None, "nothing is written after the end"
            assert frame, "a frame holds at least one line"
            self.lines += frame.decode().split("\n")
            if self.small_buffer and not self.paused:
                self.set_paused(paused=True)

    def close(self, code: int, reason: str) -> None:
        assert not self.lost and self.code is None
        self.code = code
        self.machine.closed.append(self)

    def set_paused(self, *, paused: bool) -> None:
        """Fill the buffer, or empty it."""
        if self.paused is not paused:
            self.paused = paused
            self.machine.room.flow_changed(self.participant)


@dataclass(eq=False)
class Member:
    """One member in the model: what it should receive, and what it did."""

    receiver: FakeReceiver
    name: str
    after: int = 0  # the resume position
    position: int = 0  # the number of the last message that it had received before this batch
    expected_events: list[JSONEvent] = field(default_factory=list)
    faults: int = 0  # in a row
    renames: int = 0  # since the last heartbeat
    awaits_members: bool = False  # an answer to /who has not been written to it yet
    behind: bool = False  # it reads from the log

    @property
    def join(self) -> JoinRequest:
        """What it asked for."""
        return self.receiver.participant.join

    def expected(self) -> list[Any]:
        """Return what it should receive: events as JSON, or lines of text."""
        if self.join.format is Format.JSON:
            return self.expected_events
        return [line for event in self.expected_events for line in text_lines(event)]

    def received(self) -> list[Any]:
        """Return what it has received, in the same form."""
        if self.join.format is Format.TEXT:
            return self.receiver.lines
        events = [json.loads(line) for line in self.receiver.lines]
        for event in events:
            event.pop("at", None)
        return events

    def last_received(self) -> int:
        """Return the number of the last message that it has received."""
        lines_left, position = len(self.receiver.lines), self.after
        for event in self.expected_events:
            lines_left -= 1 if self.join.format is Format.JSON else len(text_lines(event))
            if lines_left < 0:
                break
            if event["type"] == "message":
                position = event["seq"]
        return position


def text_lines(event: JSONEvent) -> list[str]:
    """Return the lines that a text client gets for an event."""
    match event["type"]:
        case "message":
            return [f"{event['name']}: {part}" for part in event["text"].split("\n")]
        case "joined" | "left" as verb:
            return [f"{event['name']} {verb} the chat"]
        case "renamed":
            return [f"{event['name']} is now {event['to']}"]
        case "error":
            return [f"* {event['text']}"]
        case "members":
            return [f"* {event['count']} here: {', '.join(event['members'])}"]
        case _:
            return []


@dataclass(frozen=True)
class Request:
    """One line that a client sends, in either format, and what it means."""

    kind: str  # say, members, name, ping, or the code of an error
    text: str = ""
    id: str | None = None


SHORT_NAMES = [name for name in NAMES if len(name) < 10]
"""Names that a suffix does not truncate."""

IDS = st.sampled_from((None, "a", "b"))
REQUESTS = st.one_of(
    st.builds(
        Request, st.just("say"), st.sampled_from(("hi", "hi", "日本", "x" * MAX_MESSAGE_BYTES)), IDS
    ),
    st.builds(Request, st.just("say"), st.just("two\nlines"), IDS),
    st.builds(Request, st.just("name"), st.sampled_from(SHORT_NAMES), IDS),
    st.builds(Request, st.sampled_from(("members", "ping")), st.just(""), IDS),
    st.builds(
        Request,
        st.sampled_from(("too_long", "empty", "bad_type", "bad_text", "bad_name")),
        st.just(""),
        IDS,
    ),
    st.builds(Request, st.sampled_from(("bad_json", "bad_id"))),
)
ERRORS = {
    "too_long": f"message is {MAX_MESSAGE_BYTES + 1} bytes, {limit_text(MAX_MESSAGE_BYTES)}",
    "empty": "message is empty",
    "bad_type": "type is unknown, known are say, members, name, private and ping",
    "bad_name": "name begins with *",
    "too_often": (
        f"name was changed {MAX_RENAMES_PER_HEARTBEAT} times just now, try again in half a minute"
    ),
    "bad_text": "text is not a string",
    "bad_json": "line is not JSON",
    "bad_id": "id is not a string of 1 to 64 characters",
}
FAULTY_REQUESTS: dict[str, JSONEvent] = {
    "too_long": {"type": "say", "text": "x" * (MAX_MESSAGE_BYTES + 1)},
    "empty": {"type": "say", "text": ""},
    "bad_type": {"type": "dance"},
    "bad_name": {"type": "name", "name": "*"},
    "bad_text": {"type": "say", "text": 1},
    "bad_id": {"type": "say", "text": "x", "id": 7},
}


def json_line(request: Request) -> str:
    """Return a request as a line of a JSON client."""
    if request.kind == "bad_json":
        return "{"
    fields = FAULTY_REQUESTS.get(request.kind) or {
        "type": request.kind,
        "text": request.text,
        "name": request.text,
    }
    return json.dumps(fields if request.id is None else {"id": request.id, **fields})


class RoomMachine(RuleBasedStateMachine):
    """A real room and the model. Steps are collected, and all happen in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = MessageLog(max_messages=MAX_MESSAGES)
        self.closed: list[FakeReceiver] = []  # since the steps of the last batch
        self.closes: list[tuple[Receiver, CloseCode]] = []
        self.replays = Replays()
        self.room = LocalRoom(
            "lobby",
            self.log,
            MAX_MESSAGE_BYTES,
            lambda receiver, code: self.closes.append((receiver, code)),
            metrics=Metrics(),
            persist=lambda: True,
            replays=self.replays,
        )
        self.members: list[Member] = []
        self.messages: list[tuple[str, JSONEvent]] = []  # all that were published, with id scopes
        self.steps: list[Callable[[], None]] = []  # of this batch
        self.join_count = 0
        self.max_steps = 1  # in a batch

    def teardown(self) -> None:
        """Let everyone catch up, and check that everyone has received everything."""

        def catch_up() -> None:
            for member in self.members:
                member.receiver.small_buffer = False
                member.receiver.set_paused(paused=False)

        try:
            self.steps.append(catch_up)
            self._end_batch()
            assert not any(member.receiver.paused for member in self.members)
        finally:
            self.loop.close()

    # -- the steps --

    @initialize(
        joins=st.lists(
            st.tuples(st.sampled_from(FORMATS), st.sampled_from(SESSIONS), st.booleans()),
            min_size=3,
            max_size=5,
        )
    )
    def begin(self, joins: list[tuple[Format, str | None, bool]]) -> None:
        """A few members join at the start."""
        for format, session, small_buffer in joins:
            join = JoinRequest(name="bob", session=session, format=format)
            self._add_step(
                lambda join=join, small_buffer=small_buffer: self._join(join, None, small_buffer)  # type: ignore[misc]
            )
        self.max_steps = 3

    @rule(
        name=st.sampled_from(NAMES),
        session=st.sampled_from(SESSIONS),
        format=st.sampled_from(FORMATS),
        history=st.sampled_from((0, 0, 3, 99)),
        back=st.sampled_from((None, None, 0, 0, 2, 70, 120, -1)),
        same_epoch=st.sampled_from((True, True, False)),
        small_buffer=st.sampled_from((False, False, True)),
    )
    def connect(
        self,
        name: str,
        session: str | None,
        format: Format,
        history: int,
        back: int | None,
        same_epoch: bool,
        small_buffer: bool,
    ) -> None:
        """Someone joins, perhaps with a cursor: of *back* messages ago, or of another log."""
        cursor = None if back is None else (same_epoch, back)
        join = JoinRequest(name=name, history=history, session=session, format=format)
        self._add_step(lambda: self._join(join, cursor, small_buffer))

    @rule(index=INDEX, back=st.sampled_from((0, 0, 1, 3, 70)), small_buffer=st.booleans())
    def reconnect(self, index: int, back: int, small_buffer: bool) -> None:
        """Someone joins again, and takes over from its stale connection if it has a session."""
        self._for(index, lambda member: self._join(member.join, (True, back), small_buffer))

    @rule(index=INDEX, requests=st.lists(REQUESTS, min_size=1, max_size=12))
    def receive(self, index: int, requests: list[Request]) -> None:
        """Someone sends a frame."""
        self._for(index, lambda member: self._receive(member, requests))

    @rule(index=INDEX, many=st.integers(30, 70))
    def flood(self, index: int, many: int) -> None:
        """Someone sends a frame of very many lines."""
        requests = [Request("say", str(number)) for number in range(many)]
        self._for(index, lambda member: self._receive(member, requests))

    @rule(
        index=INDEX,
        kinds=st.lists(st.sampled_from((*FAULTY_REQUESTS,)), min_size=9, max_size=12)
        | st.lists(st.sampled_from((*FAULTY_REQUESTS, "ping")), min_size=9, max_size=12),
    )
    def err(self, index: int, kinds: list[str]) -> None:
        """Someone sends many faulty requests, perhaps with a valid one between them."""
        self._for(index, lambda member: self._receive(member, [Request(kind) for kind in kinds]))

    @rule(index=INDEX, id=st.sampled_from(("a", "b")))
    def publish_again(self, index: int, id: str) -> None:
        """Someone publishes with an id that it may have used before."""
        self._for(index, lambda member: self._receive(member, [Request("say", "again", id)]))

    @rule(index=INDEX, id=st.sampled_from(("a", "b")), back=st.sampled_from((0, 1)))
    def resend(self, index: int, id: str, back: int) -> None:
        """Someone publishes a message, reconnects, and publishes it again."""
        requests = [Request("say", "again", id)]
        self._for(index, lambda member: self._receive(member, requests))
        self._for(index, lambda member: self._join(member.join, (True, back), small_buffer=False))
        self._for(index, lambda member: self._receive(member, requests))

    @rule(index=INDEX)
    def list_members(self, index: int) -> None:
        """Someone asks for the list of members."""
        self._for(index, lambda member: self._receive(member, [Request("members")]))

    @rule(index=INDEX, names=st.lists(st.sampled_from(SHORT_NAMES), min_size=1, max_size=14))
    def rename(self, index: int, names: list[str]) -> None:
        """Someone asks for other names, again and again."""
        self._for(
            index, lambda member: self._receive(member, [Request("name", name) for name in names])
        )

    @rule(index=INDEX, really=st.integers(0, 2))
    def leave(self, index: int, really: int) -> None:
        """Someone's connection is lost."""

        def step(member: Member) -> None:
            if really != 2:
                return
            self.room.leave(member.receiver.participant)
            member.receiver.lost = True
            self._left(member)

        self._for(index, step)

    @rule(index=INDEX, really=st.integers(0, 3))
    def kick(self, index: int, really: int) -> None:
        """Someone is kicked."""

        def step(member: Member) -> None:
            if really != 3:
                return
            self.room.kick(member.receiver.participant, BINARY)
            self._kicked(member, CloseCode.FAULTS, "binary", BINARY.text)

        self._for(index, step)

    @rule(index=INDEX, paused=st.booleans())
    def pause(self, index: int, paused: bool) -> None:
        """Someone stops reading, or continues."""
        self._for(index, lambda member: member.receiver.set_paused(paused=paused))

    @rule()
    def heartbeat(self) -> None:
        """It is time for a heartbeat."""

        def step() -> None:
            self.room.heartbeat()
            self._broadcast({"type": "head", "seq": len(self.messages)})
            for member in self.members:
                member.renames = 0

        self._add_step(step)

    @rule(max_steps=st.integers(1, 5))
    def end_batch(self, max_steps: int) -> None:
        """The batch ends. Each batch from now on has at most *max_steps* steps."""
        self._end_batch()
        self.max_steps = max_steps

    @rule(really=st.integers(0, 9))
    def stop(self, really: int) -> None:
        """The server stops at the end of a batch. The test continues with an empty room."""
        if really == 9:
            self.steps.append(self._stop)
            self._end_batch()

    # -- what a step does, in the room and in the model --

    def _add_step(self, step: Callable[[], None]) -> None:
        self.steps.append(step)
        if len(self.steps) >= self.max_steps:
            self._end_batch()

    def _end_batch(self) -> None:
        left_behind = self.loop.run_until_complete(self._run_steps())
        while self.room._timer.is_set or self.replays._turns:
            self.loop.run_until_complete(asyncio.sleep(0))
        self._kick_left_behind(left_behind)
        self._check()

    def _for(self, index: int, step: Callable[[Member], None]) -> None:
        """Add a step for one of the members that there are when it is run."""

        def run() -> None:
            if self.members:
                step(self.members[index % len(self.members)])

        self._add_step(run)

    def _broadcast(self, event: JSONEvent) -> None:
        for member in self.members:
            member.expected_events.append(event)

    def _join(self, join: JoinRequest, cursor: tuple[bool, int] | None, small_buffer: bool) -> None:
        since = None
        if cursor is not None:
            same_epoch, back = cursor
            epoch = self.log.epoch if same_epoch else "other"
            since = Cursor(epoch, max(0, len(self.messages) - back))
        self.join_count += 1
        id_scope = join.session or f"#{self.join_count}"
        participant = Participant(replace(join, since=since), id_scope)
        receiver = FakeReceiver(self, participant, small_buffer)
        self.room.join(participant, receiver)
        self._joined(Member(receiver, participant.name))

    def _joined(self, member: Member) -> None:
        join = member.join
        replaced = [
            other for other in self.members if join.session and other.join.session == join.session
        ]
        for previous in replaced:
            text = "a newer connection of your session took your place"
            previous.expected_events.append({"type": "error", "code": "replaced", "text": text})
            assert member.name == previous.name
            member.renames = previous.renames
            self.members[self.members.index(previous)] = member
            self._closed(previous, CloseCode.REPLACED)
        if not replaced:
            assert member.name == self._free_name(join.name, member.name)
            count = len(self.members) + 1
            self._broadcast({"type": "joined", "name": member.name, "count": count})
            self.members.append(member)
        first, head = self._first(), len(self.messages)
        since, recovered, missed = join.since, True, 0
        if since is None:
            member.after = max(first - 1, head - join.history)
        elif since.epoch != self.log.epoch or since.seq > head:
            member.after, recovered, missed = first - 1, False, None  # type: ignore[assignment]
        else:
            member.after = max(first - 1, since.seq)
            missed = member.after - since.seq
            recovered = not missed
        member.position, member.behind = member.after, member.after < head
        names = [each.name for each in self.members]
        member.expected_events.append(
            {
                "type": "welcome",
                "room": "lobby",
                "name": member.name,
                "epoch": self.log.epoch,
                "seq": head,
                "recovered": recovered,
                "missed": missed,
                "count": len(names),
                "members": names,
                "max_bytes": MAX_MESSAGE_BYTES,
            }
        )
        member.expected_events += [event for _, event in self.messages[member.after :]]

    def _free_name(self, requested: str, actual: str) -> str:
        """Return the name that a member should have that requested *requested* and has *actual*."""
        taken = {name_key(member.name) for member in self.members}
        suffixes = range(2, len(taken) + 3)
        base = without_number(requested)
        forms = [requested, *(with_suffix(base, suffix) for suffix in suffixes)]
        free = [name for name in forms if name_key(name) not in taken]
        # A name that a suffix truncates does not always get the lowest free suffix.
        if len(base) > MAX_NAME_CHARS - 3 and actual != requested:
            return actual if actual in free else free[0]
        return free[0]

    def _first(self) -> int:
        return max(0, len(self.messages) - MAX_MESSAGES) + 1

    def _receive(self, member: Member, requests: list[Request]) -> None:
        as_json = member.join.format is Format.JSON
        if not as_json:  # a text client cannot make all requests
            requests = [
                Request("say", request.text.replace("\n", " "))
                if request.kind == "say"
                else Request(request.kind)
                for request in requests
                if request.kind in ("say", "members", "too_long")
            ]
        text_requests = {"members": "/who", "too_long": "x" * (MAX_MESSAGE_BYTES + 1)}
        frame = "\n".join(
            json_line(request) if as_json else text_requests.get(request.kind, request.text)
            for request in requests
        )
        self.room.receive(member.receiver.participant, frame)
        # The room decides about all lines of a frame before any of the actions is carried out.
        effects: list[Callable[[], None]] = []
        members_listed = False
        for request in requests:
            kind = request.kind
            if kind == "name":
                member.renames += 1
                kind = "name" if member.renames <= MAX_RENAMES_PER_HEARTBEAT else "too_often"
            if kind == "members":
                if not members_listed:
                    members_listed = True
                    effects.append(lambda: self._list_members(member))
            elif kind == "name":
                effects.append(lambda request=request: self._renamed(member, request.text))  # type: ignore[misc]
            elif kind == "ping":
                pong = {"type": "pong"}
                if request.id is not None:
                    pong["id"] = request.id
                effects.append(lambda pong=pong: member.expected_events.append(pong))  # type: ignore[misc]
            elif kind == "say":
                effects.append(lambda request=request: self._publish(member, request))  # type: ignore[misc]
            else:
                error = {"type": "error", "code": kind, "text": ERRORS[kind]}
                if request.id is not None and kind != "bad_json":
                    error["id"] = request.id
                effects.append(lambda error=error: member.expected_events.append(error))  # type: ignore[misc]
                if kind not in ("too_long", "empty", "bad_name", "too_often"):
                    member.faults += 1
                if member.faults == 10:
                    break
                if kind not in ("bad_name", "too_often"):  # found by the room, after decoding
                    continue
            member.faults = 0
        for effect in effects:
            effect()
        if member.faults == 10:
            self._kicked(member, CloseCode.FAULTS, "faults", "10 faults in a row")

    def _list_members(self, member: Member) -> None:
        if not member.awaits_members:
            member.awaits_members = True
            names = [each.name for each in self.members]
            member.expected_events.append(
                {"type": "members", "count": len(names), "members": names}
            )

    def _renamed(self, member: Member, requested: str) -> None:
        old_name, member.name = member.name, ""
        member.name = old_name if requested == old_name else self._free_name(requested, old_name)
        event = {"type": "renamed", "name": old_name, "to": member.name}
        if member.name == old_name:
            member.expected_events.append(event)
        else:
            self._broadcast(event)

    def _publish(self, member: Member, request: Request) -> None:
        id_scope = member.receiver.participant.id_scope
        for scope, event in self.messages[self._first() - 1 :]:
            if request.id is not None and (scope, event.get("id")) == (id_scope, request.id):
                if event["seq"] <= member.after:
                    text = f"message was said before, as number {event['seq']}"
                    error = {"type": "error", "code": "duplicate", "text": text, "id": request.id}
                    member.expected_events.append(error)
                return
        seq = len(self.messages) + 1
        event = {"type": "message", "seq": seq, "name": member.name, "text": request.text}
        if request.id is not None:
            event["id"] = request.id
        self.messages.append((id_scope, event))
        self._broadcast(event)

    def _kicked(self, member: Member, code: CloseCode, error: str, text: str) -> None:
        member.expected_events.append({"type": "error", "code": error, "text": text})
        self._closed(member, code)
        self._left(member)

    def _left(self, member: Member) -> None:
        self.members.remove(member)
        self._broadcast({"type": "left", "name": member.name, "count": len(self.members)})

    def _closed(self, member: Member, code: CloseCode) -> None:
        """Check what a closed member has received: everything, or all but messages if behind."""
        assert member.receiver.code == code
        received, expected = member.received(), member.expected()
        assert received[-1] == expected[-1]
        if member.behind or member.receiver.paused:
            rest = iter(expected)
            assert all(each in rest for each in received), "nothing else, and in order"
        else:
            assert received == expected

    async def _run_steps(self) -> list[Member]:
        """Run the steps of the batch. Return the members that the log then leaves behind."""
        steps, self.steps = self.steps, []
        for step in steps:
            step()
        self.closed.clear()
        return self._left_behind()

    def _stop(self) -> None:
        left_behind = self._left_behind()
        self.closed.clear()
        self.room.stop()
        self._kick_left_behind(left_behind)
        for member in self.members:
            error = {"type": "error", "code": "stopping", "text": "the server is stopping"}
            member.expected_events.append(error)
            self._closed(member, CloseCode.STOPPING)
        self.members.clear()

    def _left_behind(self) -> list[Member]:
        """Return the members whose next message is no longer in the log when the batch ends."""
        first = self._first()
        return [
            member
            for member in self.members
            if member.behind and not member.receiver.paused and member.position + 1 < first
        ]

    def _kick_left_behind(self, left_behind: list[Member]) -> None:
        """Check that exactly these members were closed as too slow, in any order."""
        too_slow = [each for each in self.closed if each.code == CloseCode.TOO_SLOW]
        assert {member.receiver for member in left_behind} == {*too_slow}
        assert len(left_behind) == len(too_slow)
        for member in sorted(left_behind, key=lambda member: too_slow.index(member.receiver)):
            self._kicked(member, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")

    def _check(self) -> None:
        """Compare the room with the model at the end of a batch."""
        names = [member.name for member in self.members]
        assert names == [participant.name for participant in self.room.room.members()]
        assert len({name_key(name) for name in names}) == len(names) == self.room.client_count
        assert (self.log.head, self.log.first) == (len(self.messages), self._first())
        assert self.room.behind_count == sum(member.receiver.paused for member in self.members)
        for member in self.members:
            received, expected = member.received(), member.expected()
            paused = member.receiver.paused
            assert received == (expected[: len(received)] if paused else expected)
            member.behind = paused
            member.position = member.last_received()
            member.awaits_members &= len(received) < len(expected)
            if member.join.format is Format.JSON and len(received) == len(expected):
                assert members_according_to(received) == names
                numbers = [event["seq"] for event in received if event["type"] == "message"]
                all_numbers = [*range(member.after + 1, len(self.messages) + 1)]
                assert numbers == all_numbers, "without gaps"


def members_according_to(received: list[JSONEvent]) -> list[str]:
    """Return the members as the events of one client tell. Check each count on the way."""
    names: list[str] = []
    for event in received:
        match event["type"]:
            case "welcome":
                names = [*event["members"]]
            case "joined":
                names.append(event["name"])
            case "left":
                names.remove(event["name"])
            case "renamed":
                names[names.index(event["name"])] = event["to"]
        assert event.get("count", len(names)) == len(names)
    return names


TestRoom = RoomMachine.TestCase
TestRoom.settings = settings(max_examples=40, stateful_step_count=80, deadline=None)
