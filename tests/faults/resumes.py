"""The rules for a resumer, each of whose connections is a section of the log, and for notices."""

from __future__ import annotations

from collections.abc import Iterator

from .evidence import Evidence, Rule, Violation
from .history import Noticed, Received, Replayed, Resumed, Welcomed

MAX_LISTED = 100
"""A welcome lists no more members than this."""


def check_resumes(evidence: Evidence, client: str) -> Iterator[Violation]:
    """Check that each connection of a resumer received what follows its cursor, without a gap."""
    asked = Resumed(0, client, 0, "", 0, 0)
    welcome: Welcomed | None = None
    seq: int | None = 0  # None if the log may begin anywhere
    for _, each in evidence.by_client[client]:
        match each:
            case Resumed():
                asked, welcome = each, None
            case Welcomed():
                welcome = each
                yield from _check_report(evidence, asked, welcome)
                seq = _start(evidence, asked, welcome)
            case Received() if welcome is not None:
                if seq is not None and each.seq != seq + 1:
                    rule = Rule.LOST if each.seq > seq else Rule.DOUBLED
                    what = f"{each.seq} of {welcome.epoch} after {seq}, resumed at {asked.seq}"
                    yield Violation(rule, client, what, each.at)
                seq = each.seq
            case Replayed() if welcome is not None and (seq or 0) < welcome.seq:
                if seq is not None or evidence.terms.complete:
                    what = f"the replay ends at {seq} of {welcome.epoch}, not at {welcome.seq}"
                    yield Violation(Rule.LOST, client, what, each.at)


def _check_report(evidence: Evidence, asked: Resumed, welcome: Welcomed) -> Iterator[Violation]:
    reported = welcome.recovered, welcome.missed
    if asked.epoch and asked.epoch != welcome.epoch:
        is_right = reported == (False, None)
    elif evidence.terms.complete or not asked.epoch:
        is_right = reported == (True, 0)
    else:
        is_right = welcome.missed is not None and welcome.recovered == (not welcome.missed)
    if not is_right:
        what = f"told {reported} at {asked.seq} of {asked.epoch or 'nothing'} in {welcome.epoch}"
        yield Violation(Rule.MISREPORTED, welcome.client, what, welcome.at)


def _start(evidence: Evidence, asked: Resumed, welcome: Welcomed) -> int | None:
    """Return the number after which the connection receives messages."""
    if asked.epoch == welcome.epoch:
        return asked.seq + (welcome.missed or 0)
    if not evidence.terms.complete:
        return None
    return 0 if asked.epoch else max(0, welcome.seq - asked.asked)


def check_notices(evidence: Evidence, client: str) -> Iterator[Violation]:
    """Check that joins, leaves and renames of one connection agree with its list of members.

    Who reconnects may have missed some of them. On one connection, each has the right number of
    members, and is about somebody who was not there, or was.
    """
    names: set[str] = set()
    connection = 0
    for _, each in evidence.by_client[client]:
        if not isinstance(each, Noticed):
            continue
        if each.kind == "welcome":
            connection, names = each.connection, set(each.names)
        elif each.connection != connection:
            continue
        elif each.kind == "joined":
            yield from _expect(each, not names & {*each.names}, names)
            names |= {*each.names}
        elif each.kind == "left":
            yield from _expect(each, names >= {*each.names}, names)
            names -= {*each.names}
        elif each.kind == "renamed":
            yield from _expect(each, each.names[0] in names, names)
            names = names - {each.names[0]} | {each.names[1]}
        elif each.kind == "members":
            yield from _expect(each, names == {*each.names}, names)
        if each.count is not None and each.count != len(names) and each.count <= MAX_LISTED:
            what = f"{each.kind} {', '.join(each.names)}: {each.count}, known are {sorted(names)}"
            yield Violation(Rule.NOTICES, client, what, each.at)
            names = set()
            connection = -1


def _expect(notice: Noticed, is_right: bool, names: set[str]) -> Iterator[Violation]:
    if not is_right:
        what = f"{notice.kind} {', '.join(notice.names)}, known are {sorted(names)}"
        yield Violation(Rule.NOTICES, notice.client, what, notice.at)
