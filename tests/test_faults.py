"""The checker of faults: for each rule a history that keeps all but this one."""

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
    Archived,
    Closed,
    Complained,
    Ended,
    GaveUp,
    Headed,
    Heard,
    History,
    Kind,
    Line,
    Opened,
    Pinged,
    Ponged,
    Record,
    Refused,
    Restarted,
    Said,
    Sent,
    Terms,
    Welcomed,
)
from faults.plan import OF_CONNECTIONS, OF_SERVERS, OF_SERVICES, plan

MEMORY, LASTING = Terms(lasting=False), Terms(lasting=True)
WHO = {"ann": Kind.OURS, "bob": Kind.APART, "val": Kind.VISITOR, "tex": Kind.TEXT, "pip": Kind.PIPE}


def said(client: str, *texts: str) -> list[Record]:
    """Let *client* say *texts*."""
    return [Said(0, client, text) for text in texts]


def came(client: str, seq: int = 0, epoch: str = "E", connection: int = 1, **told: Any) -> Record:
    """Let *client* in."""
    welcome = Welcomed(0, client, connection, client, epoch, seq, recovered=True, missed=0)
    return replace(welcome, **told)


def heard(client: str, *entries: tuple[int, str], connection: int = 1) -> list[Record]:
    """Let *client* hear what ann said, under these numbers."""
    return [Heard(0, client, connection, seq, "ann", text) for seq, text in entries]


def lines(client: str, *texts: str, connection: int = 0) -> list[Record]:
    """Let *client* hear lines of ann's."""
    return [Line(0, client, connection, f"ann: {text}") for text in texts]


def archived(*texts: str, epoch: str = "E") -> Record:
    """Let the log be read at the end."""
    return Archived(0, epoch, tuple((seq, "ann", text) for seq, text in enumerate(texts, 1)))


def broken(
    *parts: Record | Iterable[Record], terms: Terms = LASTING, clients: str = "ann bob"
) -> set[Rule]:
    """Return the rules that a history breaks."""
    records = itertools.chain.from_iterable(
        [part] if not isinstance(part, Iterable) else part for part in parts
    )
    who = {name: WHO[name] for name in clients.split()}
    return {each.rule for each in check(History(terms, who, tuple(records)))}


ABC = [(1, "a"), (2, "b"), (3, "c")]
IN = [came("ann"), came("bob"), *said("ann", "a", "b", "c")]
ANSWERED: list[Record] = [
    *heard("ann", *ABC),
    *(Acknowledged(0, "ann", 1, text) for text in "abc"),
]
END = archived("a", "b", "c")
GONE: dict[str, Any] = {"recovered": False, "missed": None}


def test_a_history_in_which_all_is_well() -> None:
    """Nothing is found where everyone hears everything, over breaks and a restart."""
    assert broken(IN, ANSWERED, heard("bob", *ABC), Headed(0, "bob", 1, 3), END) == set()
    back = came("bob", 3, connection=2)
    halves = [*heard("bob", *ABC[:1]), Closed(0, "bob", 1, 1006), back]
    assert broken(IN, ANSWERED, halves, heard("bob", *ABC[1:], connection=2), END) == set()
    again = [came(name, 0, "F", 2, **GONE) for name in ("ann", "bob")]
    more = [*said("ann", "d"), *heard("ann", (1, "d"), connection=2)]
    rest = [*heard("bob", (1, "d"), connection=2), Acknowledged(0, "ann", 2, "d")]
    ended = archived("d", epoch="F")
    assert broken(IN, ANSWERED, Restarted(0), again, more, rest, ended, terms=MEMORY) == set()


