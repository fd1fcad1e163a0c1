"""The authentication throttle: how long attempts wait after wrong tokens."""

from __future__ import annotations

from broadcast_server.admission.auth_throttle import (
    FORGET_AFTER_S,
    FREE_FAILURES,
    MAX_ADDRESSES,
    MAX_DELAY_S,
    MAX_WAITING_PER_ADDRESS,
    AuthThrottle,
)


def test_each_failure_doubles_the_delay() -> None:
    """The first failure is free; each further one doubles the delay, up to its maximum."""
    throttle = AuthThrottle()
    delays = []
    for _ in range(9):
        delays.append(throttle.delay("a", 0.0))
        throttle.record_failure("a", 0.0)
    assert delays == [0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert FREE_FAILURES == 1 and MAX_DELAY_S == 8.0


def test_other_addresses_do_not_wait() -> None:
    """The failures of one address do not delay another."""
    throttle = AuthThrottle()
    for _ in range(9):
        throttle.record_failure("a", 0.0)
    assert throttle.delay("b", 0.0) == 0.0


def test_failures_are_forgotten() -> None:
    """An address without failures for a while starts again from the first one."""
    throttle = AuthThrottle()
    for _ in range(9):
        throttle.record_failure("a", 0.0)
    assert throttle.delay("a", FORGET_AFTER_S) == MAX_DELAY_S
    assert throttle.delay("a", FORGET_AFTER_S + 1) == 0.0
    throttle.record_failure("a", FORGET_AFTER_S + 1)
    assert throttle.delay("a", FORGET_AFTER_S + 1) == 0.0


def test_waiting_attempts_are_bounded() -> None:
    """If too many attempts of an address wait, the next is rejected until one has waited."""
    throttle = AuthThrottle()
    for _ in range(3):
        throttle.record_failure("a", 0.0)
    for _ in range(MAX_WAITING_PER_ADDRESS):
        assert throttle.delay("a", 0.0) == 0.5
        throttle.start_wait("a")
    assert throttle.delay("a", 0.0) is None
    throttle.end_wait("a")
    assert throttle.delay("a", 0.0) == 0.5


def test_addresses_are_bounded() -> None:
    """Beyond the limit, the address whose last failure is oldest is forgotten."""
    throttle = AuthThrottle()
    for number in range(MAX_ADDRESSES + 10):
        for _ in range(3):
            throttle.record_failure(str(number), 0.0)
    throttle.end_wait("0")
    assert len(throttle) == MAX_ADDRESSES
    assert throttle.delay("9", 0.0) == 0.0 and throttle.delay("10", 0.0) == 0.5
