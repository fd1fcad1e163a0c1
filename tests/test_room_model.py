"""The whole room beside a small model: names, sessions, faults, resuming and slow readers at once.

The model sends everyone every event at once and keeps plain lists. What a member of the real
room has got is compared with it after every turn.
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

from broadcast_server.entry import Entry
from broadcast_server.history import Log
from broadcast_server.memoryroom import MemoryRoom
from broadcast_server.metrics import Metrics
from broadcast_server.names import MAX_NAME, name_key, numbered
from broadcast_server.openroom import Line
from broadcast_server.protocol import CloseCode, Cursor, Format
from broadcast_server.room import RENAMES, Peer

KEPT, LIMIT = 100, 100

Happening = dict[str, Any]  # an event, as JSON has it, without the time of day

NAMES = ("bob", "bob", "bob", "Bob", "bob-2", "bob-3", "x" * MAX_NAME, "ß", "ss")
FORMATS = Format.TEXT, Format.JSON
"""Of members; that of streams is JSON lines in an envelope."""

SESSIONS = (None, "s" * 16, "t" * 16)
WHICH = st.integers(0, 4)  # of those here, the first again and again


class FakeLine:
    """A member's connection: keeps what is written, and may be full."""

    encode = staticmethod(bytes)  # payloads as they are

    def __init__(self, machine: RoomMachine, peer: Peer, tight: bool) -> None:
        self.machine = machine
        self.peer = peer
        self.tight = tight  # it is full as soon as anything is written
        self.paused = False
        self.gone = False
        self.code: int | None = None
        self.lines: list[str] = []

    def write(self, frames: Iterable[bytes]) -> None:
        for frame in frames:
            assert not self.gone and self.code is None, "nothing to who left"
            assert frame, "a frame holds at least one line"
            self.lines += frame.decode().split("\n")
            if self.tight and not self.paused:
                self.flow(paused=True)

    def close(self, code: int, reason: str) -> None:
        assert not self.gone and self.code is None
        self.code = code
        self.machine.closed.append(self)

    def flow(self, *, paused: bool) -> None:
        """Be full, or take more again."""
        if self.paused is not paused:
            self.paused = paused
            self.machine.room.flow(self.peer)


@dataclass(eq=False)
class Member:
    """One of the model's: what it was to get, and what it did."""

    line: FakeLine
    name: str
    after: int = 0
    place: int = 0  # the number of the last message that it got before this turn
    wanted: list[Happening] = field(default_factory=list)
    faults: int = 0
    renames: int = 0  # since the last sign of life
    told: bool = False  # it is owed an answer to /who
    behind: bool = False  # it reads from the log

    @property
    def entry(self) -> Entry:
        """What it asked for."""
        return self.line.peer.entry

    def script(self) -> list[Any]:
        """Write what it was to get as it would see it."""
        if self.entry.format is Format.JSON:
            return self.wanted
        return [line for event in self.wanted for line in in_text(event)]

    def seen(self) -> list[Any]:
        """Read what it got."""
        if self.entry.format is Format.TEXT:
            return self.line.lines
        events = [json.loads(line) for line in self.line.lines]
        for event in events:
            event.pop("at", None)
        return events

    def reached(self) -> int:
        """Find the number of the last message that it got."""
        got, place = len(self.line.lines), self.after
        for event in self.wanted:
            got -= 1 if self.entry.format is Format.JSON else len(in_text(event))
            if got < 0:
                break
            if event["type"] == "message":
                place = event["seq"]
        return place


def in_text(event: Happening) -> list[str]:
    """Say what a text client sees of an event."""
    match event["type"]:
        case "message":
            return [f"{event['name']}: {part}" for part in event["text"].split("\n")]
        case "joined" | "left" as what:
            return [f"{event['name']} {what} the chat"]
        case "renamed":
            return [f"{event['name']} is now {event['to']}"]
        case "error":
            return [f"* {event['text']}"]
        case "members":
            return [f"* {event['count']} here: {', '.join(event['members'])}"]
        case _:
            return []


@dataclass(frozen=True)
class Ask:
    """One line that a client sends, in either format, and what it means."""

    kind: str  # say, members, name, ping, or the code of an error
    text: str = ""
    id: str | None = None


