"""Admission control: whether a client may join now, has to wait first, or is rejected.

It checks the token and the limits, and counts the connected clients. It is pure: callers pass
the time in seconds, and get the number of seconds that a client has to wait.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

from broadcast_server.protocol.messages import CloseCode, Error
from broadcast_server.protocol.rejection import Rejection

from .allowances import Allowance, Allowances
from .connection_counter import ConnectionCounter
from .place import Place
from .rate_limit import KeyedRateLimiter
from .trusted_proxies import client_key

if TYPE_CHECKING:
    from .auth_throttle import AuthThrottle
    from .token import Credentials


# These are named tuples because each dataclass adds 2 ms to the start of the single file.


class AdmissionLimits(NamedTuple):
    """How many clients and rooms a server has at most, and how fast clients join and publish."""

    clients: int = 10_000
    clients_per_address: int = 500
    rooms: int = 1000
    joins: int = 50  # for each second and address
    rate: int = 50  # messages for each second and client; 0 is no limit


class Decision(NamedTuple):
    """What to do about a client after *wait* seconds: reject it, or go on if there is none."""

    wait: float = 0.0
    rejection: Rejection | None = None


ClientPlace = Place[str | None]
"""The place of a client that was counted by its address, see `client_key`."""

ACCEPTED = Decision()
NO_TOKEN = Rejection(
    CloseCode.SIGN_IN, Error("token", "this server requires a token: ask its operator for one")
)
WRONG_TOKEN = Rejection(
    CloseCode.SIGN_IN,
    Error("token", "token is wrong: ask the operator of the server for the right one"),
)
NO_OPERATORS = Rejection(
    CloseCode.SIGN_IN,
    Error("operator", "this server has no operator key (start --operator-file sets one)"),
)
WRONG_OPERATOR_KEY = Rejection(
    CloseCode.SIGN_IN,
    Error("operator", "operator key is wrong: ask whoever runs the server for the right one"),
)
TOO_MANY_GUESSES = Rejection(
    CloseCode.FULL,
    Error("full", "too many wrong tokens from your address, try again later"),
    retry_after=8.0,
)


class AdmissionControl:
    """The admission control of all rooms of a server.

    Without a *token* the server is open. A client with the *operator_key* is an operator.
    """

    def __init__(
        self, token: str | None, limits: AdmissionLimits, operator_key: str | None = None
    ) -> None:
        self._token = None if token is None else token.encode()
        self._operator_key = None if operator_key is None else operator_key.encode()
        self._throttle: AuthThrottle | None = None
        if token is not None or operator_key is not None:
            from .auth_throttle import AuthThrottle  # a server without secrets does not load it

            self._throttle = AuthThrottle()
        self._limits = limits
        self._join_rate = KeyedRateLimiter(limits.joins)
        self._allowances = Allowances(limits.rate) if limits.rate else None
        self._connected = ConnectionCounter()

    def authenticate(
        self,
        address: str | None,
        credentials: Credentials,
        now: float,
        session: str | None = None,
    ) -> Decision:
        """Check the join rate of *address* and the *credentials*, before anything about the rooms.

        The clients of an address are told apart by their *session*.

        If the decision has a wait, call `end_wait` when the wait is over or the client is
        gone, whether it is admitted or not.
        """
        key = client_key(address)
        if not self._join_rate.allow(key, now, session):
            return Decision(0.0, _over_rate(self._limits.joins, "joins"))
        token, operator_key = credentials
        # What is no guess does not count as a failure.
        if self._token is not None and token is None:
            return Decision(0.0, NO_TOKEN)
        if operator_key is not None and self._operator_key is None:
            return Decision(0.0, NO_OPERATORS)
        throttle = self._throttle
        if throttle is None or (self._token is None and operator_key is None):
            return ACCEPTED
        throttle_key = key or ""
        wait = throttle.delay(throttle_key, now)
        if wait is None:
            return Decision(0.0, TOO_MANY_GUESSES)
        rejection = None if _is_right(token, self._token) else WRONG_TOKEN
        if operator_key is not None and not _is_right(operator_key, self._operator_key):
            rejection = rejection or WRONG_OPERATOR_KEY
        if rejection is not None:
            throttle.record_failure(throttle_key, now)
        if wait:
            throttle.start_wait(throttle_key)
        return Decision(wait, rejection)

    def end_wait(self, address: str | None) -> None:
        """Note that a client at *address* no longer waits."""
        if self._throttle is not None:
            self._throttle.end_wait(client_key(address) or "")

    def admit(
        self, address: str | None, rooms: int, *, new_room: bool, takes_over: bool = False
    ) -> ClientPlace | Rejection:
        """Count a client at *address* in, and return its place, or why there is none for it.

        *rooms* is the number of open rooms, and *new_room* says whether the client would open
        another one. A client that *takes_over* its own stale connection is always admitted,
        because the number of clients stays the same.
        """
        limits, key = self._limits, client_key(address)
        if not takes_over:
            if self._connected.total >= limits.clients:
                return _full("server", limits.clients, "clients, try again later")
            if self._connected.count(key) >= limits.clients_per_address:
                limit = limits.clients_per_address
                return _full("your address", limit, "clients, try again later")
            if new_room and rooms >= limits.rooms:
                return _full("server", limits.rooms, "rooms, join an existing room")
        self._connected.add(key)
        return Place(self._connected, key)

    def open_allowance(
        self, address: str | None, session: str | None, now: float
    ) -> Allowance | None:
        """Return what a new connection may send, None if it has no limit. Close it in the end."""
        if self._allowances is None:
            return None
        return self._allowances.open(client_key(address), session, now)

    def close_allowance(self, allowance: Allowance, now: float) -> None:
        """End *allowance*, because its connection is closed."""
        if self._allowances is not None:
            self._allowances.close(allowance, now)

    def check_publish_rate(
        self, address: str | None, session: str | None, size: int, now: float
    ) -> Rejection | None:
        """Count a message of *size* bytes that a client publishes without joining.

        If the client may not publish now, the message is not counted, and the reason is returned.
        """
        if self._allowances is None:
            return None
        allowance = self._allowances.open(client_key(address), session, now, momentary=True)
        wait = allowance.post(size, now)
        self._allowances.close(allowance, now)
        return _over_rate(self._limits.rate, "messages", wait) if wait else None


def _is_right(secret: str | None, right: bytes | None) -> bool:
    """Return whether *secret* is *right*, or none is required."""
    if right is None:
        return True
    return secret is not None and compare_digest(right, secret.encode(errors="replace"))


def _full(subject: str, limit: int, unit_and_remedy: str) -> Rejection:
    text = f"{subject} is at its limit of {limit} {unit_and_remedy}"
    return Rejection(CloseCode.FULL, Error("full", text))


def _over_rate(limit: int, unit: str, wait: float = 1.0) -> Rejection:
    text = f"more than {limit} {unit} a second from your address, try again later"
    return Rejection(CloseCode.FULL, Error("full", text), retry_after=max(1.0, wait))
