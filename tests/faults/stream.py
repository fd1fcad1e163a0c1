"""The stream: what a client that sees numbers heard, one number after the other."""

from __future__ import annotations

from collections.abc import Iterator

from .evidence import Evidence, Rule, Violation
from .history import (
    Acknowledged,
    Closed,
    Headed,
    Heard,
    Kind,
    Opened,
    Pinged,
    Ponged,
    Refused,
    Sent,
    Welcomed,
)


def check_stream(evidence: Evidence, client: str) -> Iterator[Violation]:
    """Check what a client that sees numbers heard, one number after the other."""
    stream = Stream(evidence, client)
    for _, each in evidence.of[client]:
        match each:
            case Welcomed():
                yield from stream.welcomed(each)
            case Heard():
                yield from stream.heard(each)
            case Headed():
                yield from stream.headed(each)
            case Sent() if each.text not in stream.answered:
                stream.sent[each.connection, each.text] = True
            case Acknowledged() | Refused():
                stream.answered.add(each.text)
                stream.sent.pop((each.connection, each.text), None)
            case Pinged():
                stream.pings[each.connection, each.id] = [
                    text for connection, text in stream.sent if connection == each.connection
                ]
            case Ponged():
                yield from stream.ponged(each)
            case Opened() | Closed():
                stream.sent.clear()
    archive = evidence.archive
    if archive is not None and (stream.epoch, stream.seq) != (
        archive.epoch,
        max((seq for seq, *_ in archive.entries), default=0),
    ):
        what = f"it ends at {stream.seq} of {stream.epoch}, not at the end of {archive.epoch}"
        yield Violation(Rule.LOST, client, what, archive.at)


class Stream:
    """Where a client stands in the log."""

    def __init__(self, evidence: Evidence, client: str) -> None:
        self.epoch = ""
        self.seq = 0
        self.sent: dict[tuple[int, str], bool] = {}  # and not answered, on a connection
        self.answered: set[str] = set()  # a repeat of it gets no further answer
        self.pings: dict[tuple[int, str], list[str]] = {}
        self._terms = evidence.terms
        self._returns = evidence.clients[client].returns
        self._client = client
        self._connection = -1
        self._anywhere = False  # the first message may have any number: the log may begin there
        self._welcome = 0
        self._had: set[tuple[str, int]] = set()
        self._once = evidence.clients[client] is not Kind.VISITOR

    def _violation(self, rule: Rule, what: str, at: float) -> Violation:
        return Violation(rule, self._client, what, at)

    def welcomed(self, welcome: Welcomed) -> Iterator[Violation]:
        """Take a welcome, which says from where it goes on."""
        told = welcome.recovered, welcome.missed
        self._connection, self._anywhere, self._welcome = welcome.connection, False, welcome.seq
        if not self._once:
            self._had.clear()
        if self._returns and welcome.name != self._client:
            yield self._violation(Rule.RENAMED, f"it is {welcome.name} now", welcome.at)
        if not self._returns or not self.epoch:
            if told != (True, 0):
                what = f"told {told} when it was new"
                yield self._violation(Rule.UNTRUTHFUL, what, welcome.at)
            self.seq = max(0, welcome.seq - welcome.asked)
            self._anywhere = bool(welcome.asked) and not self._terms.complete
        elif welcome.epoch != self.epoch or welcome.missed is None:
            if told != (False, None):
                what = f"told {told} when the log was another one"
                yield self._violation(Rule.UNTRUTHFUL, what, welcome.at)
            if welcome.epoch == self.epoch:
                what = f"the log was set back from {self.seq} to {welcome.seq}"
                yield self._violation(Rule.EPOCHS, what, welcome.at)
            self.seq, self._anywhere = 0, not self._terms.complete
        else:
            if welcome.recovered != (welcome.missed == 0):
                what = f"told recovered {welcome.recovered} with {welcome.missed} missed"
                yield self._violation(Rule.UNTRUTHFUL, what, welcome.at)
            elif welcome.missed and self._terms.complete:
                what = f"told that {welcome.missed} are missing of a log that is whole"
                yield self._violation(Rule.UNTRUTHFUL, what, welcome.at)
            self.seq += welcome.missed
            if welcome.seq < self.seq:
                what = f"welcomed at {welcome.seq}, and was at {self.seq}"
                yield self._violation(Rule.UNTRUTHFUL, what, welcome.at)
        self.epoch = welcome.epoch

    def heard(self, message: Heard) -> Iterator[Violation]:
        """Take a message, which is to be the next."""
        if message.connection != self._connection:
            what = f"{message.seq} came before a welcome"
            yield self._violation(Rule.REORDERED, what, message.at)
        what = f"{message.seq} of {self.epoch} after {self.seq}"
        if message.seq > self.seq + 1 and not self._anywhere:
            yield self._violation(Rule.LOST, f"{what}, nothing between", message.at)
        elif message.seq <= self.seq:
            double = (self.epoch, message.seq) in self._had
            yield self._violation(Rule.DOUBLED if double else Rule.REORDERED, what, message.at)
        self._anywhere = False
        self._had.add((self.epoch, message.seq))
        self.seq = max(self.seq, message.seq)

    def headed(self, head: Headed) -> Iterator[Violation]:
        """Take a head, which counts what was heard."""
        if head.seq > self.seq:
            what = f"a head says {head.seq} after {self.seq} of {self.epoch}"
            yield self._violation(Rule.LOST, what, head.at)
        elif head.seq < self.seq:
            what = f"a head says {head.seq} after {self.seq} of {self.epoch}"
            yield self._violation(Rule.UNTRUTHFUL, what, head.at)

    def ponged(self, pong: Ponged) -> Iterator[Violation]:
        """Take a pong, which comes after what was due before it."""
        if self.seq < self._welcome:
            what = f"at {self.seq} of a replay to {self._welcome}"
            yield self._violation(Rule.PONG, what, pong.at)
        for text in self.pings.pop((pong.connection, pong.id), []):
            if (pong.connection, text) in self.sent:
                yield self._violation(Rule.PONG, f"before {text[:40]!r}", pong.at)
