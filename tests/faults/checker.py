"""The checker: whether everyone heard what they were promised.

Theory of operation. A server's promise is about its log, the numbers 1, 2, 3 … of an
epoch, and about what each client sees of it. So the logs are put together first, from
whatever anyone heard under a number and from who reads the whole of it at the end, and
then every client's part is held against them. Nothing is taken from the server's word
that a client did not hear.

*Of the log.* Under one number everyone hears the same message, and a message stands
under one number (in a log that keeps so many messages only, for as far as it reaches).
Each message was said, before it was heard, by the client whose name it bears; a message
that was refused was not. What one session says is numbered in the order in which it was
said; what a client without one says, in the order of a connection.
A message that is said after a client is in has a higher number than that
client's place. What was heard, and so what was acknowledged, stands in the log at the
end. In a house whose log lasts there is one epoch, and so an acknowledged message is
there for ever. In one whose log is memory, a restart, and nothing else, is another
epoch; what was acknowledged in the old one may be gone, and nobody is told that it is
not (`recovered` is false, `missed` null); what has no echo yet is said again, so a
message may stand in both, but not one whose echo its sender had seen.

*Of every client.* It comes back by itself, does not give up, is connected at the end,
has heard the log to its end, and was answered for everything it said (who does not
resend: for everything that it said on its last connection).

*OURS*, our own `Client`, and *PIPE_JSON*, the same as a process: what they show, over
all connections, is number after number without a gap or a repeat, from the place where
they first came in. A gap is where the welcome tells of it and as long as it says, and
another epoch begins where it says so. Their name stays theirs.

*PIPE* is the same without numbers: its lines are a piece of the log written as lines,
with `-- N messages missed --` in the right places.

*APART* knows the protocol from its words only and shares no line of code with ours: a
cursor of its own, ids of its own, all that is unanswered said again at once after the
welcome rather than after a pong. It is promised the same, and since it takes what it
gets, unlike `Conversation`, whatever the server sends twice or leaves out shows here.
So a fault of our server and a fault of our client that heals it cannot hide each other.

*VISITOR* comes without cursor and session: within one connection, all from the
welcome's number on, and before it as much of the past as it asked for.

*TEXT* hears lines only: within one connection a piece of the log without a break, which
begins no later than what is said when its handshake has been answered. Its echo is its
acknowledgement, what a broken connection swallowed is not said again, and
is in the log once or not at all.

A pong comes after everything that was sent before its ping was answered, and a head
tells the number of the last message heard.

*Not promised*, and so not checked: when anything happens, beyond "in the end"; who is
told of whose comings and goings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from .evidence import Evidence, Rule, Violation
from .history import (
    Acknowledged,
    Closed,
    Complained,
    Ended,
    GaveUp,
    Heard,
    History,
    Refused,
    Restarted,
    Said,
    Sent,
    Welcomed,
)
from .lines import check_lines
from .stream import check_stream


def check(history: History) -> list[Violation]:
    """Return everything in *history* that must not be, in the order in which it happened."""
    evidence = Evidence(history)
    found = list(evidence.differing)
    for rule in (_log, _order, _epochs, _again, _late, _archive, _ends, check_lines):
        found += rule(evidence)
    for client, kind in history.clients.items():
        if kind.numbered:
            found += check_stream(evidence, client)
    return sorted(found, key=lambda violation: violation.at)


# -- of the log ------------------------------------------------------------------


def _named(client: str, name: str) -> bool:
    """Whether *name* is what *client* may be called, where its ghost is still about."""
    return name == client or (name.startswith(f"{client}-") and name[len(client) + 1 :].isdigit())


def _log(evidence: Evidence) -> Iterator[Violation]:
    """Each message was said, by whom it says, and stands under one number."""
    refused = {each.text for _, each in evidence.every(Refused) if isinstance(each, Refused)}
    logged: dict[str, list[str]] = defaultdict(list)
    for epoch, log in evidence.logs.items():
        for seq, entry in sorted(log.items()):
            said = evidence.said.get(entry.text)
            what = f"{seq} of {epoch}, {entry.name}'s {entry.text[:40]!r}"
            if said is None:
                yield Violation(Rule.INVENTED, "", what)
                continue
            if not _named(said[1].client, entry.name):
                yield Violation(Rule.FORGED, said[1].client, what, said[1].at)
            if entry.text in refused:
                yield Violation(Rule.REFUSED, said[1].client, what, said[1].at)
            first = evidence.number(epoch, entry.text) or seq
            if first != seq and seq - first <= (evidence.terms.reach or seq):
                yield Violation(Rule.REPEATED, said[1].client, what, said[1].at)
            elif logged[entry.text] and not evidence.clients[said[1].client].returns:
                what += f", and of {', '.join(logged[entry.text])}"
                yield Violation(Rule.REPEATED, said[1].client, what, said[1].at)
            logged[entry.text].append(epoch)
    for order, each in evidence.every(Heard):
        assert isinstance(each, Heard)
        if each.text in evidence.said and evidence.said[each.text][0] > order:
            what = f"{each.text[:40]!r} before it was said"
            yield Violation(Rule.INVENTED, each.client, what, each.at)


def _order(evidence: Evidence) -> Iterator[Violation]:
    """What one session says, or else one connection, is numbered in that order."""
    spoken: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for _, each in evidence.every(Said, Sent):
        if isinstance(each, Said) and evidence.clients[each.client].returns:
            spoken[each.client, 0].setdefault(each.text, each.at)
        elif isinstance(each, Sent) and not evidence.clients[each.client].returns:
            spoken[each.client, each.connection].setdefault(each.text, each.at)
    for epoch in evidence.logs:
        for (client, _), texts in spoken.items():
            highest = 0
            for text, at in texts.items():
                seq = evidence.number(epoch, text)
                if seq is None:
                    continue
                if seq < highest:
                    what = f"{text[:40]!r} is {seq} of {epoch}, what it said before is {highest}"
                    yield Violation(Rule.SHUFFLED, client, what, at)
                highest = max(highest, seq)


def _epochs(evidence: Evidence) -> Iterator[Violation]:
    """A log is lost by a restart only, and if it lasts not even so."""
    first: dict[str, Welcomed] = {}
    for _, each in evidence.every(Welcomed):
        assert isinstance(each, Welcomed)
        first.setdefault(each.epoch, each)
    restarts = sum(1 for _ in evidence.every(Restarted))
    allowed = 1 if evidence.terms.lasting else 1 + restarts
    for welcome in list(first.values())[allowed:]:
        what = f"{welcome.epoch} is log {len(first)}, after {restarts} restarts"
        yield Violation(Rule.EPOCHS, welcome.client, what, welcome.at)


def _again(evidence: Evidence) -> Iterator[Violation]:
    """What a client saw acknowledged it does not say again in a later log."""
    came: dict[tuple[str, str], int] = {}
    for order, each in evidence.every(Welcomed):
        assert isinstance(each, Welcomed)
        came.setdefault((each.client, each.epoch), order)
    for order, each in evidence.every(Acknowledged):
        assert isinstance(each, Acknowledged)
        for epoch in evidence.logs:
            later = came.get((each.client, epoch), -1) > order
            if later and evidence.number(epoch, each.text) is not None:
                what = f"{each.text[:40]!r} in {epoch}"
                yield Violation(Rule.SAID_AGAIN, each.client, what, each.at)


def _late(evidence: Evidence) -> Iterator[Violation]:
    """What is said after a client came in has a number after the client's place."""
    for epoch, log in evidence.logs.items():
        spoken = [
            evidence.said[each.text][0] for each in log.values() if each.text in evidence.said
        ]
        lowest: dict[int, int] = {}  # by place in the history, of what is said from there on
        low = max(log, default=0) + 1
        for order in sorted(spoken, reverse=True):
            said = evidence.records[order]
            assert isinstance(said, Said)
            low = min(low, evidence.number(epoch, said.text) or low)
            lowest[order] = low
        places = sorted(lowest)
        index = 0
        for order, each in evidence.every(Welcomed):
            assert isinstance(each, Welcomed)
            while index < len(places) and places[index] < order:
                index += 1
            if each.epoch == epoch and index < len(places) and lowest[places[index]] <= each.seq:
                what = f"{lowest[places[index]]} of {epoch} was said after a welcome at {each.seq}"
                yield Violation(Rule.LOST, each.client, what, each.at)


