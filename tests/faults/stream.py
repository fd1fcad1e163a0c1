"""The rules for clients that see numbers: what each receives is one number after the other."""

from __future__ import annotations

from collections.abc import Iterator

from .evidence import Evidence, Rule, Violation
from .history import (
    Acknowledged,
    Closed,
    HeartbeatReceived,
    Kind,
    Opened,
    PingSent,
    PongReceived,
    Received,
    Rejected,
    Sent,
    Welcomed,
)

STOPPING_CODE = 4001
"""The close code of a server that stops."""


def check_stream(evidence: Evidence, client: str) -> Iterator[Violation]:
    """Check everything that a client that sees numbers received."""
    stream = Stream(evidence, client)
    for _, each in evidence.by_client[client]:
        match each:
            case Welcomed():
                yield from stream.check_welcome(each)
            case Received():
                yield from stream.check_message(each)
            case HeartbeatReceived():
                yield from stream.check_heartbeat(each)
            case Sent() if each.text not in stream.answered:
                stream.sent[each.connection, each.text] = True
            case Acknowledged() | Rejected():
                stream.answered.add(each.text)
                stream.sent.pop((each.connection, each.text), None)
            case PingSent():
                stream.pings[each.connection, each.id] = [
                    text for connection, text in stream.sent if connection == each.connection
                ]
            case PongReceived():
                yield from stream.check_pong(each)
            case Opened() | Closed():
                stream.sent.clear()
                if isinstance(each, Closed) and each.code == STOPPING_CODE:
                    yield from stream.check_stopped(each)
    archive = evidence.archive
    if archive is not None and (stream.epoch, stream.seq) != (
        archive.epoch,
        max((seq for seq, *_ in archive.entries), default=0),
    ):
        what = f"it ends at {stream.seq} of {stream.epoch}, not at the end of {archive.epoch}"
        yield Violation(Rule.LOST, client, what, archive.at)


class Stream:
    """The position of a client in the log, as it follows from what it received."""

    def __init__(self, evidence: Evidence, client: str) -> None:
        self.epoch = ""
        self.seq = 0
        self.sent: dict[tuple[int, str], bool] = {}  # on which connection, and not answered yet
        self.answered: set[str] = set()  # a resent message gets no second answer
        self.pings: dict[tuple[int, str], list[str]] = {}
        self._terms = evidence.terms
        self._logs = evidence.logs
        self._returns = evidence.clients[client].resumes
        self._client = client
        self._connection = -1
        self._anywhere = False  # the next message may have any number: the log may begin there
        self._welcome = 0
        self._received: set[tuple[str, int]] = set()
        self._keeps_received = evidence.clients[client] is not Kind.STATELESS

    def _violation(self, rule: Rule, what: str, at: float) -> Violation:
        return Violation(rule, self._client, what, at)

    def check_welcome(self, welcome: Welcomed) -> Iterator[Violation]:
        """Process a welcome, which says at which position the client continues."""
        reported = welcome.recovered, welcome.missed
        self._connection, self._anywhere, self._welcome = welcome.connection, False, welcome.seq
        if not self._keeps_received:
            self._received.clear()
        if self._returns and welcome.name != self._client:
            yield self._violation(Rule.RENAMED, f"its name is {welcome.name} now", welcome.at)
        if not self._returns or not self.epoch:
            if reported != (True, 0):
                what = f"told {reported} on its first join"
                yield self._violation(Rule.MISREPORTED, what, welcome.at)
            self.seq = max(0, welcome.seq - welcome.asked)
            self._anywhere = bool(welcome.asked) and not self._terms.complete
        elif welcome.epoch != self.epoch or welcome.missed is None:
            if reported != (False, None):
                what = f"told {reported} although the log was a new one"
                yield self._violation(Rule.MISREPORTED, what, welcome.at)
            if welcome.epoch == self.epoch:
                what = f"the log was set back from {self.seq} to {welcome.seq}"
                yield self._violation(Rule.EPOCHS, what, welcome.at)
            self.seq, self._anywhere = 0, not self._terms.complete
        else:
            if welcome.recovered != (welcome.missed == 0):
                what = f"told recovered {welcome.recovered} with {welcome.missed} missed"
                yield self._violation(Rule.MISREPORTED, what, welcome.at)
            elif welcome.missed and self._terms.complete:
                what = f"told that {welcome.missed} are missing of a log that keeps all"
                yield self._violation(Rule.MISREPORTED, what, welcome.at)
            self.seq += welcome.missed
            if welcome.seq < self.seq:
                what = f"welcomed at {welcome.seq}, but was at {self.seq}"
                yield self._violation(Rule.MISREPORTED, what, welcome.at)
        self.epoch = welcome.epoch

    def check_message(self, message: Received) -> Iterator[Violation]:
        """Process a message, which must have the next number."""
        if message.connection != self._connection:
            what = f"{message.seq} arrived before a welcome"
            yield self._violation(Rule.REORDERED, what, message.at)
        what = f"{message.seq} of {self.epoch} after {self.seq}"
        if message.seq > self.seq + 1 and not self._anywhere:
            yield self._violation(Rule.LOST, f"{what}, nothing between", message.at)
        elif message.seq <= self.seq:
            repeated = (self.epoch, message.seq) in self._received
            yield self._violation(Rule.DOUBLED if repeated else Rule.REORDERED, what, message.at)
        self._anywhere = False
        self._received.add((self.epoch, message.seq))
        self.seq = max(self.seq, message.seq)

    def check_heartbeat(self, heartbeat: HeartbeatReceived) -> Iterator[Violation]:
        """Process a heartbeat, which must have the number of the last message."""
        if heartbeat.seq > self.seq:
            what = f"a heartbeat has {heartbeat.seq} after {self.seq} of {self.epoch}"
            yield self._violation(Rule.LOST, what, heartbeat.at)
        elif heartbeat.seq < self.seq:
            what = f"a heartbeat has {heartbeat.seq} after {self.seq} of {self.epoch}"
            yield self._violation(Rule.MISREPORTED, what, heartbeat.at)

    def check_stopped(self, closed: Closed) -> Iterator[Violation]:
        """Process a close by a server that stops, which finishes what it has begun.

        If the log is in memory, nothing is told about it later. A client that was behind for
        half of the server's grace period may be cut, which only happens under a flood.
        """
        if closed.connection != self._connection:  # it came too late to be welcomed
            return
        last = max(self._logs.get(self.epoch, {}), default=0)
        if not (self._terms.durable or self._terms.floods) and self.seq < last:
            what = f"closed at {self.seq} of {self.epoch}, which ended at {last}"
            yield self._violation(Rule.LOST, what, closed.at)

    def check_pong(self, pong: PongReceived) -> Iterator[Violation]:
        """Process a pong, which must follow all events that were due before it."""
        if self.seq < self._welcome:
            what = f"at {self.seq} of a replay to {self._welcome}"
            yield self._violation(Rule.PONG, what, pong.at)
        for text in self.pings.pop((pong.connection, pong.id), []):
            if (pong.connection, text) in self.sent:
                yield self._violation(Rule.PONG, f"before {text[:40]!r}", pong.at)
