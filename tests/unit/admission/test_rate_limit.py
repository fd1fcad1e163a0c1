"""Rate limits: token buckets, and rates by client address."""

from __future__ import annotations

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
