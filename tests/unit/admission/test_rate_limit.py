"""Rate limits: token buckets, and rates by client address."""

from __future__ import annotations

import pytest

from broadcast_server.admission.rate_limit import BURST_S, MAX_KEYS, KeyedRateLimiter, TokenBucket


def test_a_bucket_refills_with_time() -> None:
    """A bucket gains tokens at its rate, and never holds more than its capacity."""
    bucket = TokenBucket(10, 5, 0.0)
    assert bucket.refill(0.0) == 5
    bucket.spend(5)
    assert bucket.refill(0.0) == 0 and bucket.delay() == 0.1
    assert bucket.refill(0.2) == 2
    assert bucket.refill(100.0) == 5


def test_a_bucket_can_be_overdrawn() -> None:
    """Tokens spent beyond those available are gained back first."""
    bucket = TokenBucket(10, 5, 0.0)
    bucket.spend(15)
    assert bucket.delay() == 1.1
    assert bucket.refill(1.0) == 0


def test_each_key_has_a_rate() -> None:
    """A key has a burst, then its rate; the key None has no limit."""
    limiter = KeyedRateLimiter(2)
    burst = [limiter.allow("a", 0.0) for _ in range(2 * BURST_S + 1)]
    assert burst == [True] * 2 * BURST_S + [False]
    assert limiter.allow("b", 0.0)
    assert [limiter.allow("a", 1.0) for _ in range(3)] == [True, True, False]
    assert all(limiter.allow(None, 0.0) for _ in range(1000))


def test_keys_are_bounded() -> None:
    """However many keys are used, only `MAX_KEYS` are remembered."""
    limiter = KeyedRateLimiter(1)
    for number in range(MAX_KEYS + 10):
        limiter.allow(str(number), 0.0)
    assert len(limiter) == MAX_KEYS


@pytest.mark.parametrize("loud", ["s", None])
def test_a_client_that_asks_again_and_again_leaves_the_others_theirs(loud: str | None) -> None:
    """Of one key, clients that ask for little are allowed, at the rate that all have together."""
    limiter = KeyedRateLimiter(50)
    counts = {"loud": 0, "quiet": 0, "new": 0}
    for tick in range(60_000):
        now = tick / 1000
        counts["loud"] += limiter.allow("a", now, loud)
        if tick % 500 == 0:
            counts["quiet"] += limiter.allow("a", now, "quiet")
            counts["new"] += limiter.allow("a", now, f"new {tick}")
    assert counts["quiet"] == counts["new"] == 120
    total = 50 * (60 + BURST_S)
    assert 0.97 * total <= sum(counts.values()) <= total


def test_clients_are_bounded() -> None:
    """However many clients a key has, only `MAX_KEYS` are remembered, and all share its rate."""
    limiter = KeyedRateLimiter(50)
    allowed = sum(limiter.allow("a", number / 1000, str(number)) for number in range(60_000))
    assert allowed <= 50 * (60 + BURST_S)
    assert len(limiter._by_client) <= MAX_KEYS
