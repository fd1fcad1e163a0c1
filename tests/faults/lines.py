"""The lines: whether those who see no numbers heard what they should.

They are held against the logs as the others know them. What a log holds, written as
lines, is one long list; what is heard without a break must be a piece of it. Of a log
that died with its process the others may know less than who heard its lines; so there
what was said, and is not known, is left out.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from .evidence import Evidence, Rule, Violation
from .history import Kind, Line, Opened

ASIDE = re.compile(r"\* .*|\S+ (?:joined|left) the chat")
"""What is no message. No message can look like it: each has a name and a colon in front."""

TOLD = re.compile(r"-- (?:1 message|(\d+) messages) missed --|-- messages may be missing --")
"""What the pipe prints where something is missing."""


@dataclass(slots=True)
class Written:
    """A log, written as lines."""

    lines: list[str]
    places: dict[str, list[int]]  # of each line; more than one if the log has a message twice
    starts: dict[int, int]  # place -> number, for each message's first line
    ends: dict[int, int]  # place after a message's last line -> its number


@dataclass(slots=True)
class Piece:
    """What was heard without a break, after being told that so much is missing."""

    at: float
    told: int | None = 0  # None: it cannot be known
    order: int | None = None  # place in the history of a text client's coming in
    lines: list[str] = field(default_factory=list)


def written(evidence: Evidence) -> dict[str, Written]:
    """Write all logs as lines."""
    logs: dict[str, Written] = {}
    for epoch, log in evidence.logs.items():
        whole = Written([], {}, {}, {0: 0})
        for seq in sorted(log):
            whole.starts[len(whole.lines)] = seq
            for line in log[seq].lines:
                whole.places.setdefault(line, []).append(len(whole.lines))
                whole.lines.append(line)
            whole.ends[len(whole.lines)] = seq
        logs[epoch] = whole
    return logs


def check_lines(evidence: Evidence) -> Iterator[Violation]:
    """Check all who hear lines."""
    logs = written(evidence)
    for client, kind in evidence.clients.items():
        if kind is Kind.TEXT:
            # Each connection is for itself.
            pieces: dict[int, Piece] = {}
            for order, record in evidence.of[client]:
                if isinstance(record, Opened):
                    pieces[record.connection] = Piece(record.at, order=order)
                elif isinstance(record, Line) and not ASIDE.fullmatch(record.line):
                    pieces[record.connection].lines.append(record.line)
            for number, piece in pieces.items():
                last = number == max(pieces)
                yield from _check(evidence, logs, client, [piece], last=last)
        elif kind is Kind.PIPE:
            yield from _check(evidence, logs, client, _pieces(evidence, client), last=True)


def _pieces(evidence: Evidence, client: str) -> list[Piece]:
    """Cut what a pipe printed where it says that something is missing."""
    pieces = [Piece(0.0)]
    for _, record in evidence.of[client]:
        if not isinstance(record, Line) or ASIDE.fullmatch(record.line):
            continue
        told = TOLD.fullmatch(record.line)
        if told is None:
            pieces[-1].lines.append(record.line)
            continue
        number = None if "may be" in record.line else int(told[1] or 1)
        if number is not None and pieces[-1].told is not None and not pieces[-1].lines:
            pieces[-1].told += number  # it was told of both before anything came
        else:
            pieces.append(Piece(record.at, number))
    return pieces


def _check(
    evidence: Evidence, logs: dict[str, Written], client: str, pieces: list[Piece], *, last: bool
) -> Iterator[Violation]:
    """Check what one client heard as a whole, up to the end of the log if it is its *last*."""
    epoch, place = "", 0
    alive = evidence.archive.epoch if evidence.archive is not None else ""
    for index, piece in enumerate(pieces):
        known: dict[str, int] = defaultdict(int)
        for name, log in logs.items():
            known[name] = sum(line in log.places for line in piece.lines)
        if piece.told and evidence.terms.complete:
            what = f"told that {piece.told} are missing of a log that is whole"
            yield Violation(Rule.UNTRUTHFUL, client, what, piece.at)
        if index and piece.told is None and evidence.terms.lasting:
            what = "told that messages may be missing of a log that lasts"
            yield Violation(Rule.EPOCHS, client, what, piece.at)
        if not evidence.terms.lasting and not _alive(logs, alive, piece):
            piece.lines = [line for line in piece.lines if _is_known(evidence, logs, line)]
        if not piece.lines:
            if piece.told is None:
                epoch, place = "", 0
            continue
        # The log that explains most of it; of equals, the one that we are in.
        found = max(known, key=lambda name: (known[name], name == epoch), default="")
        if not known.get(found):
            for line in piece.lines:
                yield _unknown(evidence, client, line, piece.at)
            continue
        log = logs[found]
        first = _first(log, piece)
        if index == 0 or piece.told is None:
            due = 0 if index and evidence.terms.complete else first
        elif found != epoch:
            yield Violation(Rule.UNTRUTHFUL, client, f"{found} follows {epoch} untold", piece.at)
            due = first
        else:
            due = _after(log, place, piece.told)
        if due < len(log.lines) and due not in log.starts:
            yield Violation(Rule.LOST, client, f"part of {log.lines[due][:80]!r}", piece.at)
        yield from _since(evidence, found, client, piece)
        due = yield from _contiguous(evidence, log, client, piece, due)
        epoch = found
        place = due
    archive = evidence.archive
    if last and archive is not None and archive.entries:
        end = logs[archive.epoch]
        if epoch != archive.epoch or place < len(end.lines):
            missing = len(end.lines) - (place if epoch == archive.epoch else 0)
            what = f"{missing} lines at the end, of {archive.epoch}"
            yield Violation(Rule.LOST, client, what, archive.at)


def _alive(logs: dict[str, Written], alive: str, piece: Piece) -> bool:
    """Whether *piece* may be of the log that is there at the end."""
    last = logs.get(alive)
    return last is not None and any(line in last.places for line in piece.lines)


def _is_known(evidence: Evidence, logs: dict[str, Written], line: str) -> bool:
    """Whether *line* is of any log that others know, or of none, since nobody said it."""
    said = line.partition(": ")[2] in evidence.said_lines
    return not said or any(line in log.places for log in logs.values())


def _after(log: Written, place: int, told: int) -> int:
    """Return the place after which *told* messages after *place* are missing."""
    seq = log.ends.get(place, 0) + told
    return next((at for at, number in log.ends.items() if number == seq), len(log.lines))


def _since(evidence: Evidence, epoch: str, client: str, piece: Piece) -> Iterator[Violation]:
    """Check that a text client heard all that was said after it came in."""
    if piece.order is None:
        return
    log = evidence.logs[epoch]
    heard = set(piece.lines)
    first = min((seq for seq, entry in log.items() if heard & {*entry.lines}), default=0)
    for seq, entry in log.items():
        order, _ = evidence.said.get(entry.text, (-1, None))
        if order > piece.order and seq < first:
            what = f"{seq} of {epoch}, said when it was in, before {first}, its first"
            yield Violation(Rule.LOST, client, what, piece.at)


def _first(log: Written, piece: Piece) -> int:
    """Return where *piece* begins; of several places, the one from which it goes on longest."""
    known = [line for line in piece.lines if line in log.places]

    def run(place: int) -> int:
        pairs = zip(known, log.lines[place:], strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(log.places[known[0]], key=run)


def _unknown(evidence: Evidence, client: str, line: str, at: float) -> Violation:
    """Say what is wrong with a line that is in no log."""
    said = line.partition(": ")[2] in evidence.said_lines
    return Violation(Rule.ARCHIVE if said else Rule.INVENTED, client, f"{line[:80]!r}", at)


def _contiguous(
    evidence: Evidence, log: Written, client: str, piece: Piece, due: int
) -> Generator[Violation, None, int]:
    """Check that *piece* is what stands in *log* from place *due* on; return where it ends."""
    heard: set[str] = set()
    for line in piece.lines:
        places = log.places.get(line)
        if places is None:
            yield _unknown(evidence, client, line, piece.at)
            continue
        place = due if due in places else places[0]
        if place > due:
            what = f"{place - due} lines before {line[:80]!r}"
            yield Violation(Rule.LOST, client, what, piece.at)
        elif place < due:
            rule = Rule.DOUBLED if line in heard else Rule.REORDERED
            yield Violation(rule, client, f"{line[:80]!r}", piece.at)
        heard.add(line)
        due = max(due, place + 1)
    return due
