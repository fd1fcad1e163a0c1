"""The evidence: a history indexed by client, by text and by log, for the rules of the checker."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .history import History, LogRead, Published, Received, Record, Welcomed


class Rule(enum.Enum):
    """The promises that a deployment can break."""

    LOST = "a client did not receive a message that it should have"
    DOUBLED = "a client received a message twice"
    REORDERED = "a client received a message out of order"
    RENUMBERED = "two messages have one number"
    REPEATED = "one message has two numbers"
    RESENT = "an acknowledged message was resent in another log"
    SHUFFLED = "a client's messages are not in the order in which it published them"
    INVENTED = "nobody published the message"
    FORGED = "another client published the message"
    REJECTED = "a rejected message was published"
    MISREPORTED = "a client was told a wrong number of missed messages"
    EPOCHS = "a log was lost without a reason"
    ARCHIVE = "a received message is not in the log"
    UNANSWERED = "a message was neither acknowledged nor rejected"
    PONG = "a pong arrived before an event that it should follow"
    NOTICES = "a client was told a wrong join or leave, or not told of one"
    RENAMED = "a client got another name when it reconnected"
    DISCONNECTED = "a client could not reconnect"
    GAVE_UP = "a client gave up"
    PROCESS_FAULT = "a process printed a traceback or exited with an error"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. *at* is in seconds from the beginning of the run."""

    rule: Rule
    client: str  # empty if no single client is affected
    what: str
    at: float = 0.0

    def __str__(self) -> str:
        who = f" by {self.client}" if self.client else ""
        return f"{self.at:8.3f} {self.rule.name}{who}: {self.what}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a log."""

    name: str
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines that a text client receives for the message."""
        return [f"{self.name}: {line}" for line in self.text.splitlines()]


class Evidence:
    """A history, and indexes of it."""

    def __init__(self, history: History) -> None:
        self.terms = history.terms
        self.clients = history.clients
        self.records = history.records
        self.published: dict[str, tuple[int, Published]] = {}
        self.published_lines: set[str] = set()
        self.by_client: dict[str, list[tuple[int, Record]]] = {name: [] for name in history.clients}
        self.welcomes: dict[tuple[str, int], Welcomed] = {}
        self.logs: dict[str, dict[int, Entry]] = defaultdict(dict)
        """By epoch and number: the message as it was first received, or read at the end."""
        self.archive: LogRead | None = None
        self.conflicts: list[Violation] = []
        """Places where one number was received with two different messages."""
        for order, record in enumerate(history.records):
            client = getattr(record, "client", None)
            if client is not None:
                self.by_client[client].append((order, record))
            match record:
                case Published():
                    if record.text in self.published:
                        raise ValueError(f"text is published twice: {record.text[:80]!r}")
                    self.published[record.text] = order, record
                    self.published_lines.update(record.text.splitlines())
                case Welcomed():
                    self.welcomes[record.client, record.connection] = record
                case Received():
                    welcome = self.welcomes.get((record.client, record.connection))
                    if welcome is not None:
                        entry = Entry(record.name, record.text)
                        self._add(welcome.epoch, record.seq, entry, record.at, record.client)
                case LogRead():
                    self.archive = record
                    for seq, name, text in record.entries:
                        self._add(record.epoch, seq, Entry(name, text), record.at, "")
        self.seqs: dict[str, dict[str, list[int]]] = {}
        """The numbers of a message, by epoch and text."""
        for epoch, log in self.logs.items():
            numbers = self.seqs[epoch] = defaultdict(list)
            for seq in sorted(log):
                numbers[log[seq].text].append(seq)

    def _add(self, epoch: str, seq: int, entry: Entry, at: float, client: str) -> None:
        known = self.logs[epoch].setdefault(seq, entry)
        if known != entry:
            what = f"{seq} of {epoch} is {_described(known)} and {_described(entry)}"
            self.conflicts.append(Violation(Rule.RENUMBERED, client, what, at))

    def seq_of(self, epoch: str, text: str) -> int | None:
        """Return the first number of *text* in a log."""
        seqs = self.seqs.get(epoch, {}).get(text)
        return seqs[0] if seqs else None

    def was_received(self, text: str) -> bool:
        """Whether any client received *text*, in any log."""
        return any(self.seq_of(epoch, text) is not None for epoch in self.logs)

    def records_of(self, *kinds: type[Record]) -> Iterator[tuple[int, Record]]:
        """Yield the records of some kinds, each with its index in the history."""
        for order, record in enumerate(self.records):
            if isinstance(record, kinds):
                yield order, record


def _described(entry: Entry) -> str:
    return f"{entry.name}'s {entry.text[:40]!r}"
