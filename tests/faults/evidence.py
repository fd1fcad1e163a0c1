"""The evidence: a history by client, by text and by log, for the checker to look things up in.

It judges nothing.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .history import Archived, Heard, History, Record, Said, Welcomed


class Rule(enum.Enum):
    """What can be violated."""

    LOST = "a message did not come to whom it was due"
    DOUBLED = "a message came twice"
    REORDERED = "a message came out of order"
    RENUMBERED = "one number has two messages"
    REPEATED = "one message has two numbers"
    SAID_AGAIN = "an acknowledged message was said again in another log"
    SHUFFLED = "a client's messages are not in the order in which it said them"
    INVENTED = "nobody said it"
    FORGED = "it was another who said it"
    REFUSED = "a message that was refused was said"
    UNTRUTHFUL = "a client was told wrongly what it missed"
    EPOCHS = "a log was lost that should not be"
    ARCHIVE = "the log does not hold what was heard"
    UNANSWERED = "a message was neither acknowledged nor refused"
    PONG = "a pong came before what it was to follow"
    RENAMED = "a client that came back got another name"
    AWAY = "a client could not come back"
    GAVE_UP = "a client gave up"
    COMPLAINED = "a process complained"


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be. *at* is seconds after the beginning."""

    rule: Rule
    client: str  # empty if it is nobody's
    what: str
    at: float = 0.0

    def __str__(self) -> str:
        who = f" by {self.client}" if self.client else ""
        return f"{self.at:8.3f} {self.rule.name}{who}: {self.what}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands under a number of a log."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that a text client gets."""
        return [f"{self.name}: {line}" for line in self.text.splitlines()]


class Evidence:
    """A history, looked at from several sides."""

    def __init__(self, history: History) -> None:
        self.terms = history.terms
        self.clients = history.clients
        self.records = history.records
        self.said: dict[str, tuple[int, Said]] = {}
        self.said_lines: set[str] = set()
        self.of: dict[str, list[tuple[int, Record]]] = {name: [] for name in history.clients}
        self.welcomes: dict[tuple[str, int], Welcomed] = {}
        self.logs: dict[str, dict[int, Entry]] = defaultdict(dict)
        """By epoch and number, as it was first heard, or stood in the archive."""
        self.archive: Archived | None = None
        self.differing: list[Violation] = []
        """Where a number was heard to be another message's as well."""
        for order, record in enumerate(history.records):
            client = getattr(record, "client", None)
            if client is not None:
                self.of[client].append((order, record))
            match record:
                case Said():
                    if record.text in self.said:
                        raise ValueError(f"text is said twice: {record.text[:80]!r}")
                    self.said[record.text] = order, record
                    self.said_lines.update(record.text.splitlines())
                case Welcomed():
                    self.welcomes[record.client, record.connection] = record
                case Heard():
                    welcome = self.welcomes.get((record.client, record.connection))
                    if welcome is not None:
                        entry = Entry(record.name, record.text)
                        self._file(welcome.epoch, record.seq, entry, record.at, record.client)
                case Archived():
                    self.archive = record
                    for seq, name, text in record.entries:
                        self._file(record.epoch, seq, Entry(name, text), record.at, "")
        self.numbers: dict[str, dict[str, list[int]]] = {}
        """By epoch and text."""
        for epoch, log in self.logs.items():
            numbers = self.numbers[epoch] = defaultdict(list)
            for seq in sorted(log):
                numbers[log[seq].text].append(seq)

    def _file(self, epoch: str, seq: int, entry: Entry, at: float, client: str) -> None:
        known = self.logs[epoch].setdefault(seq, entry)
        if known != entry:
            what = f"{seq} of {epoch} is {_short(known)} and {_short(entry)}"
            self.differing.append(Violation(Rule.RENUMBERED, client, what, at))

    def number(self, epoch: str, text: str) -> int | None:
        """Return the first number of *text* in a log."""
        found = self.numbers.get(epoch, {}).get(text)
        return found[0] if found else None

    def heard_at_all(self, text: str) -> bool:
        """Whether anybody heard *text*, in whatever log."""
        return any(self.number(epoch, text) is not None for epoch in self.logs)

    def every(self, *kinds: type[Record]) -> Iterator[tuple[int, Record]]:
        """Go through the records of some kinds, with their places."""
        for order, record in enumerate(self.records):
            if isinstance(record, kinds):
                yield order, record


def _short(entry: Entry) -> str:
    return f"{entry.name}'s {entry.text[:40]!r}"
