"""The rules for clients that receive lines, without numbers: `TEXT` and `PIPE`.

Their lines are compared with the logs, as reconstructed from what the other clients received. A
log, written as lines, is one long list; what a client receives without a gap must be a contiguous
segment of it. If a log was lost with its process, the other clients may have received less of it
than this one. So lines that were published but that no other client received are left out there.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Container, Generator, Iterator
from dataclasses import dataclass, field

from .evidence import Evidence, Rule, Violation
from .history import Kind, Line, Opened

NOT_A_MESSAGE = re.compile(r"\* .*|\S+ (?:joined|left) the chat")
"""Lines that are no message. A message cannot look like one: it starts with a name and a colon."""

GAP_NOTICE = re.compile(r"-- (?:1 message|(\d+) messages) missed --|-- messages may be missing --")
"""What a pipe prints where messages are missing."""


@dataclass(slots=True)
class LogLines:
    """A log, written as lines."""

    lines: list[str]
    places: dict[str, list[int]]  # of each line; several if the log has a message twice
    starts: dict[int, int]  # index of each message's first line -> its number
    ends: dict[int, int]  # index after each message's last line -> its number


@dataclass(slots=True)
class Segment:
    """The lines that a client received without a gap, after a notice that messages are missing."""

    at: float
    missing: int | None = 0  # how many messages; None if unknown
    order: int | None = None  # for a text client: the index in the history of its join
    lines: list[str] = field(default_factory=list)


def log_lines(evidence: Evidence) -> dict[str, LogLines]:
    """Return all logs as lines, by epoch."""
    logs: dict[str, LogLines] = {}
    for epoch, log in evidence.logs.items():
        lines = LogLines([], {}, {}, {0: 0})
        for seq in sorted(log):
            lines.starts[len(lines.lines)] = seq
            for line in log[seq].lines:
                lines.places.setdefault(line, []).append(len(lines.lines))
                lines.lines.append(line)
            lines.ends[len(lines.lines)] = seq
        logs[epoch] = lines
    return logs


def check_lines(evidence: Evidence) -> Iterator[Violation]:
    """Check every client that receives lines."""
    logs = log_lines(evidence)
    for client, kind in evidence.clients.items():
        if kind is Kind.TEXT:
            # Each connection is checked on its own.
            segments: dict[int, Segment] = {}
            for order, record in evidence.by_client[client]:
                if isinstance(record, Opened):
                    segments[record.connection] = Segment(record.at, order=order)
                elif isinstance(record, Line) and not NOT_A_MESSAGE.fullmatch(record.line):
                    segments[record.connection].lines.append(record.line)
            for number, segment in segments.items():
                last = number == max(segments)
                yield from _check(evidence, logs, client, [segment], last=last)
        elif kind is Kind.PIPE:
            yield from _check(evidence, logs, client, _segments(evidence, client), last=True)


def _segments(evidence: Evidence, client: str) -> list[Segment]:
    """Split the output of a pipe where it says that messages are missing."""
    segments = [Segment(0.0)]
    for _, record in evidence.by_client[client]:
        if not isinstance(record, Line) or NOT_A_MESSAGE.fullmatch(record.line):
            continue
        notice = GAP_NOTICE.fullmatch(record.line)
        if notice is None:
            segments[-1].lines.append(record.line)
            continue
        number = None if "may be" in record.line else int(notice[1] or 1)
        if number is not None and segments[-1].missing is not None and not segments[-1].lines:
            segments[-1].missing += number  # two notices without a line between them add up
        else:
            segments.append(Segment(record.at, number))
    return segments


def _check(
    evidence: Evidence,
    logs: dict[str, LogLines],
    client: str,
    segments: list[Segment],
    *,
    last: bool,
) -> Iterator[Violation]:
    """Check the segments that one client received; if *last*, up to the end of the log."""
    epoch, position = "", 0
    current = evidence.archive.epoch if evidence.archive is not None else ""
    for number, segment in enumerate(segments):
        known: dict[str, int] = defaultdict(int)
        for name, log in logs.items():
            known[name] = sum(line in log.places for line in segment.lines)
        if segment.missing and evidence.terms.complete:
            what = f"told that {segment.missing} are missing of a log that keeps all"
            yield Violation(Rule.MISREPORTED, client, what, segment.at)
        if number and segment.missing is None and evidence.terms.durable:
            what = "told that messages may be missing of a durable log"
            yield Violation(Rule.EPOCHS, client, what, segment.at)
        # The log that has the first line; of several, the one that has most lines.
        begun = {name for name, log in logs.items() if log.places.keys() & segment.lines[:1]}
        best = max(known, key=lambda name: (name in begun, known[name], name == epoch), default="")
        if not evidence.terms.durable and not (known.get(best) and best == current):
            # The log is gone, and with it its end, if no client that sees numbers received that.
            # Its lines may be in a later log, if their clients sent the messages again.
            there = logs[best].places if known.get(best) else {}
            segment.lines = [line for line in segment.lines if _is_known(evidence, there, line)]
        if not segment.lines:
            if segment.missing is None:
                epoch, position = "", 0
            continue
        if not known.get(best):
            for line in segment.lines:
                yield _unknown(evidence, client, line, segment.at)
            continue
        log = logs[best]
        first = _first(log, segment)
        if number == 0 or segment.missing is None:
            due = 0 if number and evidence.terms.complete else first
        elif best != epoch:
            yield Violation(
                Rule.MISREPORTED, client, f"{best} follows {epoch} without a notice", segment.at
            )
            due = first
        else:
            due = _after(log, position, segment.missing)
        if due < len(log.lines) and due not in log.starts:
            yield Violation(Rule.LOST, client, f"part of {log.lines[due][:80]!r}", segment.at)
        yield from _check_after_join(evidence, best, client, segment)
        due = yield from _contiguous(evidence, log, client, segment, due)
        epoch = best
        position = due
    archive = evidence.archive
    if last and archive is not None and archive.entries:
        end = logs[archive.epoch]
        if epoch != archive.epoch or position < len(end.lines):
            missing = len(end.lines) - (position if epoch == archive.epoch else 0)
            what = f"{missing} lines at the end, of {archive.epoch}"
            yield Violation(Rule.LOST, client, what, archive.at)


def _is_known(evidence: Evidence, there: Container[str], line: str) -> bool:
    """Whether *line* is *there*, in the log, or was never published and so is invented."""
    return line in there or line.partition(": ")[2] not in evidence.published_lines


def _after(log: LogLines, position: int, missing: int) -> int:
    """Return the index that follows *missing* messages after *position*."""
    seq = log.ends.get(position, 0) + missing
    return next((at for at, number in log.ends.items() if number == seq), len(log.lines))


def _check_after_join(
    evidence: Evidence, epoch: str, client: str, segment: Segment
) -> Iterator[Violation]:
    """Check that a text client received everything that was published after it joined."""
    if segment.order is None:
        return
    log = evidence.logs[epoch]
    received = set(segment.lines)
    first = min((seq for seq, entry in log.items() if received & {*entry.lines}), default=0)
    for seq, entry in log.items():
        order, _ = evidence.published.get(entry.text, (-1, None))
        if order > segment.order and seq < first:
            what = f"{seq} of {epoch}, published after its join, is before its first, {first}"
            yield Violation(Rule.LOST, client, what, segment.at)


def _first(log: LogLines, segment: Segment) -> int:
    """Return the index where *segment* begins; of several, the one that matches most lines."""
    known = [line for line in segment.lines if line in log.places]

    def run(index: int) -> int:
        pairs = zip(known, log.lines[index:], strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(log.places[known[0]], key=run)


def _unknown(evidence: Evidence, client: str, line: str, at: float) -> Violation:
    """Return the violation for a line that is in no log."""
    was_published = line.partition(": ")[2] in evidence.published_lines
    return Violation(Rule.ARCHIVE if was_published else Rule.INVENTED, client, f"{line[:80]!r}", at)


def _contiguous(
    evidence: Evidence, log: LogLines, client: str, segment: Segment, due: int
) -> Generator[Violation, None, int]:
    """Check that *segment* is in *log* from the index *due* on; return the index of its end."""
    received: set[str] = set()
    for line in segment.lines:
        places = log.places.get(line)
        if places is None:
            yield _unknown(evidence, client, line, segment.at)
            continue
        index = due if due in places else places[0]
        if index > due:
            what = f"{index - due} lines before {line[:80]!r}"
            yield Violation(Rule.LOST, client, what, segment.at)
        elif index < due:
            rule = Rule.DOUBLED if line in received else Rule.REORDERED
            yield Violation(rule, client, f"{line[:80]!r}", segment.at)
        received.add(line)
        due = max(due, index + 1)
    return due
