"""The checker: for each rule, a history that violates it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from faults.checker import check
from faults.evidence import Rule
from faults.history import (
    Acknowledged,
    Closed,
    FinalState,
    GaveUp,
    HeartbeatReceived,
    History,
    Kind,
    Line,
    LogRead,
    Noticed,
    Opened,
    PingSent,
    PongReceived,
    ProcessFault,
    Published,
    Received,
    Record,
    Rejected,
    Replayed,
    Restarted,
    Resumed,
    Sent,
    Terms,
    Welcomed,
)
from faults.plan import CONNECTION_FAULTS, SERVER_FAULTS, SERVICE_FAULTS, plan

MEMORY, LASTING = Terms(durable=False), Terms(durable=True)
CLIENTS = {
    "ann": Kind.OURS,
    "bob": Kind.INDEPENDENT,
    "val": Kind.STATELESS,
    "tex": Kind.TEXT,
    "pip": Kind.PIPE,
    "rex": Kind.RESUMER,
}


def published(client: str, *texts: str) -> list[Record]:
    """Return records in which *client* publishes *texts*."""
    return [Published(0, client, text) for text in texts]


def joined(
    client: str, seq: int = 0, epoch: str = "E", connection: int = 1, **changes: Any
) -> Record:
    """Return a record in which *client* is welcomed. *changes* replaces fields of the welcome."""
    welcome = Welcomed(0, client, connection, client, epoch, seq, recovered=True, missed=0)
    return replace(welcome, **changes)


def received(client: str, *entries: tuple[int, str], connection: int = 1) -> list[Record]:
    """Return records in which *client* receives messages of ann, as pairs of number and text."""
    return [Received(0, client, connection, seq, "ann", text) for seq, text in entries]


def lines(client: str, *texts: str, connection: int = 0) -> list[Record]:
    """Return records in which *client* receives lines of messages by ann."""
    return [Line(0, client, connection, f"ann: {text}") for text in texts]


def log_read(*texts: str, epoch: str = "E") -> Record:
    """Return the record of the log at the end, which has *texts* by ann."""
    return LogRead(0, epoch, tuple((seq, "ann", text) for seq, text in enumerate(texts, 1)))


def violated_rules(
    *parts: Record | Iterable[Record], terms: Terms = LASTING, clients: str = "ann bob"
) -> set[Rule]:
    """Return the rules that a history violates."""
    records = itertools.chain.from_iterable(
        [part] if not isinstance(part, Iterable) else part for part in parts
    )
    client_kinds = {name: CLIENTS[name] for name in clients.split()}
    return {each.rule for each in check(History(terms, client_kinds, tuple(records)))}


ABC = [(1, "a"), (2, "b"), (3, "c")]
JOINED = [joined("ann"), joined("bob"), *published("ann", "a", "b", "c")]
ANSWERED: list[Record] = [
    *received("ann", *ABC),
    *(Acknowledged(0, "ann", 1, text) for text in "abc"),
]
LOG = log_read("a", "b", "c")
LOST_LOG: dict[str, Any] = {"recovered": False, "missed": None}


def test_a_history_without_violations() -> None:
    """Nothing is reported if all clients receive everything, across cuts and a restart."""
    assert (
        violated_rules(
            JOINED, ANSWERED, received("bob", *ABC), HeartbeatReceived(0, "bob", 1, 3), LOG
        )
        == set()
    )
    back = joined("bob", 3, connection=2)
    halves = [*received("bob", *ABC[:1]), Closed(0, "bob", 1, 1006), back]
    assert (
        violated_rules(JOINED, ANSWERED, halves, received("bob", *ABC[1:], connection=2), LOG)
        == set()
    )
    again = [joined(name, 0, "F", 2, **LOST_LOG) for name in ("ann", "bob")]
    more = [*published("ann", "d"), *received("ann", (1, "d"), connection=2)]
    rest = [*received("bob", (1, "d"), connection=2), Acknowledged(0, "ann", 2, "d")]
    ended = log_read("d", epoch="F")
    assert (
        violated_rules(JOINED, ANSWERED, Restarted(0), again, more, rest, ended, terms=MEMORY)
        == set()
    )


def test_lines_without_violations() -> None:
    """Nothing is reported if lines are a segment of the log, and missing messages are announced."""
    text = [Opened(0, "tex", 1), *lines("tex", "b", connection=1)]
    text += [Line(0, "tex", 1, "* 3 here: x"), *lines("tex", "c", connection=1)]
    base = joined("ann"), published("ann", "a", "b", "c"), ANSWERED
    assert violated_rules(*base, text, LOG, clients="ann tex") == set()
    piped = [*lines("pip", "a"), Line(0, "pip", 0, "-- 1 message missed --"), *lines("pip", "c")]
    bounded = replace(LASTING, kept_messages=2)
    assert violated_rules(*base, piped, LOG, clients="ann pip", terms=bounded) == set()


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (Rule.LOST, [received("bob", ABC[0], ABC[2])]),
        (Rule.LOST, [received("bob", *ABC[:2])]),
        (Rule.LOST, [received("bob", *ABC[:2]), HeartbeatReceived(0, "bob", 1, 3),
                     received("bob", ABC[2])]),
        (Rule.LOST, [received("bob", *ABC[:1]), joined("bob", 3, connection=2)]),
        (Rule.DOUBLED, [received("bob", *ABC, ABC[2])]),
        (Rule.DOUBLED, [received("bob", *ABC), joined("bob", 3, connection=2),
                        received("bob", ABC[2], connection=2)]),
        (Rule.REORDERED, [received("bob", ABC[0], ABC[2], ABC[1])]),
        (Rule.REORDERED, [received("bob", *ABC, connection=2)]),
        (Rule.RENUMBERED, [received("bob", (1, "b"), *ABC[1:])]),
        (Rule.INVENTED, [received("bob", *ABC, (4, "d"))]),
        (Rule.INVENTED, [received("bob", *ABC, (4, "d")), published("ann", "d")]),
        (Rule.FORGED, [published("bob", "d"), received("bob", *ABC, (4, "d"))]),
        (Rule.REPEATED, [received("bob", *ABC, (4, "c"))]),
        (Rule.REJECTED, [received("bob", *ABC), Rejected(0, "ann", 1, "b")]),
        (Rule.SHUFFLED, [received("bob", *ABC), published("ann", "d", "e"),
                         received("bob", (4, "e"), (5, "d"))]),
        (Rule.MISREPORTED, [received("bob", *ABC[:1]), joined("bob", 3, connection=2, missed=1)]),
        (Rule.MISREPORTED, [received("bob", *ABC[:1]),
                           joined("bob", 3, connection=2, missed=1, recovered=False)]),
        (Rule.MISREPORTED, [received("bob", *ABC),
                            joined("bob", 3, connection=2, recovered=False)]),
        (Rule.MISREPORTED, [received("bob", *ABC), joined("bob", 2, connection=2)]),
        (Rule.MISREPORTED, [received("bob", *ABC), HeartbeatReceived(0, "bob", 1, 2)]),
        (Rule.MISREPORTED, [received("bob", *ABC), joined("bob", 0, "F", 2)]),
        (Rule.EPOCHS, [received("bob", *ABC), Restarted(0), joined("bob", 0, "F", 2, **LOST_LOG)]),
        (Rule.EPOCHS, [received("bob", *ABC), joined("bob", 2, connection=2, **LOST_LOG)]),
        (Rule.ARCHIVE, [received("bob", *ABC), published("ann", "d"),
                        Acknowledged(0, "ann", 1, "d")]),
        (Rule.ARCHIVE, [received("bob", *ABC), published("ann", "d"), received("bob", (4, "d"))]),
        (Rule.UNANSWERED, [received("bob", *ABC), published("bob", "d")]),
        (Rule.PONG, [PingSent(0, "bob", 2, "p"), received("bob", *ABC[:1]),
                     joined("bob", 3, connection=2), PongReceived(0, "bob", 2, "p")]),
        (Rule.PONG, [received("bob", *ABC), published("bob", "d"), Sent(0, "bob", 1, "d"),
                     PingSent(0, "bob", 1, "p"), PongReceived(0, "bob", 1, "p")]),
        (Rule.RENAMED, [received("bob", *ABC), joined("bob", 3, connection=2, name="bob-2")]),
        (Rule.DISCONNECTED, [received("bob", *ABC), FinalState(0, "bob", connected=False)]),
        (Rule.GAVE_UP, [received("bob", *ABC), GaveUp(0, "bob", "closed with 4504")]),
        (Rule.PROCESS_FAULT, [received("bob", *ABC), ProcessFault(0, "Traceback")]),
    ],
)  # fmt: skip
def test_each_rule(rule: Rule, parts: list[Record | list[Record]]) -> None:
    """A history that violates a rule is reported."""
    assert rule in violated_rules(JOINED, ANSWERED, *parts, LOG)


def resumed(
    *entries: tuple[int, str], after: int = 0, epoch: str = "E", **changes: Any
) -> list[Record]:
    """Return records in which rex resumes after number *after*, and then receives *entries*."""
    return [
        Resumed(0, "rex", 1, epoch, after, 0),
        joined("rex", 3, **changes),
        *received("rex", *entries),
        Replayed(0, "rex", 1),
    ]


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        (set(), [resumed(*ABC)]),
        (set(), [resumed(*ABC[1:], after=1), resumed(after=3)]),
        (set(), [resumed(*ABC, after=7, epoch="old", **LOST_LOG)]),
        (set(), [Resumed(0, "rex", 1, "", 0, 2), joined("rex", 3), received("rex", *ABC[1:])]),
        ({Rule.LOST}, [resumed(*ABC[1:])]),
        ({Rule.LOST}, [resumed(*ABC[:2])]),
        ({Rule.LOST}, [resumed(ABC[0], ABC[2])]),
        ({Rule.DOUBLED}, [resumed(*ABC, after=1)]),
        ({Rule.MISREPORTED}, [resumed(*ABC, after=7, epoch="old")]),
        ({Rule.MISREPORTED}, [resumed(*ABC, recovered=False)]),
    ],
)  # fmt: skip
def test_a_client_that_resumes_all_the_time(rules: set[Rule], parts: list[Any]) -> None:
    """Each connection of a resumer is checked by itself, from the cursor that it asked for."""
    found = violated_rules(JOINED[:1], JOINED[2:], ANSWERED, *parts, LOG, clients="ann rex")
    assert found == rules


def noticed(kind: str, *names: str, count: int | None = None, connection: int = 1) -> Record:
    """Return the record of a notice that bob receives."""
    return Noticed(0, "bob", connection, kind, names, count)


WELCOMED = noticed("welcome", "ann", "bob", count=2)


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        (set(), [noticed("joined", "carl", count=3), noticed("left", "carl", count=2)]),
        (set(), [noticed("renamed", "ann", "eve"), noticed("left", "eve", count=1)]),
        (set(), [noticed("joined", "carl", count=3), noticed("welcome", "bob", count=1)]),
        ({Rule.NOTICES}, [noticed("joined", "ann", count=2)]),
        ({Rule.NOTICES}, [noticed("joined", "carl", count=4)]),
        ({Rule.NOTICES}, [noticed("left", "carl", count=2)]),
        ({Rule.NOTICES}, [noticed("left", "ann", count=2)]),
        ({Rule.NOTICES}, [noticed("renamed", "carl", "eve")]),
        ({Rule.NOTICES}, [noticed("members", "bob", count=1)]),
    ],
)
def test_joins_and_leaves(rules: set[Rule], parts: list[Record]) -> None:
    """What one connection is told about members agrees with the list in its welcome."""
    history = [JOINED, ANSWERED, WELCOMED, *parts, received("bob", *ABC), LOG]
    assert violated_rules(*history) == rules


def test_a_server_that_stops_finishes_what_it_has_begun() -> None:
    """Who is told that a server with its log in memory stops has received all of that log."""
    log = [*JOINED, *ANSWERED, *received("bob", *ABC[:2])]
    again = [
        Restarted(0),
        joined("ann", 0, "F", 2, **LOST_LOG),
        joined("bob", 0, "F", 2, **LOST_LOG),
    ]
    stopped, cut = Closed(0, "bob", 1, 4001), Closed(0, "bob", 1, 1006)
    late = Closed(0, "bob", 2, 4001)  # a connection that was not welcomed
    assert violated_rules(log, stopped, again, terms=MEMORY) == {Rule.LOST}
    assert violated_rules(log, cut, late, again, terms=MEMORY) == set()
    flooded = replace(MEMORY, floods=True)
    assert violated_rules(log, stopped, again, terms=flooded) == set()


def test_a_log_in_memory_is_lost_by_a_restart_only() -> None:
    """A second epoch needs a restart, and a third epoch another first."""
    again = [joined("bob", 0, "F", 2, **LOST_LOG)]
    assert violated_rules(JOINED, again, clients="ann bob", terms=MEMORY) == {Rule.EPOCHS}
    assert violated_rules(JOINED, Restarted(0), again, terms=MEMORY) == set()
    twice = [*again, joined("bob", 0, "G", 3, **LOST_LOG)]
    assert violated_rules(JOINED, Restarted(0), twice, terms=MEMORY) == {Rule.EPOCHS}


def test_an_acknowledged_message_is_not_resent() -> None:
    """Only messages without an echo in the old log may be resent in a new first."""
    over = [
        Restarted(0),
        joined("ann", 0, "F", 2, **LOST_LOG),
        joined("bob", 0, "F", 2, **LOST_LOG),
    ]
    for text, rules in (("c", {Rule.RESENT}), ("d", set())):
        again = [Received(0, "bob", 2, 1, "ann", text)]
        more = published("ann", "d")
        assert violated_rules(JOINED, ANSWERED, more, over, again, terms=MEMORY) == rules


def test_a_client_that_does_not_resend() -> None:
    """A message of a client that does not resend is in first log only."""
    tex = [
        joined("bob"),
        *published("tex", "a"),
        Received(0, "bob", 1, 1, "tex", "a"),
        Restarted(0),
    ]
    tex += [joined("bob", 0, "F", 2, **LOST_LOG), Received(0, "bob", 2, 1, "tex", "a")]
    assert violated_rules(tex, clients="bob tex", terms=MEMORY) == {Rule.REPEATED}


def test_a_message_after_a_join_has_a_higher_number() -> None:
    """A welcome whose number includes a message that was published later would lose it."""
    late = [joined("val", 1), *published("ann", "a"), *received("bob", (1, "a"))]
    assert violated_rules(joined("ann"), joined("bob"), late, clients="ann bob val") == {Rule.LOST}


def test_a_stateless_client() -> None:
    """A stateless client gets the history it asked for, and is told that it missed nothing."""
    base = joined("ann"), published("ann", "a", "b", "c"), ANSWERED
    val = [joined("val", 3, asked=2), *received("val", *ABC[1:])]
    assert violated_rules(*base, val, LOG, clients="ann val") == set()
    assert violated_rules(*base, val[:1], LOG, clients="ann val") == {Rule.LOST}
    again = [
        *val,
        joined("val", 3, connection=2, asked=2),
        *received("val", *ABC[1:], connection=2),
    ]
    assert violated_rules(*base, again, LOG, clients="ann val") == set()
    lied = [joined("val", 3, recovered=False, missed=1)]
    assert violated_rules(*base, lied, LOG, clients="ann val") == {Rule.MISREPORTED}


@pytest.mark.parametrize(
    ("rule", "received_lines"),
    [
        (Rule.LOST, ["a", "c"]),
        (Rule.LOST, ["a", "b"]),
        (Rule.LOST, []),
        (Rule.DOUBLED, ["a", "b", "b", "c"]),
        (Rule.REORDERED, ["b", "a", "c"]),
        (Rule.INVENTED, ["a", "b", "x", "c"]),
        (Rule.INVENTED, ["x"]),
    ],
)
@pytest.mark.parametrize("client", ["tex", "pip"])
def test_each_rule_in_lines(client: str, rule: Rule, received_lines: list[str]) -> None:
    """The same violations are reported for lines."""
    base = joined("ann"), published("ann", "a", "b", "c"), ANSWERED
    mine = [Opened(0, client, 0), *lines(client, *received_lines)]
    assert rule in violated_rules(*base, mine, LOG, clients=f"ann {client}")


def test_a_text_client_joins_when_its_handshake_is_answered() -> None:
    """It must receive messages that are published after that, but no earlier ones."""
    base = [joined("ann"), *published("ann", "a"), Opened(0, "tex", 1), *published("ann", "b", "c")]
    for texts, rules in (("abc", set()), ("bc", set()), ("c", {Rule.LOST})):
        mine = lines("tex", *texts, connection=1)
        assert violated_rules(base, ANSWERED, mine, LOG, clients="ann tex") == rules


def test_a_log_that_was_lost_before_others_received_it() -> None:
    """Lines of a log that no other client saw are accepted if they were published."""
    base = [joined("ann"), *published("ann", "a", "b\nc"), Opened(0, "tex", 1)]
    over = [Restarted(0), joined("ann", 0, "F", 2, **LOST_LOG), Opened(0, "tex", 2)]
    mine = lines("tex", "a", "b", "c", connection=1)
    last = [*published("ann", "d"), *received("ann", (1, "d"), connection=2)]
    last += [*lines("tex", "d", connection=2), Acknowledged(0, "ann", 2, "d")]
    last += [Rejected(0, "ann", 1, text) for text in ("a", "b\nc")]
    ended = log_read("d", epoch="F")
    dead = violated_rules(base, mine, over, last, ended, clients="ann tex", terms=MEMORY)
    assert dead == set()
    worse = [*mine, *lines("tex", "x", connection=1)]
    invented = violated_rules(base, worse, over, last, ended, clients="ann tex", terms=MEMORY)
    assert invented == {Rule.INVENTED}


def test_lines_of_a_lost_log_that_are_in_the_next_one() -> None:
    """What a client sent again after a restart is in another log than a line of before."""
    base = [joined("ann"), *published("ann", "a", "b", "c"), Opened(0, "tex", 1)]
    base += [*received("ann", (1, "a")), Acknowledged(0, "ann", 1, "a")]
    over = [Restarted(0), joined("ann", 0, "F", 2, **LOST_LOG), Opened(0, "tex", 2)]
    last = [*received("ann", (1, "b"), (2, "c"), connection=2)]
    last += [Acknowledged(0, "ann", 2, "b"), Acknowledged(0, "ann", 2, "c")]
    ended = log_read("b", "c", epoch="F")
    rules: set[Rule]
    for first, second, rules in (
        ("ab", "bc", set()),  # b was published in both logs, and only tex received it in the first
        ("abc", "bc", set()),
        ("a", "b", {Rule.LOST}),
        ("a", "bac", {Rule.ARCHIVE}),
        ("ax", "bc", {Rule.INVENTED}),
    ):
        mine = [*lines("tex", *first, connection=1)], [*lines("tex", *second, connection=2)]
        parts = base, mine[0], over, last, mine[1], ended
        assert violated_rules(*parts, clients="ann tex", terms=MEMORY) == rules, (first, second)


def test_lines_of_a_log_with_repeated_messages() -> None:
    """If a short log has a message twice, lines may be a segment from either place."""
    short = replace(MEMORY, kept_messages=2)
    whole = [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b"), (6, "d")]
    base = [
        joined("ann"),
        joined("bob"),
        *published("ann", "a", "b", "c", "d"),
        Opened(0, "tex", 1),
    ]
    for texts, rules in (("abd", set()), ("abcabd", set()), ("bd", set()), ("acabd", {Rule.LOST})):
        mine = [*received("bob", *whole), *lines("tex", *texts, connection=1)]
        assert violated_rules(base[1:], mine, clients="ann bob tex", terms=short) == rules


def test_a_pipe_that_reports_a_wrong_gap() -> None:
    """A pipe must report exactly the messages that are missing, in the right place."""
    base = joined("ann"), published("ann", "a", "b", "c"), ANSWERED
    bounded = replace(LASTING, kept_messages=2)

    def pipe(*parts: str) -> set[Rule]:
        mine = [
            Line(0, "pip", 0, part if part.startswith("--") else f"ann: {part}") for part in parts
        ]
        return violated_rules(*base, mine, LOG, clients="ann pip", terms=bounded)

    assert pipe("a", "-- 1 message missed --", "c") == set()
    assert pipe("a", "-- 2 messages missed --", "c") == {Rule.REORDERED}
    assert pipe("a", "b", "-- 1 message missed --", "c") == {Rule.REORDERED}
    assert pipe("a", "-- messages may be missing --", "b", "c") == {Rule.EPOCHS}
    whole = [Line(0, "pip", 0, "-- 1 message missed --"), *lines("pip", "a", "b", "c")]
    assert Rule.MISREPORTED in violated_rules(*base, whole, LOG, clients="ann pip")


def test_a_seed_is_a_plan() -> None:
    """A seed determines the plan; faults have existing targets and are in the order of time."""
    first = plan(1, 60, ["a", "b"], 2, services=True)
    assert first == plan(1, 60, ["a", "b"], 2, services=True)
    assert first != plan(2, 60, ["a", "b"], 2, services=True)
    assert [fault.at for fault in first] == sorted(fault.at for fault in first)
    kinds = {fault.kind for seed in range(9) for fault in plan(seed, 60, ["a"], 1)}
    assert kinds == {*CONNECTION_FAULTS, *SERVER_FAULTS}
    assert {fault.kind for fault in first} & set(SERVICE_FAULTS)
    assert {fault.target for fault in first} == {"a", "b", "0", "1", ""}