SHORT = [name for name in NAMES if len(name) < 10]  # which no suffix cuts
IDS = st.sampled_from((None, "a", "b"))
ASKS = st.one_of(
    st.builds(Ask, st.just("say"), st.sampled_from(("hi", "hi", "日本", "x" * LIMIT)), IDS),
    st.builds(Ask, st.just("say"), st.just("two\nlines"), IDS),
    st.builds(Ask, st.just("name"), st.sampled_from(SHORT), IDS),
    st.builds(Ask, st.sampled_from(("members", "ping")), st.just(""), IDS),
    st.builds(
        *(Ask, st.sampled_from(("too_long", "empty", "bad_type", "bad_text", "bad_name"))),
        *(st.just(""), IDS),
    ),
    st.builds(Ask, st.sampled_from(("bad_json", "bad_id"))),
)
ERRORS = {
    "too_long": f"message is {LIMIT + 1} bytes, limit is {LIMIT}",
    "empty": "message is empty",
    "bad_type": "type is unknown, known are say, members, name and ping",
    "bad_name": "name begins with *",
    "too_often": f"name was changed {RENAMES} times just now, try again in half a minute",
    "bad_text": "text is not a string",
    "bad_json": "line is not JSON",
    "bad_id": "id is not a string of 1 to 64 characters",
}
LINES: dict[str, Happening] = {
    "too_long": {"type": "say", "text": "x" * (LIMIT + 1)},
    "empty": {"type": "say", "text": ""},
    "bad_type": {"type": "dance"},
    "bad_name": {"type": "name", "name": "*"},
    "bad_text": {"type": "say", "text": 1},
    "bad_id": {"type": "say", "text": "x", "id": 7},
}


def in_json(ask: Ask) -> str:
    """Write a line as a JSON client does."""
    if ask.kind == "bad_json":
        return "{"
    line = LINES.get(ask.kind) or {"type": ask.kind, "text": ask.text, "name": ask.text}
    return json.dumps(line if ask.id is None else {"id": ask.id, **line})


