"""The gate: who may come in."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from broadcast_server.brake import WAITING
from broadcast_server.gate import WELCOME, Answer, Gate, Limits, given_token
from broadcast_server.protocol import CloseCode


def refused(answer: Answer) -> tuple[int, str]:
    """Return the code and the error's code by which someone is refused."""
    assert answer.refusal is not None
    return answer.refusal.code, answer.refusal.error.code


def test_without_a_token_all_may_come() -> None:
    """A gate without a token asks for none, and does not mind one."""
    gate = Gate(None, Limits())
    assert gate.knock("192.0.2.1", None, 0.0) == WELCOME
    assert gate.knock("192.0.2.1", "any", 0.0) == WELCOME


def test_the_right_token_opens() -> None:
    """With a token only who has it comes in, at once."""
    gate = Gate("s3cret", Limits())
    assert gate.knock("192.0.2.1", "s3cret", 0.0) == WELCOME
    assert refused(gate.knock("192.0.2.1", "s3cre", 0.0)) == (CloseCode.SIGN_IN, "token")
    assert refused(gate.knock("192.0.2.1", "gr\u00fc\u00df\ud800", 0.0))[1] == "token"


def test_right_and_wrong_wait_alike() -> None:
    """After failures the right token waits as the wrong one does: silence tells nothing."""
    gate = Gate("s3cret", Limits())
    for _ in range(4):
        gate.knock("192.0.2.1", "no", 0.0)
    assert gate.knock("192.0.2.1", "s3cret", 0.0) == Answer(1.0, None)
    assert gate.knock("192.0.2.1", "no", 0.0).wait == 1.0
    assert gate.knock("192.0.2.2", "s3cret", 0.0) == WELCOME


def test_no_token_is_no_guess() -> None:
    """Who brings none is told so at once, and makes nobody wait."""
    gate = Gate("s3cret", Limits())
    for _ in range(100):
        assert refused(gate.knock("192.0.2.1", None, 0.0)) == (CloseCode.SIGN_IN, "token")
    assert gate.knock("192.0.2.1", "s3cret", 0.0) == WELCOME


def test_guesses_side_by_side_are_turned_away() -> None:
    """When too many of an address wait a further one comes back later, right or wrong."""
    gate = Gate("s3cret", Limits())
    answers = [gate.knock("192.0.2.1", "no", 0.0) for _ in range(WAITING + 2)]
    assert refused(answers[-1]) == (CloseCode.SIGN_IN, "token")
    assert refused(gate.knock("192.0.2.1", "s3cret", 0.0)) == (CloseCode.FULL, "full")
    gate.waited("192.0.2.1")
    assert gate.knock("192.0.2.1", "s3cret", 0.0) == Answer(8.0, None)


def test_limits() -> None:
    """Each limit refuses with its number, and lets in again when someone has left."""
    gate = Gate(None, Limits(clients=3, clients_per_address=2, rooms=2))
    for _ in range(2):
        assert gate.enter("192.0.2.1", 1, new=False) is None
    third = gate.enter("192.0.2.1", 1, new=False)
    assert third is not None and third.error.text == (
        "your address is full with 2 of 2 clients, come back later"
    )
    other = gate.enter("192.0.2.2", 2, new=True)
    assert other is not None and other.error.text == (
        "server is full with 2 of 2 rooms, go to one that there is"
    )
    assert gate.enter("192.0.2.2", 2, new=False) is None
    fourth = gate.enter("192.0.2.3", 1, new=False)
    assert fourth is not None and fourth.error.text == (
        "server is full with 3 of 3 clients, come back later"
    )
    assert gate.enter("192.0.2.1", 1, new=False, again=True) is None
    for _ in range(2):  # its dead connection, and another
        gate.leave("192.0.2.1")
    assert gate.enter("192.0.2.1", 1, new=False) is None


def test_joins_are_limited() -> None:
    """Who comes too often in a second comes back later; this machine itself may."""
    gate = Gate(None, Limits(joins=1))
    answers = [gate.knock("192.0.2.1", None, 0.0) for _ in range(11)]
    assert answers[:10] == [WELCOME] * 10
    assert refused(answers[10]) == (CloseCode.FULL, "full")
    assert all(gate.knock("127.0.0.1", None, 0.0) == WELCOME for _ in range(100))


@pytest.mark.parametrize(
    ("headers", "offered", "token"),
    [
        ({}, [], None),
        ({"authorization": "Bearer s3cret"}, [], "s3cret"),
        ({"authorization": "bearer  s3cret "}, [], "s3cret"),
        ({"authorization": "Basic s3cret"}, [], None),
        ({"authorization": "Bearer"}, [], ""),
        ({}, ["broadcast.v1.json"], None),
        ({}, ["broadcast.v1.json", "bearer.czNjcmV0"], "s3cret"),
        ({"authorization": "Bearer header"}, ["bearer.czNjcmV0"], "header"),
        ({}, ["bearer."], ""),
        ({}, ["bearer.x"], ""),
        ({}, ["bearer._w"], ""),
    ],
)
def test_where_a_token_is(headers: dict[str, str], offered: list[str], token: str | None) -> None:
    """A token is in the Authorization or in a subprotocol; what is none is a wrong one."""
    assert given_token(headers, offered) == token


def test_any_token_fits_into_a_subprotocol() -> None:
    """A token of any length comes through without the padding."""
    for size in range(1, 40):
        token = "~!" * size
        coded = urlsafe_b64encode(token.encode()).decode().rstrip("=")
        assert given_token({}, [f"bearer.{coded}"]) == token


def test_who_says_too_much_without_being_in() -> None:
    """An address has a rate of its own, ten seconds' worth at once, and is told when it is over."""
    gate = Gate(None, Limits(rate=2))
    assert [gate.say("192.0.2.1", 0.0) for _ in range(20)] == [None] * 20
    late = gate.say("192.0.2.1", 0.0)
    assert late is not None and (late.code, late.after) == (CloseCode.FULL, 1.0)
    assert gate.say("192.0.2.1", 0.5) is None
    assert gate.say("192.0.2.2", 0.0) is None
    assert [gate.say("127.0.0.1", 0.0) for _ in range(99)] == [None] * 99
    assert Gate(None, Limits()).say("192.0.2.1", 0.0) is None
