"""Rate limits: a token bucket, and one token bucket for each client address.

This module is pure: callers pass the time in seconds.
"""

from __future__ import annotations

MAX_KEYS = 4096
"""How many keys a `KeyedRateLimiter` remembers. Beyond it, the least recently used one goes."""

BURST_S = 10
"""How many seconds' worth may come at once: after a restart, all clients of one address
reconnect at the same time."""


KEPT_SHARE = 5
"""A fifth of a second's worth is kept for clients that themselves use no more than a fifth."""


class TokenBucket:
    """A bucket that gains *rate* tokens a second, up to *capacity*. It begins full.

    The tokens stand for messages or connections; tokens that authenticate are another thing.
    """

    __slots__ = ("_since", "available", "capacity", "rate")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self.rate = rate
        self.capacity = capacity
        self.available = capacity
        self._since = now

    def refill(self, now: float) -> float:
        """Add what was gained since the last call, and return how many tokens are available."""
        self.available = min(self.capacity, self.available + (now - self._since) * self.rate)
        self._since = now
        return self.available

    def spend(self, count: float) -> None:
        """Take *count* tokens. If fewer are available, the number becomes negative."""
        self.available -= count

    def delay(self) -> float:
        """Return the number of seconds until one whole token is available."""
        return max(0.0, (1 - self.available) / self.rate)


class KeyedRateLimiter:
    """Allows each key *rate* uses a second, and `BURST_S` seconds' worth of them at once.

    A key may stand for many clients. So a few uses are kept for those that ask for little: one that
    asks again and again cannot keep the others from theirs.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._kept = rate // KEPT_SHARE
        self._by_key: dict[str, TokenBucket] = {}  # the least recently used first
        self._by_client: dict[tuple[str, str], TokenBucket] = {}  # by key and client, the same

    def __len__(self) -> int:
        return len(self._by_key)

    def allow(self, key: str | None, now: float, client: str | None = None) -> bool:
        """Count one use of *key* if its rate allows it, and return whether it does.

        None, which stands for the local machine (see `client_key`), has no limit. *client* tells
        the clients of a key apart, as far as that is possible.
        """
        if key is None:
            return True
        bucket = self._by_key.pop(key, None) or TokenBucket(self._rate, self._rate * BURST_S, now)
        self._by_key[key] = bucket
        if len(self._by_key) > MAX_KEYS:
            del self._by_key[next(iter(self._by_key))]
        of_client = key, client or ""
        own = self._by_client.get(of_client) or TokenBucket(self._kept, self._kept, now)
        is_modest = own.refill(now) >= 1 if self._kept else False
        if bucket.refill(now) < 1 + (0 if is_modest else self._kept):
            return False
        bucket.spend(1)
        if is_modest:
            own.spend(1)
        self._by_client.pop(of_client, None)
        self._by_client[of_client] = own
        if len(self._by_client) > MAX_KEYS:
            del self._by_client[next(iter(self._by_client))]
        return True