def test_those_who_hear_lines_and_all_is_well() -> None:
    """Nothing is found where lines are a piece of the log, and what is missing is told."""
    text = [Opened(0, "tex", 1), *lines("tex", "b", connection=1)]
    text += [Line(0, "tex", 1, "* 3 here: x"), *lines("tex", "c", connection=1)]
    base = came("ann"), said("ann", "a", "b", "c"), ANSWERED
    assert broken(*base, text, END, clients="ann tex") == set()
    piped = [*lines("pip", "a"), Line(0, "pip", 0, "-- 1 message missed --"), *lines("pip", "c")]
    bounded = replace(LASTING, reach=2)
    assert broken(*base, piped, END, clients="ann pip", terms=bounded) == set()


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        (Rule.LOST, [heard("bob", ABC[0], ABC[2])]),
        (Rule.LOST, [heard("bob", *ABC[:2])]),
        (Rule.LOST, [heard("bob", *ABC[:2]), Headed(0, "bob", 1, 3), heard("bob", ABC[2])]),
        (Rule.LOST, [heard("bob", *ABC[:1]), came("bob", 3, connection=2)]),
        (Rule.DOUBLED, [heard("bob", *ABC, ABC[2])]),
        (Rule.DOUBLED, [heard("bob", *ABC), came("bob", 3, connection=2),
                        heard("bob", ABC[2], connection=2)]),
        (Rule.REORDERED, [heard("bob", ABC[0], ABC[2], ABC[1])]),
        (Rule.REORDERED, [heard("bob", *ABC, connection=2)]),
        (Rule.RENUMBERED, [heard("bob", (1, "b"), *ABC[1:])]),
        (Rule.INVENTED, [heard("bob", *ABC, (4, "d"))]),
        (Rule.INVENTED, [heard("bob", *ABC, (4, "d")), said("ann", "d")]),
        (Rule.FORGED, [said("bob", "d"), heard("bob", *ABC, (4, "d"))]),
        (Rule.REPEATED, [heard("bob", *ABC, (4, "c"))]),
        (Rule.REFUSED, [heard("bob", *ABC), Refused(0, "ann", 1, "b")]),
        (Rule.SHUFFLED, [heard("bob", *ABC), said("ann", "d", "e"),
                         heard("bob", (4, "e"), (5, "d"))]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC[:1]), came("bob", 3, connection=2, missed=1)]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC[:1]),
                           came("bob", 3, connection=2, missed=1, recovered=False)]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC), came("bob", 3, connection=2, recovered=False)]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC), came("bob", 2, connection=2)]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC), Headed(0, "bob", 1, 2)]),
        (Rule.UNTRUTHFUL, [heard("bob", *ABC), came("bob", 0, "F", 2)]),
        (Rule.EPOCHS, [heard("bob", *ABC), Restarted(0), came("bob", 0, "F", 2, **GONE)]),
        (Rule.EPOCHS, [heard("bob", *ABC), came("bob", 2, connection=2, **GONE)]),
        (Rule.ARCHIVE, [heard("bob", *ABC), said("ann", "d"), Acknowledged(0, "ann", 1, "d")]),
        (Rule.ARCHIVE, [heard("bob", *ABC), said("ann", "d"), heard("bob", (4, "d"))]),
        (Rule.UNANSWERED, [heard("bob", *ABC), said("bob", "d")]),
        (Rule.PONG, [Pinged(0, "bob", 2, "p"), heard("bob", *ABC[:1]),
                     came("bob", 3, connection=2), Ponged(0, "bob", 2, "p")]),
        (Rule.PONG, [heard("bob", *ABC), said("bob", "d"), Sent(0, "bob", 1, "d"),
                     Pinged(0, "bob", 1, "p"), Ponged(0, "bob", 1, "p")]),
        (Rule.RENAMED, [heard("bob", *ABC), came("bob", 3, connection=2, name="bob-2")]),
        (Rule.AWAY, [heard("bob", *ABC), Ended(0, "bob", connected=False)]),
        (Rule.GAVE_UP, [heard("bob", *ABC), GaveUp(0, "bob", "closed with 4504")]),
        (Rule.COMPLAINED, [heard("bob", *ABC), Complained(0, "Traceback")]),
    ],
)  # fmt: skip
def test_each_rule(rule: Rule, parts: list[Record | list[Record]]) -> None:
    """A history that breaks a rule is found to break it."""
    assert rule in broken(IN, ANSWERED, *parts, END)


def test_a_log_in_memory_is_lost_by_a_restart_only() -> None:
    """Another epoch is a violation without a restart, and after two of one restart."""
    again = [came("bob", 0, "F", 2, **GONE)]
    assert broken(IN, again, clients="ann bob", terms=MEMORY) == {Rule.EPOCHS}
    assert broken(IN, Restarted(0), again, terms=MEMORY) == set()
    twice = [*again, came("bob", 0, "G", 3, **GONE)]
    assert broken(IN, Restarted(0), twice, terms=MEMORY) == {Rule.EPOCHS}


def test_what_was_acknowledged_is_not_said_again() -> None:
    """In a new log stands what had no echo in the old one, and nothing else of it."""
    over = [Restarted(0), came("ann", 0, "F", 2, **GONE), came("bob", 0, "F", 2, **GONE)]
    for text, rules in (("c", {Rule.SAID_AGAIN}), ("d", set())):
        again = [Heard(0, "bob", 2, 1, "ann", text)]
        more = said("ann", "d")
        assert broken(IN, ANSWERED, more, over, again, terms=MEMORY) == rules


def test_what_is_not_said_again_is_there_once() -> None:
    """A message of a client that does not resend is in one log only."""
    tex = [came("bob"), *said("tex", "a"), Heard(0, "bob", 1, 1, "tex", "a"), Restarted(0)]
    tex += [came("bob", 0, "F", 2, **GONE), Heard(0, "bob", 2, 1, "tex", "a")]
    assert broken(tex, clients="bob tex", terms=MEMORY) == {Rule.REPEATED}


def test_what_is_said_to_who_is_in_comes_after_its_place() -> None:
    """A welcome that counts what was said only later would leave that out."""
    late = [came("val", 1), *said("ann", "a"), *heard("bob", (1, "a"))]
    assert broken(came("ann"), came("bob"), late, clients="ann bob val") == {Rule.LOST}