def _archive(evidence: Evidence) -> Iterator[Violation]:
    """What was heard or acknowledged is in the log at the end."""
    archive = evidence.archive
    held = {} if archive is None else {seq: text for seq, _, text in archive.entries}
    if archive is not None:
        first = 1 if evidence.terms.complete else min(held, default=1)
        last = max(held, default=0)
        for seq in range(first, last + 1):
            if seq not in held:
                yield Violation(Rule.ARCHIVE, "", f"{seq} is not in it", archive.at)
        for seq, entry in sorted(evidence.logs[archive.epoch].items()):
            if seq > last:
                what = f"{seq}, {entry.text[:40]!r}, was heard, and it ends at {last}"
                yield Violation(Rule.ARCHIVE, "", what, archive.at)
    for _, each in evidence.every(Acknowledged):
        assert isinstance(each, Acknowledged)
        if not (evidence.terms.lasting or evidence.clients[each.client].numbered):
            continue  # its log may have died before anyone else heard of it
        lasting = archive is not None and evidence.terms.lasting and evidence.terms.complete
        if lasting and archive is not None:
            there = evidence.number(archive.epoch, each.text) in held
        else:
            there = evidence.heard_at_all(each.text)
        if not there and evidence.terms.complete:
            what = f"{each.text[:40]!r} was acknowledged, and is in no log"
            yield Violation(Rule.ARCHIVE, each.client, what, each.at)


# -- of every client ---------------------------------------------------------------


def _ends(evidence: Evidence) -> Iterator[Violation]:
    """Nobody gives up, nobody stays away, nobody waits for an answer, nothing complains."""
    for client, kind in evidence.clients.items():
        owed: dict[str, float] = {}
        connected, at = True, 0.0
        for _, each in evidence.of[client]:
            match each:
                case GaveUp():
                    yield Violation(Rule.GAVE_UP, client, each.reason, each.at)
                case Said() if kind.returns:
                    owed[each.text] = each.at
                case Sent() if not kind.returns:
                    owed[each.text] = each.at
                case Closed() if not kind.returns:
                    owed.clear()
                case Acknowledged() | Refused():
                    owed.pop(each.text, None)
                case Ended():
                    connected, at = each.connected, each.at
        if not connected:
            yield Violation(Rule.AWAY, client, "it is not connected at the end", at)
        if evidence.archive is not None:
            for text, said in owed.items():
                yield Violation(Rule.UNANSWERED, client, f"{text[:40]!r}", said)
    for _, each in evidence.every(Complained):
        assert isinstance(each, Complained)
        yield Violation(Rule.COMPLAINED, "", each.text, each.at)
