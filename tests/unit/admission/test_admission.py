"""Admission control: which clients may join, which have to wait, and which are rejected."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from broadcast_server.admission.admission import (
    ACCEPTED,
    AdmissionControl,
    AdmissionLimits,
    ClientPlace,
    Decision,
)
from broadcast_server.admission.auth_throttle import MAX_WAITING_PER_ADDRESS
from broadcast_server.admission.place import Place
from broadcast_server.admission.token import Credentials
from broadcast_server.protocol.messages import CloseCode
from broadcast_server.protocol.rejection import Rejection


def codes(decision: Decision) -> tuple[int, str]:
    """Return the close code and the error code of a decision that rejects the client."""
    assert decision.rejection is not None
    return decision.rejection.code, decision.rejection.error.code


def test_without_a_token_every_client_is_accepted() -> None:
    """If the server requires no token, a client may send none or any."""
    admission = AdmissionControl(None, AdmissionLimits())
    assert admission.authenticate("192.0.2.1", Credentials(), 0.0) == ACCEPTED
    assert admission.authenticate("192.0.2.1", Credentials("any"), 0.0) == ACCEPTED


def test_only_the_right_token_is_accepted() -> None:
    """The right token is accepted at once; any other is rejected."""
    admission = AdmissionControl("s3cret", AdmissionLimits())
    assert admission.authenticate("192.0.2.1", Credentials("s3cret"), 0.0) == ACCEPTED
    assert codes(admission.authenticate("192.0.2.1", Credentials("s3cre"), 0.0)) == (
        CloseCode.SIGN_IN,
        "token",
    )
    assert (
        codes(admission.authenticate("192.0.2.1", Credentials("gr\u00fc\u00df\ud800"), 0.0))[1]
        == "token"
    )


def test_right_and_wrong_tokens_wait_equally_long() -> None:
    """After failures the right token waits as long as a wrong one: a delay reveals nothing."""
    admission = AdmissionControl("s3cret", AdmissionLimits())
    for _ in range(4):
        admission.authenticate("192.0.2.1", Credentials("no"), 0.0)
    assert admission.authenticate("192.0.2.1", Credentials("s3cret"), 0.0) == Decision(1.0, None)
    assert admission.authenticate("192.0.2.1", Credentials("no"), 0.0).wait == 1.0
    assert admission.authenticate("192.0.2.2", Credentials("s3cret"), 0.0) == ACCEPTED


def test_a_missing_token_is_not_a_failure() -> None:
    """A client without a token is rejected at once, and delays no later attempt."""
    admission = AdmissionControl("s3cret", AdmissionLimits())
    for _ in range(100):
        assert codes(admission.authenticate("192.0.2.1", Credentials(), 0.0)) == (
            CloseCode.SIGN_IN,
            "token",
        )
    assert admission.authenticate("192.0.2.1", Credentials("s3cret"), 0.0) == ACCEPTED


def test_too_many_waiting_attempts_are_rejected() -> None:
    """If too many attempts of an address wait, a further one is rejected, right or wrong."""
    admission = AdmissionControl("s3cret", AdmissionLimits())
    decisions = [
        admission.authenticate("192.0.2.1", Credentials("no"), 0.0)
        for _ in range(MAX_WAITING_PER_ADDRESS + 2)
    ]
    assert codes(decisions[-1]) == (CloseCode.SIGN_IN, "token")
    assert codes(admission.authenticate("192.0.2.1", Credentials("s3cret"), 0.0)) == (
        CloseCode.FULL,
        "full",
    )
    admission.end_wait("192.0.2.1")
    assert admission.authenticate("192.0.2.1", Credentials("s3cret"), 0.0) == Decision(8.0, None)


def test_limits() -> None:
    """Each limit rejects with its number, and admits again once a client has left."""
    limits = AdmissionLimits(clients=3, clients_per_address=2, rooms=2)
    admission = AdmissionControl(None, limits)
    places = [admission.admit("192.0.2.1", 1, new_room=False) for _ in range(2)]
    over_address = admission.admit("192.0.2.1", 1, new_room=False)
    assert isinstance(over_address, Rejection) and over_address.error.text == (
        "your address is at its limit of 2 clients, try again later"
    )
    over_rooms = admission.admit("192.0.2.2", 2, new_room=True)
    assert isinstance(over_rooms, Rejection) and over_rooms.error.text == (
        "server is at its limit of 2 rooms, join an existing room"
    )
    assert isinstance(admission.admit("192.0.2.2", 2, new_room=False), Place)
    over_server = admission.admit("192.0.2.3", 1, new_room=False)
    assert isinstance(over_server, Rejection) and over_server.error.text == (
        "server is at its limit of 3 clients, try again later"
    )
    assert isinstance(admission.admit("192.0.2.1", 1, new_room=False, takes_over=True), Place)
    for place in places * 2:  # the stale connection that was taken over, and another
        assert isinstance(place, Place)
        place.release()  # once: further calls do nothing
    assert isinstance(admission.admit("192.0.2.1", 1, new_room=False), Place)
    assert isinstance(admission.admit("192.0.2.1", 1, new_room=False), Rejection)


def test_a_place_is_given_back_at_the_end_of_its_block() -> None:
    """A place that is not kept is given back, and so is a kept one if there is an exception."""
    admission = AdmissionControl(None, AdmissionLimits(clients=1))

    def place() -> ClientPlace:
        admitted = admission.admit(None, 1, new_room=False)
        assert isinstance(admitted, Place), "the place before was not given back"
        return admitted

    with place():
        assert isinstance(admission.admit(None, 1, new_room=False), Rejection)
    with suppress(RuntimeError), place() as kept:
        kept.keep()
        raise RuntimeError
    with suppress(asyncio.CancelledError), place():
        raise asyncio.CancelledError
    with place() as kept:
        kept.keep()
    assert isinstance(admission.admit(None, 1, new_room=False), Rejection)
    kept.release()
    place()


def test_joins_are_limited_by_address() -> None:
    """An address that joins too often is rejected for a second; the local machine never is."""
    admission = AdmissionControl(None, AdmissionLimits(joins=1))
    decisions = [admission.authenticate("192.0.2.1", Credentials(), 0.0) for _ in range(11)]
    assert decisions[:10] == [ACCEPTED] * 10
    assert codes(decisions[10]) == (CloseCode.FULL, "full")
    assert all(
        admission.authenticate("127.0.0.1", Credentials(), 0.0) == ACCEPTED for _ in range(100)
    )


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "127.0.0.1", None])
def test_publishing_over_http_is_limited(address: str | None) -> None:
    """A client has twenty seconds' worth of messages at once, and is told when to retry.

    Another session from the same address is no way around it. The local machine is no exception.
    """
    admission = AdmissionControl(None, AdmissionLimits(rate=2))

    def publish(session: str | None, now: float, size: int = 1) -> Rejection | None:
        return admission.check_publish_rate(address, session, size, now)

    assert [publish(f"s{number}", 0.0) for number in range(40)] == [None] * 40
    for session in ("s1", "s99", None):
        rejection = publish(session, 0.0)
        assert rejection is not None
        assert (rejection.code, rejection.retry_after) == (CloseCode.FULL, 1.0)
    assert publish("s1", 0.5, size=2048) is None  # which costs eight
    rejection = publish("s1", 3.5)
    assert rejection is not None and rejection.retry_after == 1.0
    assert publish("s1", 4.5) is None
    assert admission.check_publish_rate("192.0.2.2", "s1", 1, 0.0) is None
    unlimited = AdmissionControl(None, AdmissionLimits(rate=0))
    assert all(unlimited.check_publish_rate(address, None, 9, 0.0) is None for _ in range(2000))