def test_a_visitor_is_new_each_time() -> None:
    """A visitor gets as much of the past as it asked for, and is told that it missed nothing."""
    base = came("ann"), said("ann", "a", "b", "c"), ANSWERED
    val = [came("val", 3, asked=2), *heard("val", *ABC[1:])]
    assert broken(*base, val, END, clients="ann val") == set()
    assert broken(*base, val[:1], END, clients="ann val") == {Rule.LOST}
    again = [*val, came("val", 3, connection=2, asked=2), *heard("val", *ABC[1:], connection=2)]
    assert broken(*base, again, END, clients="ann val") == set()
    lied = [came("val", 3, recovered=False, missed=1)]
    assert broken(*base, lied, END, clients="ann val") == {Rule.UNTRUTHFUL}


@pytest.mark.parametrize(
    ("rule", "heard_lines"),
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
def test_each_rule_in_lines(client: str, rule: Rule, heard_lines: list[str]) -> None:
    """The same is found in what is heard as lines."""
    base = came("ann"), said("ann", "a", "b", "c"), ANSWERED
    mine = [Opened(0, client, 0), *lines(client, *heard_lines)]
    assert rule in broken(*base, mine, END, clients=f"ann {client}")


def test_a_text_client_is_in_when_its_handshake_is_answered() -> None:
    """What is said after that it hears; what was said before it need not hear."""
    base = [came("ann"), *said("ann", "a"), Opened(0, "tex", 1), *said("ann", "b", "c")]
    for texts, rules in (("abc", set()), ("bc", set()), ("c", {Rule.LOST})):
        mine = lines("tex", *texts, connection=1)
        assert broken(base, ANSWERED, mine, END, clients="ann tex") == rules


def test_a_log_that_died_before_others_heard_it() -> None:
    """Of a log that nobody else saw, lines are believed if they were said; else they are not."""
    base = [came("ann"), *said("ann", "a", "b\nc"), Opened(0, "tex", 1)]
    over = [Restarted(0), came("ann", 0, "F", 2, **GONE), Opened(0, "tex", 2)]
    mine = lines("tex", "a", "b", "c", connection=1)
    last = [*said("ann", "d"), *heard("ann", (1, "d"), connection=2)]
    last += [*lines("tex", "d", connection=2), Acknowledged(0, "ann", 2, "d")]
    last += [Refused(0, "ann", 1, text) for text in ("a", "b\nc")]
    ended = archived("d", epoch="F")
    dead = broken(base, mine, over, last, ended, clients="ann tex", terms=MEMORY)
    assert dead == set()
    worse = [*mine, *lines("tex", "x", connection=1)]
    invented = broken(base, worse, over, last, ended, clients="ann tex", terms=MEMORY)
    assert invented == {Rule.INVENTED}


def test_lines_of_a_log_that_has_a_message_twice() -> None:
    """Where what was said is in a short log again, lines are a piece of it from either place."""
    short = replace(MEMORY, reach=2)
    whole = [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b"), (6, "d")]
    base = [came("ann"), came("bob"), *said("ann", "a", "b", "c", "d"), Opened(0, "tex", 1)]
    for texts, rules in (("abd", set()), ("abcabd", set()), ("bd", set()), ("acabd", {Rule.LOST})):
        mine = [*heard("bob", *whole), *lines("tex", *texts, connection=1)]
        assert broken(base[1:], mine, clients="ann bob tex", terms=short) == rules


def test_a_pipe_that_says_wrongly_what_is_missing() -> None:
    """A pipe tells of what is missing where it is missing, as much as it is, and else not."""
    base = came("ann"), said("ann", "a", "b", "c"), ANSWERED
    bounded = replace(LASTING, reach=2)

    def pipe(*parts: str) -> set[Rule]:
        mine = [
            Line(0, "pip", 0, part if part.startswith("--") else f"ann: {part}") for part in parts
        ]
        return broken(*base, mine, END, clients="ann pip", terms=bounded)

    assert pipe("a", "-- 1 message missed --", "c") == set()
    assert pipe("a", "-- 2 messages missed --", "c") == {Rule.REORDERED}
    assert pipe("a", "b", "-- 1 message missed --", "c") == {Rule.REORDERED}
    assert pipe("a", "-- messages may be missing --", "b", "c") == {Rule.EPOCHS}
    whole = [Line(0, "pip", 0, "-- 1 message missed --"), *lines("pip", "a", "b", "c")]
    assert Rule.UNTRUTHFUL in broken(*base, whole, END, clients="ann pip")


def test_a_seed_is_a_plan() -> None:
    """The same seed is the same plan, another another; faults hit whom there is, in order."""
    one = plan(1, 60, ["a", "b"], 2, services=True)
    assert one == plan(1, 60, ["a", "b"], 2, services=True)
    assert one != plan(2, 60, ["a", "b"], 2, services=True)
    assert [fault.at for fault in one] == sorted(fault.at for fault in one)
    troubles = {fault.trouble for seed in range(9) for fault in plan(seed, 60, ["a"], 1)}
    assert troubles == {*OF_CONNECTIONS, *OF_SERVERS}
    assert {fault.trouble for fault in one} & set(OF_SERVICES)
    assert {fault.target for fault in one} == {"a", "b", "0", "1", ""}
