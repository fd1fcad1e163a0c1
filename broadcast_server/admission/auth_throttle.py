"""The authentication throttle: each wrong token makes the next attempts of its address wait longer.

An attempt waits whether its token is right or wrong. If only wrong tokens waited, a client could
take a missing response for "wrong", hang up, and try the next token. The wait depends only on
the failures of that address and never exceeds `MAX_DELAY_S`, however many attempts the address
makes at the same time. An attempt is rejected only if `MAX_WAITING_PER_ADDRESS` attempts of its
address wait already, because then it could not be slowed down. A missing token is not a failure.

The throttle is pure: callers pass the time in seconds.
"""

from __future__ import annotations

FREE_FAILURES = 1
"""The number of failures that cause no delay, because people mistype."""

FIRST_DELAY_S = 0.25
"""The delay after the first failure that is not free. Each further failure doubles it."""

MAX_DELAY_S = 8.0
"""The longest delay. It is shorter than the ten seconds that a client waits for a response."""

FORGET_AFTER_S = 600.0
"""The time without a failure after which an address is forgotten."""

MAX_ADDRESSES = 4096
"""How many addresses are remembered. Beyond it, the one whose last failure is oldest goes."""

MAX_WAITING_PER_ADDRESS = 16
"""How many attempts of one address wait at a time: at most two guesses a second in the end."""


class _Failures:
    __slots__ = ("count", "last", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.waiting = 0


class AuthThrottle:
    """The failures and the waiting attempts of each address."""

    def __init__(self) -> None:
        self._by_address: dict[str, _Failures] = {}  # in the order of their last failure

    def __len__(self) -> int:
        return len(self._by_address)

    def delay(self, address: str, now: float) -> float | None:
        """Return how many seconds an attempt has to wait, or None if too many wait already."""
        failures = self._by_address.get(address)
        if failures is None or (now - failures.last > FORGET_AFTER_S and not failures.waiting):
            return 0.0
        if failures.waiting >= MAX_WAITING_PER_ADDRESS:
            return None
        if failures.count <= FREE_FAILURES:
            return 0.0
        return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures.count - FREE_FAILURES - 1, 30))

    def start_wait(self, address: str) -> None:
        """Note that an attempt from *address* waits, until `end_wait`."""
        self._by_address.setdefault(address, _Failures()).waiting += 1

    def end_wait(self, address: str) -> None:
        """Note that an attempt from *address* no longer waits, whatever its result is."""
        failures = self._by_address.get(address)
        if failures is not None:
            failures.waiting = max(0, failures.waiting - 1)

    def record_failure(self, address: str, now: float) -> None:
        """Note a wrong token from *address*.

        Call it before the wait, so that attempts made at the same time wait longer.
        """
        failures = self._by_address.pop(address, None) or _Failures()
        if now - failures.last > FORGET_AFTER_S:
            failures.count = 0
        failures.count += 1
        failures.last = now
        self._by_address[address] = failures
        while len(self._by_address) > MAX_ADDRESSES:
            del self._by_address[next(iter(self._by_address))]
