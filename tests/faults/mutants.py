"""Mutants: the real server with one planted fault, in a process of its own, for the checker.

`command` returns a command that changes one function of the server and runs its command line as
usual. Each mutant breaks a promise now and then, as a real fault would: for one message in fifty,
or only after a restart. `Mutant.rules` are those that the checker may report for it.

``python -m benchmarks.chaos --mutants`` plays each of them until it is detected.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broadcast_server.cli.main import main
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Event, Left, LogEntry, Message
from broadcast_server.rooms.actions import Action, Send
from broadcast_server.rooms.fanout import Fanout
from broadcast_server.rooms.live_room import LiveRoom
from broadcast_server.rooms.message_log import MessageLog
from broadcast_server.rooms.participant import Participant
from broadcast_server.rooms.room import Room

from .deployment import file_deployment
from .evidence import Rule
from .history import Kind
from .plan import Fault, FaultKind
from .run import Run

CLIENTS = {
    "main": {
        Kind.OURS: 2,
        Kind.INDEPENDENT: 3,
        Kind.TEXT: 1,
        Kind.STATELESS: 1,
        Kind.RESUMER: 5,
    }
}
"""Those of a run against a mutant: fewer that publish than usual, and more that resume."""

RARE = 50
"""A mutant does its harm to one number in so many."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted fault: a function that plants it in this process, and how to detect it.

    *log* is whether the server keeps its log in a file, and *kept_messages* how many, if it is to
    be bounded. *faults* are those of the run, if not any will do.
    """

    plant: Callable[[], None]
    rules: frozenset[Rule]
    log: bool = False
    kept_messages: int | None = None
    faults: tuple[Fault, ...] | None = None


def _skip_at_cursor() -> None:
    """Skip the message after the cursor that a client resumes from, if its number is rare."""
    position = Room._resume_position

    def skip(room: Room, join: JoinRequest) -> tuple[int, bool, int | None]:
        after, recovered, missed = position(room, join)
        if join.since is not None and (after + 1) % RARE == 0 and after < room.log.head:
            after += 1
        return after, recovered, missed

    _patch(Room, "_resume_position", skip)


def _skip_in_replay() -> None:
    """Leave a rare message out of what is read from the log."""
    read = MessageLog.read_after

    def skip(log: MessageLog, seq: int, limit: int) -> list[LogEntry]:
        return [each for each in read(log, seq, limit) if each.seq % RARE or each.seq == log.head]

    _patch(MessageLog, "read_after", skip)


def _skip_in_catch_up() -> None:
    """Leave a rare message out of a chunk, unless it is at an end of it."""
    catch_up = Fanout.catch_up

    def skip(fanout: Fanout, participant: Participant, entries: Sequence[LogEntry]) -> list[bytes]:
        inner = [each for each in entries[1:-1] if each.seq % RARE]
        return catch_up(fanout, participant, [*entries[:1], *inner, *entries[1:][-1:]])

    _patch(Fanout, "catch_up", skip)


def _duplicate_on_resume() -> None:
    """Send the message at a cursor with a rare number once more."""
    position = Room._resume_position

    def repeat(room: Room, join: JoinRequest) -> tuple[int, bool, int | None]:
        after, recovered, missed = position(room, join)
        if join.since is not None and after % RARE == 0 and after > room.log.first:
            after -= 1
        return after, recovered, missed

    _patch(Room, "_resume_position", repeat)


def _swap_in_batch() -> None:
    """Deliver a rare message after the next one."""
    broadcast = Fanout.broadcast
    held: dict[Fanout, Event] = {}

    def swap(fanout: Fanout, event: Event) -> None:
        if isinstance(event, Message) and event.seq % RARE == 0:
            held[fanout] = event
            return
        broadcast(fanout, event)
        if isinstance(event, Message) and fanout in held:
            broadcast(fanout, held.pop(fanout))

    _patch(Fanout, "broadcast", swap)


def _lose_last_before_close() -> None:
    """End one poll in five without the last frame that it should have."""
    write_to = LiveRoom._write_to
    count = 0

    def lose(room: LiveRoom, participant: Participant, payloads: Iterable[bytes]) -> None:
        nonlocal count
        frames = list(payloads)
        count += participant in room._polling
        if participant in room._polling and not count % 5:
            del frames[-1:]
        write_to(room, participant, frames)

    _patch(LiveRoom, "_write_to", lose)


def _wrong_missed() -> None:
    """Tell a client that one message less is missing than really is."""
    position = Room._resume_position

    def lie(room: Room, join: JoinRequest) -> tuple[int, bool, int | None]:
        after, recovered, missed = position(room, join)
        return after, recovered, missed - 1 if missed and missed > 1 else missed

    _patch(Room, "_resume_position", lie)


def _recovered_in_another_log() -> None:
    """Tell a client of another log that it has missed nothing."""
    position = Room._resume_position

    def lie(room: Room, join: JoinRequest) -> tuple[int, bool, int | None]:
        after, recovered, missed = position(room, join)
        if join.since is not None and join.since.epoch != room.log.epoch:
            return after, True, 0
        return after, recovered, missed

    _patch(Room, "_resume_position", lie)


def _lost_leave() -> None:
    """Tell nobody that a member left, one time in ten."""
    disconnect = Room.disconnect
    count = 0

    def lose(room: Room, participant: Participant, code: int | None = None) -> list[Action]:
        nonlocal count
        count += 1
        actions = disconnect(room, participant, code)
        if count % 10:
            return actions
        return [
            each
            for each in actions
            if not (isinstance(each, Send) and isinstance(each.event, Left))
        ]

    _patch(Room, "disconnect", lose)


def _forget_ids_after_restart() -> None:
    """Forget at a restart which ids the log has."""
    restore = MessageLog.restore

    def forget(
        log: MessageLog, epoch: str, head: int, messages: Iterable[tuple[Message, str]]
    ) -> None:
        restore(log, epoch, head, ((replace(each, id=None), "") for each, _ in messages))

    _patch(MessageLog, "restore", forget)


def _wrong_author() -> None:
    """Send a rare message under the name of the member that joined first."""
    deliver = LiveRoom.deliver

    def forge(room: LiveRoom, entry: LogEntry) -> None:
        if isinstance(entry, Message) and entry.seq % RARE == 0:
            entry = replace(entry, name=room.room.members()[0].name)
        deliver(room, entry)

    _patch(LiveRoom, "deliver", forge)


def _patch(owner: type[Any], name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


RESUMING = "independent0", "independent1", "independent2", "ours0", "ours1"
LOST_ECHOES = tuple(
    fault
    for at in (1.0, 4.0, 7.0)
    for fault in (
        *(Fault(at, FaultKind.STALL_DOWN, each, 1.0) for each in RESUMING),
        *(Fault(at + 0.5, FaultKind.RESET, each, 0.0) for each in RESUMING),
        Fault(at + 0.55, FaultKind.KILL, "0", 0.05),
    )
)
"""Several times, all that resend get no echoes, are cut, and the server is killed."""

GAPS = frozenset({Rule.LOST, Rule.REORDERED, Rule.PONG})

MUTANTS = {
    "skip-at-cursor": Mutant(_skip_at_cursor, GAPS, log=True),
    "skip-in-replay": Mutant(_skip_in_replay, GAPS, log=True),
    "skip-in-catch-up": Mutant(_skip_in_catch_up, GAPS, log=True),
    "duplicate-on-resume": Mutant(
        _duplicate_on_resume, frozenset({Rule.DOUBLED, Rule.REORDERED}), log=True
    ),
    "swap-in-batch": Mutant(_swap_in_batch, GAPS | {Rule.DOUBLED}, log=True),
    "lose-last-before-close": Mutant(_lose_last_before_close, GAPS, log=True),
    "wrong-missed": Mutant(_wrong_missed, GAPS | {Rule.MISREPORTED}, kept_messages=60),
    "recovered-in-another-log": Mutant(_recovered_in_another_log, frozenset({Rule.MISREPORTED})),
    "lost-leave": Mutant(_lost_leave, frozenset({Rule.NOTICES}), log=True),
    "forget-ids-after-restart": Mutant(
        _forget_ids_after_restart, frozenset({Rule.REPEATED}), log=True, faults=LOST_ECHOES
    ),
    "wrong-author": Mutant(_wrong_author, frozenset({Rule.FORGED, Rule.RENUMBERED}), log=True),
}


def command(name: str) -> tuple[str, ...]:
    """Return the command that runs the server with the mutant *name*."""
    path = str(Path(__file__).resolve().parent.parent)
    script = f"import sys; sys.path.insert(0, {path!r}); from faults import mutants; mutants.run()"
    return sys.executable, "-W", "error", "-c", script, name


def is_detected(name: str, seed: int, seconds: float = 10.0, resumes: int = 1000) -> bool:
    """Play a run against the mutant *name*, print a line about it, and tell whether it is detected.

    The run ends when its faults are over, *seconds*, and resumers have resumed *resumes* times.
    """
    mutant = MUTANTS[name]
    options: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if mutant.log:
            options += ["--log", str(Path(folder, "log"))]
        if mutant.kept_messages is not None:
            options += ["--log-messages", str(mutant.kept_messages)]
        deployment = file_deployment(
            command(name), *options, durable=mutant.log, kept_messages=mutant.kept_messages
        )
        with deployment as running:
            # Waiting longer is useless where the mutant has dropped what is waited for.
            playing = Run(
                running,
                seed,
                seconds,
                clients=CLIENTS,
                faults=mutant.faults,
                pause=0.1,
                timeout=20.0,
                resumes=resumes,
            )
            result = asyncio.run(playing.play())
    found = [each for each in result.violations if each.rule in mutant.rules]
    figures = f"{result.figures.resumes} resumes with {result.figures.replayed} messages"
    first = f"{len(found)} violations, first {found[0]}" if found else "NOT DETECTED"
    print(f"{name}: {figures}, {first}", flush=True)  # noqa: T201  # it is the result
    return bool(found)


def run() -> None:
    """Plant the mutant that the first argument names, and run the command line with the others."""
    MUTANTS[sys.argv.pop(1)].plant()
    sys.exit(main())