class RoomMachine(RuleBasedStateMachine):
    """A real room and the model. What happens waits until the turn, and happens in it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.log = Log(messages=KEPT)
        self.closed: list[FakeLine] = []
        self.closes: list[tuple[Line, CloseCode]] = []
        self.room = MemoryRoom(
            *("lobby", self.log, LIMIT, lambda *what: self.closes.append(what)),
            *(Metrics(), None, lambda: None),
        )
        self.here: list[Member] = []
        self.said: list[tuple[str, Happening]] = []  # by whom: all messages ever, with sources
        self.waiting: list[Callable[[], None]] = []
        self.came = 0
        self.size = 1  # of a turn

    def teardown(self) -> None:
        """Let all read on, and see that everyone has everything."""

        def read_on() -> None:
            for one in self.here:
                one.line.tight = False
                one.line.flow(paused=False)

        try:
            self.waiting.append(read_on)
            self._end_turn()
            assert not any(one.line.paused for one in self.here)
        finally:
            self.loop.close()

    # -- what may happen --

    @initialize(
        who=st.lists(
            st.tuples(st.sampled_from(FORMATS), st.sampled_from(SESSIONS), st.booleans()),
            min_size=3,
            max_size=5,
        )
    )
    def begin(self, who: list[tuple[Format, str | None, bool]]) -> None:
        """A few are here from the start, and how long turns are is not decided yet."""
        for format, session, tight in who:
            entry = Entry("bob", "lobby", 0, None, session, format)
            self._later(lambda entry=entry, tight=tight: self._enter(entry, None, tight))  # type: ignore[misc]
        self.size = 3

    @rule(
        name=st.sampled_from(NAMES),
        session=st.sampled_from(SESSIONS),
        format=st.sampled_from(FORMATS),
        history=st.sampled_from((0, 0, 3, 99)),
        back=st.sampled_from((None, None, 0, 0, 2, 70, 120, -1)),
        known=st.sampled_from((True, True, False)),
        tight=st.sampled_from((False, False, True)),
    )
    def connect(
        self,
        name: str,
        session: str | None,
        format: Format,
        history: int,
        back: int | None,
        known: bool,
        tight: bool,
    ) -> None:
        """Someone comes, perhaps with a cursor: of *back* messages ago, or of another log."""
        cursor = None if back is None else (known, back)
        self._later(
            lambda: self._enter(Entry(name, "lobby", history, None, session, format), cursor, tight)
        )

    @rule(which=WHICH, back=st.sampled_from((0, 0, 1, 3, 70)), tight=st.booleans())
    def come_back(self, which: int, back: int, tight: bool) -> None:
        """Someone takes the place of its own older connection."""
        self._for(which, lambda one: self._enter(one.entry, (True, back), tight))

    @rule(which=WHICH, asks=st.lists(ASKS, min_size=1, max_size=12))
    def receive(self, which: int, asks: list[Ask]) -> None:
        """Someone sends a frame."""
        self._for(which, lambda one: self._receive(one, asks))

    @rule(which=WHICH, many=st.integers(30, 70))
    def flood(self, which: int, many: int) -> None:
        """Someone sends a frame of very many lines."""
        asks = [Ask("say", str(number)) for number in range(many)]
        self._for(which, lambda one: self._receive(one, asks))

    @rule(
        which=WHICH,
        kinds=st.lists(st.sampled_from((*LINES,)), min_size=9, max_size=12)
        | st.lists(st.sampled_from((*LINES, "ping")), min_size=9, max_size=12),
    )
    def err(self, which: int, kinds: list[str]) -> None:
        """Someone's program is broken, or perhaps not."""
        self._for(which, lambda one: self._receive(one, [Ask(kind) for kind in kinds]))

    @rule(which=WHICH, id=st.sampled_from(("a", "b")))
    def say_again(self, which: int, id: str) -> None:
        """Someone says what it may have said before."""
        self._for(which, lambda one: self._receive(one, [Ask("say", "again", id)]))

    @rule(which=WHICH, id=st.sampled_from(("a", "b")), back=st.sampled_from((0, 1)))
    def repeat(self, which: int, id: str, back: int) -> None:
        """Someone says something, is cut, comes back, and says it again."""
        said = [Ask("say", "again", id)]
        self._for(which, lambda one: self._receive(one, said))
        self._for(which, lambda one: self._enter(one.entry, (True, back), False))
        self._for(which, lambda one: self._receive(one, said))

    @rule(which=WHICH)
    def ask(self, which: int) -> None:
        """Someone asks who is here."""
        self._for(which, lambda one: self._receive(one, [Ask("members")]))

    @rule(which=WHICH, names=st.lists(st.sampled_from(SHORT), min_size=1, max_size=14))
    def rename(self, which: int, names: list[str]) -> None:
        """Someone wants to be called otherwise, again and again."""
        self._for(which, lambda one: self._receive(one, [Ask("name", name) for name in names]))

    @rule(which=WHICH, really=st.integers(0, 2))
    def leave(self, which: int, really: int) -> None:
        """Someone's connection is gone."""

        def happen(one: Member) -> None:
            if really != 2:
                return
            self.room.leave(one.line.peer)
            one.line.gone = True
            self._left(one)

        self._for(which, happen)

    @rule(which=WHICH, really=st.integers(0, 3))
    def expel(self, which: int, really: int) -> None:
        """Someone is closed for a fault of its own."""

        def happen(one: Member) -> None:
            if really != 3:
                return
            self.room.expel(one.line.peer, CloseCode.FAULTS, "binary", "no binary")
            self._expelled(one, CloseCode.FAULTS, "binary", "no binary")

        self._for(which, happen)

    @rule(which=WHICH, paused=st.booleans())
    def flow(self, which: int, paused: bool) -> None:
        """Someone reads no more, or reads on."""
        self._for(which, lambda one: one.line.flow(paused=paused))

    @rule()
    def head(self) -> None:
        """It is time for a sign of life."""

        def happen() -> None:
            self.room.head()
            self._all({"type": "head", "seq": len(self.said)})
            for one in self.here:
                one.renames = 0

        self._later(happen)

    @rule(size=st.integers(1, 5))
    def turn(self, size: int) -> None:
        """The turn ends; in each from now on *size* things happen at most."""
        self._end_turn()
        self.size = size

    @rule(really=st.integers(0, 9))
    def stop(self, really: int) -> None:
        """The server stops at the end of a turn, or so the room thinks."""
        if really == 9:
            self.waiting.append(self._stop)
            self._end_turn()

    # -- what the model makes of it --

    def _later(self, happen: Callable[[], None]) -> None:
        self.waiting.append(happen)
        if len(self.waiting) >= self.size:
            self._end_turn()

    def _end_turn(self) -> None:
        lost = self.loop.run_until_complete(self._happen())
        while self.room._due:
            self.loop.run_until_complete(asyncio.sleep(0))
        self._left_behind(lost)
        self._check()

    def _for(self, which: int, happen: Callable[[Member], None]) -> None:
        def whoever() -> None:
            if self.here:
                happen(self.here[which % len(self.here)])

        self._later(whoever)

    def _all(self, event: Happening) -> None:
        for one in self.here:
            one.wanted.append(event)

    def _enter(self, entry: Entry, cursor: tuple[bool, int] | None, tight: bool) -> None:
        since = None
        if cursor is not None:
            known, back = cursor
            since = Cursor(self.log.epoch if known else "other", max(0, len(self.said) - back))
        self.came += 1
        peer = Peer(replace(entry, since=since), entry.session or f"#{self.came}")
        line = FakeLine(self, peer, tight)
        self.room.enter(peer, line)
        self._came(Member(line, peer.name))

    def _came(self, one: Member) -> None:
        entry = one.entry
        ghosts = [
            each for each in self.here if entry.session and each.entry.session == entry.session
        ]
        for ghost in ghosts:
            text = "a newer connection of your session took your place"
            ghost.wanted.append({"type": "error", "code": "replaced", "text": text})
            assert one.name == ghost.name
            self.here[self.here.index(ghost)] = one
            self._closed(ghost, CloseCode.REPLACED)
        if not ghosts:
            assert one.name == self._free(entry.name, one.name)
            self._all({"type": "joined", "name": one.name, "count": len(self.here) + 1})
            self.here.append(one)
        first, head = self._first(), len(self.said)
        since, recovered, missed = entry.since, True, 0
        if since is None:
            one.after = max(first - 1, head - entry.history)
        elif since.epoch != self.log.epoch or since.seq > head:
            one.after, recovered, missed = first - 1, False, None  # type: ignore[assignment]
        else:
            one.after = max(first - 1, since.seq)
            missed = one.after - since.seq
            recovered = not missed
        one.place, one.behind = one.after, one.after < head
        names = [each.name for each in self.here]
        one.wanted.append(
            {
                "type": "welcome",
                "room": "lobby",
                "name": one.name,
                "epoch": self.log.epoch,
                "seq": head,
                "recovered": recovered,
                "missed": missed,
                "count": len(names),
                "members": names,
            }
        )
        one.wanted += [event for _, event in self.said[one.after :]]

    def _free(self, wanted: str, given: str) -> str:
        """Return the name that someone must have got who came as *wanted*."""
        keys = {name_key(each.name) for each in self.here}
        numbers = range(2, len(keys) + 3)
        free = [
            each
            for each in [wanted, *(numbered(wanted, number) for number in numbers)]
            if name_key(each) not in keys
        ]
        if len(wanted) > MAX_NAME - 3 and given != wanted:  # cut: not always the lowest
            return given if given in free else free[0]
        return free[0]

    def _first(self) -> int:
        return max(0, len(self.said) - KEPT) + 1

    def _receive(self, one: Member, asks: list[Ask]) -> None:
        as_json = one.entry.format is Format.JSON
        if not as_json:  # it cannot ask for all of it
            asks = [
                Ask("say", ask.text.replace("\n", " ")) if ask.kind == "say" else Ask(ask.kind)
                for ask in asks
                if ask.kind in ("say", "members", "too_long")
            ]
        words = {"members": "/who", "too_long": "x" * (LIMIT + 1)}
        frame = "\n".join(
            in_json(ask) if as_json else words.get(ask.kind, ask.text) for ask in asks
        )
        self.room.receive(one.line.peer, frame)
        # All of a frame is decided on before any of it happens.
        answers: list[Callable[[], None]] = []
        asked = False
        for ask in asks:
            kind = ask.kind
            if kind == "name":
                one.renames += 1
                kind = "name" if one.renames <= RENAMES else "too_often"
            if kind == "members":
                if not asked:
                    asked = True
                    answers.append(lambda: self._tell_who(one))
            elif kind == "name":
                answers.append(lambda ask=ask: self._renamed(one, ask.text))  # type: ignore[misc]
            elif kind == "ping":
                pong = {"type": "pong"} if ask.id is None else {"type": "pong", "id": ask.id}
                answers.append(lambda pong=pong: one.wanted.append(pong))  # type: ignore[misc]
            elif kind == "say":
                answers.append(lambda ask=ask: self._say(one, ask))  # type: ignore[misc]
            else:
                error = {"type": "error", "code": kind, "text": ERRORS[kind]}
                if ask.id is not None and kind != "bad_json":
                    error["id"] = ask.id
                answers.append(lambda error=error: one.wanted.append(error))  # type: ignore[misc]
                if kind not in ("too_long", "empty", "bad_name", "too_often"):
                    one.faults += 1
                if one.faults == 10:
                    break
                if kind not in ("bad_name", "too_often"):  # which the room finds, not the wire
                    continue
            one.faults = 0
        for answer in answers:
            answer()
        if one.faults == 10:
            self._expelled(one, CloseCode.FAULTS, "faults", "10 faults in a row")

    def _tell_who(self, one: Member) -> None:
        if not one.told:
            one.told = True
            names = [each.name for each in self.here]
            one.wanted.append({"type": "members", "count": len(names), "members": names})

    def _renamed(self, one: Member, wanted: str) -> None:
        before, one.name = one.name, ""
        one.name = before if wanted == before else self._free(wanted, before)
        event = {"type": "renamed", "name": before, "to": one.name}
        if one.name == before:
            one.wanted.append(event)
        else:
            self._all(event)

    def _say(self, one: Member, ask: Ask) -> None:
        source = one.line.peer.source
        for before, event in self.said[self._first() - 1 :]:
            if ask.id is not None and (before, event.get("id")) == (source, ask.id):
                if event["seq"] <= one.after:
                    text = f"message was said before, as number {event['seq']}"
                    error = {"type": "error", "code": "duplicate", "text": text, "id": ask.id}
                    one.wanted.append(error)
                return
        event = {"type": "message", "seq": len(self.said) + 1, "name": one.name, "text": ask.text}
        if ask.id is not None:
            event["id"] = ask.id
        self.said.append((source, event))
        self._all(event)

    def _expelled(self, one: Member, code: CloseCode, fault: str, text: str) -> None:
        one.wanted.append({"type": "error", "code": fault, "text": text})
        self._closed(one, code)
        self._left(one)

    def _left(self, one: Member) -> None:
        self.here.remove(one)
        self._all({"type": "left", "name": one.name, "count": len(self.here)})

    def _closed(self, one: Member, code: CloseCode) -> None:
        """Compare what one who was closed got: all, but messages that it had yet to read."""
        assert one.line.code == code
        seen, script = one.seen(), one.script()
        assert seen[-1] == script[-1]
        if one.behind or one.line.paused:
            rest = iter(script)
            assert all(each in rest for each in seen), "nothing else, and in order"
        else:
            assert seen == script

    async def _happen(self) -> list[Member]:
        """Do what waits, and return whom the log leaves behind at the end of the turn."""
        waiting, self.waiting = self.waiting, []
        for happen in waiting:
            happen()
        self.closed.clear()
        return self._lost()

    def _stop(self) -> None:
        lost = self._lost()
        self.closed.clear()
        self.room.stop()
        self._left_behind(lost)
        for one in self.here:
            error = {"type": "error", "code": "stopping", "text": "the server is stopping"}
            one.wanted.append(error)
            self._closed(one, CloseCode.STOPPING)
        self.here.clear()

    def _lost(self) -> list[Member]:
        """List whom the log leaves behind at the end of this turn."""
        first = self._first()
        return [
            one for one in self.here if one.behind and not one.line.paused and one.place + 1 < first
        ]

    def _left_behind(self, lost: list[Member]) -> None:
        """See that those were closed, in whatever order, and nobody else."""
        slow = [line for line in self.closed if line.code == CloseCode.TOO_SLOW]
        assert {one.line for one in lost} == {*slow} and len(lost) == len(slow)
        for one in sorted(lost, key=lambda one: slow.index(one.line)):
            self._expelled(one, CloseCode.TOO_SLOW, "too_slow", "you read too slowly")

    def _check(self) -> None:
        names = [one.name for one in self.here]
        assert names == [peer.name for peer in self.room.room.members()]
        assert len({name_key(name) for name in names}) == len(names) == self.room.clients
        assert (self.log.head, self.log.first) == (len(self.said), self._first())
        assert self.room.behind == sum(one.line.paused for one in self.here)
        for one in self.here:
            seen, script = one.seen(), one.script()
            assert seen == (script[: len(seen)] if one.line.paused else script)
            one.behind = one.line.paused
            one.place = one.reached()
            one.told &= len(seen) < len(script)
            if one.entry.format is Format.JSON and len(seen) == len(script):
                assert roster(seen) == names
                numbers = [event["seq"] for event in seen if event["type"] == "message"]
                assert numbers == [*range(one.after + 1, len(self.said) + 1)], "without gaps"


def roster(seen: list[Happening]) -> list[str]:
    """Find who is here by what one client was told, each time with the right count."""
    names: list[str] = []
    for event in seen:
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
