"""The checker: whether every client received what it was promised.

How it works: a server's promise is about its log, which is the numbers 1, 2, 3 ... of an epoch,
and about what each client sees of it. So the checker first reconstructs the logs from every
message that any client received with a number, and from a client that reads the whole log at the
end. Then it compares what each client received with the logs. It believes nothing that a server
says about itself and that no client received.

*The log.* Under one number, every client receives the same message, and a message has one number
(in a log that keeps only some of its messages: as far as it reaches). A message was published
before it was received, by the client whose name it has, and was not rejected. The messages of one
session are numbered in the order in which they were published; without a session, this holds for
each connection. A message that is published after a client has joined has a higher number than
the client's position. A message that was received, and therefore one that was acknowledged, is in
the log at the end. A deployment with a durable log has one epoch, so an acknowledged message stays
for ever. If the log is in memory, a restart (and nothing else) begins a new epoch; messages that
were acknowledged in the old one may be gone, and clients are told that the number is unknown
(`recovered` is false, `missed` null). Clients resend messages without an echo, so a message may be
in both logs, but not one whose echo its sender had received.

*Every client* reconnects by itself, does not give up, is connected at the end, has received the
log to its end, and got an answer to each message it published. (For a client that does not
resend: to each message of its last connection.)

*OURS*, our own `ReconnectingClient`, and *PIPE_JSON*, the same as a process: over all
connections, they show one number after the other without a gap or a repeat, from the position of
their first join. There is a gap only where a welcome reports one, of that size, and another epoch
begins only where a welcome reports it. They keep their names.

*PIPE* is the same without numbers: its lines are a section of the log, written as lines, with
`-- N messages missed --` in the right orders.

*INDEPENDENT* is written from the protocol's document alone and shares no code with our client. It
has its own cursor and ids, and resends all unanswered messages immediately after the welcome, not
after a pong. It is promised the same. Unlike `ClientSession`, it repairs nothing, so a message
that the server repeats or leaves out is visible here. So our client cannot hide a fault of our
server, and our server cannot hide a fault of our client.

*STATELESS* has no cursor and no session. Within one connection, it receives every message from
the welcome's number on, and before that as much of the history as it asked for.

*RESUMER* publishes nothing and resumes all the time: from a cursor up to 150 messages back, or from
one of a log that is gone, with a WebSocket, a session takeover, a stream, a `Last-Event-ID` or a
poll, or with a number of past messages instead. Each of its connections receives one number after
the other from there on, at least to the welcome's number when the replay is over, and is told the
right number of missed messages.

*TEXT* receives lines only: within one connection, a section of the log without a gap, which begins
no later than the first message that is published after its handshake was answered. The echo is
its acknowledgement. It does not resend what a broken connection lost, so such a message is in the
log once or not at all.

A pong follows everything that was sent before the ping was answered, and a heartbeat has the
number of the last message received. Within one connection, joins, leaves and renames agree with
the list of members in the welcome, and have the right number of members.

*Not promised*, and so not checked: when anything happens, beyond "in the end", and which joins and
leaves a client is told of that was away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from .evidence import Evidence, Rule, Violation
from .history import (
    Acknowledged,
    Closed,
    FinalState,
    GaveUp,
    History,
    Kind,
    ProcessFault,
    Published,
    Received,
    Rejected,
    Restarted,
    Sent,
    Welcomed,
)
from .lines import check_lines
from .resumes import check_notices, check_resumes
from .stream import check_stream


def check(history: History) -> list[Violation]:
    """Return the violations in *history*, in the order of time."""
    evidence = Evidence(history)
    violations = list(evidence.conflicts)
    for rule in (
        _check_log,
        _check_order,
        _check_epochs,
        _check_resends,
        _check_positions,
        _check_archive,
        _check_ends,
        check_lines,
    ):
        violations += rule(evidence)
    for client, kind in history.clients.items():
        if kind is Kind.RESUMER:
            violations += check_resumes(evidence, client)
        elif kind.numbered:
            violations += check_stream(evidence, client)
        violations += check_notices(evidence, client)
    return sorted(violations, key=lambda violation: violation.at)


# -- the log ---------------------------------------------------------------------


def _may_be_named(client: str, name: str) -> bool:
    """Whether *name* is the client's own name, or that with a suffix.

    It gets the suffix while a stale connection of its own still has the name.
    """
    return name == client or (name.startswith(f"{client}-") and name[len(client) + 1 :].isdigit())


def _check_log(evidence: Evidence) -> Iterator[Violation]:
    """Check that each message was published by the client it names, and has one number."""
    rejected = {
        each.text for _, each in evidence.records_of(Rejected) if isinstance(each, Rejected)
    }
    logged: dict[str, list[str]] = defaultdict(list)
    for epoch, log in evidence.logs.items():
        for seq, entry in sorted(log.items()):
            publication = evidence.published.get(entry.text)
            what = f"{seq} of {epoch}, {entry.name}'s {entry.text[:40]!r}"
            if publication is None:
                yield Violation(Rule.INVENTED, "", what)
                continue
            if not _may_be_named(publication[1].client, entry.name):
                yield Violation(Rule.FORGED, publication[1].client, what, publication[1].at)
            if entry.text in rejected:
                yield Violation(Rule.REJECTED, publication[1].client, what, publication[1].at)
            first = evidence.seq_of(epoch, entry.text) or seq
            if first != seq and seq - first <= (evidence.terms.kept_messages or seq):
                yield Violation(Rule.REPEATED, publication[1].client, what, publication[1].at)
            elif logged[entry.text] and not evidence.clients[publication[1].client].resumes:
                what += f", and of {', '.join(logged[entry.text])}"
                yield Violation(Rule.REPEATED, publication[1].client, what, publication[1].at)
            logged[entry.text].append(epoch)
    for order, each in evidence.records_of(Received):
        assert isinstance(each, Received)
        if each.text in evidence.published and evidence.published[each.text][0] > order:
            what = f"{each.text[:40]!r} before it was published"
            yield Violation(Rule.INVENTED, each.client, what, each.at)


def _check_order(evidence: Evidence) -> Iterator[Violation]:
    """Check that each session's messages, else each connection's, are numbered in their order."""
    texts_of: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for _, each in evidence.records_of(Published, Sent):
        if isinstance(each, Published) and evidence.clients[each.client].resumes:
            texts_of[each.client, 0].setdefault(each.text, each.at)
        elif isinstance(each, Sent) and not evidence.clients[each.client].resumes:
            texts_of[each.client, each.connection].setdefault(each.text, each.at)
    for epoch in evidence.logs:
        for (client, _), texts in texts_of.items():
            highest = 0
            for text, at in texts.items():
                seq = evidence.seq_of(epoch, text)
                if seq is None:
                    continue
                if seq < highest:
                    what = f"{text[:40]!r} is {seq} of {epoch}, its previous message is {highest}"
                    yield Violation(Rule.SHUFFLED, client, what, at)
                highest = max(highest, seq)


def _check_epochs(evidence: Evidence) -> Iterator[Violation]:
    """Check that only a restart begins a new log, and none if the log is durable."""
    first: dict[str, Welcomed] = {}
    for _, each in evidence.records_of(Welcomed):
        assert isinstance(each, Welcomed)
        first.setdefault(each.epoch, each)
    restarts = sum(1 for _ in evidence.records_of(Restarted))
    allowed = 1 if evidence.terms.durable else 1 + restarts
    for welcome in list(first.values())[allowed:]:
        what = f"{welcome.epoch} is log {len(first)}, after {restarts} restarts"
        yield Violation(Rule.EPOCHS, welcome.client, what, welcome.at)


def _check_resends(evidence: Evidence) -> Iterator[Violation]:
    """Check that no client resends an acknowledged message in a later log."""
    first_welcome: dict[tuple[str, str], int] = {}
    for order, each in evidence.records_of(Welcomed):
        assert isinstance(each, Welcomed)
        first_welcome.setdefault((each.client, each.epoch), order)
    for order, each in evidence.records_of(Acknowledged):
        assert isinstance(each, Acknowledged)
        for epoch in evidence.logs:
            later = first_welcome.get((each.client, epoch), -1) > order
            if later and evidence.seq_of(epoch, each.text) is not None:
                what = f"{each.text[:40]!r} in {epoch}"
                yield Violation(Rule.RESENT, each.client, what, each.at)


def _check_positions(evidence: Evidence) -> Iterator[Violation]:
    """Check that a message published after a join has a number above the joined position."""
    for epoch, log in evidence.logs.items():
        published = [
            evidence.published[each.text][0]
            for each in log.values()
            if each.text in evidence.published
        ]
        # By index in the history: the lowest number of a message that was published from there on.
        lowest: dict[int, int] = {}
        low = max(log, default=0) + 1
        for order in sorted(published, reverse=True):
            publication = evidence.records[order]
            assert isinstance(publication, Published)
            low = min(low, evidence.seq_of(epoch, publication.text) or low)
            lowest[order] = low
        orders = sorted(lowest)
        index = 0
        for order, each in evidence.records_of(Welcomed):
            assert isinstance(each, Welcomed)
            while index < len(orders) and orders[index] < order:
                index += 1
            if each.epoch == epoch and index < len(orders) and lowest[orders[index]] <= each.seq:
                number = lowest[orders[index]]
                what = f"{number} of {epoch} was published after a welcome at {each.seq}"
                yield Violation(Rule.LOST, each.client, what, each.at)


def _check_archive(evidence: Evidence) -> Iterator[Violation]:
    """Check that every message received or acknowledged is in the log at the end."""
    archive = evidence.archive
    logged = {} if archive is None else {seq: text for seq, _, text in archive.entries}
    if archive is not None:
        first = 1 if evidence.terms.complete else min(logged, default=1)
        last = max(logged, default=0)
        for seq in range(first, last + 1):
            if seq not in logged:
                yield Violation(Rule.ARCHIVE, "", f"{seq} is missing", archive.at)
        for seq, entry in sorted(evidence.logs[archive.epoch].items()):
            if seq > last:
                what = f"{seq}, {entry.text[:40]!r}, was received, but the log ends at {last}"
                yield Violation(Rule.ARCHIVE, "", what, archive.at)
    for _, each in evidence.records_of(Acknowledged):
        assert isinstance(each, Acknowledged)
        if not (evidence.terms.durable or evidence.clients[each.client].numbered):
            continue  # its log may have been lost before anyone else received it
        lasting = archive is not None and evidence.terms.durable and evidence.terms.complete
        if lasting and archive is not None:
            there = evidence.seq_of(archive.epoch, each.text) in logged
        else:
            there = evidence.was_received(each.text)
        if not there and evidence.terms.complete:
            what = f"{each.text[:40]!r} was acknowledged, but is in no log"
            yield Violation(Rule.ARCHIVE, each.client, what, each.at)


# -- every client --------------------------------------------------------------------


def _check_ends(evidence: Evidence) -> Iterator[Violation]:
    """Check that all clients are connected and have their answers, and no process failed."""
    for client, kind in evidence.clients.items():
        unanswered: dict[str, float] = {}
        connected, at = True, 0.0
        for _, each in evidence.by_client[client]:
            match each:
                case GaveUp():
                    yield Violation(Rule.GAVE_UP, client, each.reason, each.at)
                case Published() if kind.resumes:
                    unanswered[each.text] = each.at
                case Sent() if not kind.resumes:
                    unanswered[each.text] = each.at
                case Closed() if not kind.resumes:
                    unanswered.clear()
                case Acknowledged() | Rejected():
                    unanswered.pop(each.text, None)
                case FinalState():
                    connected, at = each.connected, each.at
        if not connected:
            yield Violation(Rule.DISCONNECTED, client, "not connected at the end", at)
        if evidence.archive is not None:
            for text, publication in unanswered.items():
                yield Violation(Rule.UNANSWERED, client, f"{text[:40]!r}", publication)
    for _, each in evidence.records_of(ProcessFault):
        assert isinstance(each, ProcessFault)
        yield Violation(Rule.PROCESS_FAULT, "", each.text, each.at)
