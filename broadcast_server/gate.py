"""The gate: who may come in now, who has to wait, and who is sent away with which words.

It knows the token and the limits, and counts who is in. It is pure: it is told the time,
and says how long someone has to wait instead of waiting.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

from .protocol import CloseCode, Error
from .proxies import one
from .quota import Joins, Tally

if TYPE_CHECKING:
    from .brake import Brake

BEARER = "bearer."
"""How the subprotocol begins in which a page offers its token: it can send no header."""


# Tuples, as each dataclass costs the start of the single file 2 ms.


class Limits(NamedTuple):
    """How many may be here, and how fast they may come and talk."""

    clients: int = 10_000
    clients_per_address: int = 500
    rooms: int = 1000
    joins: int = 50  # a second and address
    rate: int = 0  # messages a second and client; 0 is no limit


class Refusal(NamedTuple):
    """Why someone is not let in: the code of the close, and the error before it.

    *after* so many seconds it may come again, if it came too often; 0 if that is not why.
    """

    code: CloseCode
    error: Error
    after: float = 0.0


class Answer(NamedTuple):
    """What a newcomer is told, after *wait* seconds: a refusal, or nothing against it."""

    wait: float = 0.0
    refusal: Refusal | None = None


WELCOME = Answer()
NO_TOKEN = Refusal(
    CloseCode.SIGN_IN, Error("token", "this server wants a token: ask who runs it for one")
)
WRONG_TOKEN = Refusal(
    CloseCode.SIGN_IN, Error("token", "token is wrong: ask who runs the server for the right one")
)
GUESSED = Refusal(
    CloseCode.FULL,
    Error("full", "too many wrong tokens came from your address, come back later"),
    after=8.0,
)


class Gate:
    """What stands before all rooms of a server. *token* is None if none is wanted."""

    def __init__(self, token: str | None, limits: Limits) -> None:
        self._guard: tuple[bytes, Brake] | None = None
        if token is not None:
            from .brake import Brake  # for those only who have something to guess

            self._guard = token.encode(), Brake()
        self._limits = limits
        self._joins = Joins(limits.joins)
        self._says = Joins(limits.rate)
        self._here = Tally()

    def knock(self, address: str | None, token: str | None, now: float) -> Answer:
        """Decide about someone who wants to come in, before a look at the rooms.

        If it has to wait, it is to be `waited` for in the end, whether it came in or not.
        """
        place = one(address)
        if not self._joins.take(place, now):
            most = self._limits.joins
            return Answer(
                0.0,
                _later(f"more than {most} a second come from your address, come back later", 1.0),
            )
        if self._guard is None:
            return WELCOME
        if token is None:  # no guess
            return Answer(0.0, NO_TOKEN)
        where, (wanted, brake) = place or "", self._guard
        wait = brake.wait(where, now)
        if wait is None:
            return Answer(0.0, GUESSED)
        right = compare_digest(wanted, token.encode(errors="replace"))
        if not right:
            brake.failed(where, now)
        if wait:
            brake.begin(where)
        return Answer(wait, None if right else WRONG_TOKEN)

    def waited(self, address: str | None) -> None:
        """Note that someone from *address* waits no more."""
        if self._guard is not None:
            self._guard[1].end(one(address) or "")

    def enter(
        self, address: str | None, rooms: int, *, new: bool, again: bool = False
    ) -> Refusal | None:
        """Let someone in, unless it is full; *rooms* are open, and it wants a *new* one.

        Who comes *again*, in the place of its own dead connection, is no more than before.
        """
        limits, place = self._limits, one(address)
        if again:
            self._here.add(place)
            return None
        if self._here.all >= limits.clients:
            return _full("server", limits.clients, "clients, come back later")
        if self._here.at(place) >= limits.clients_per_address:
            most = limits.clients_per_address
            return _full("your address", most, "clients, come back later")
        if new and rooms >= limits.rooms:
            return _full("server", limits.rooms, "rooms, go to one that there is")
        self._here.add(place)
        return None

    def say(self, address: str | None, now: float) -> Refusal | None:
        """Let someone say one thing without being in, unless so much comes from there already."""
        rate = self._limits.rate
        if not rate or self._says.take(one(address), now):
            return None
        text = f"more than {rate} messages a second come from your address, say it again later"
        return _later(text, 1.0)

    def leave(self, address: str | None) -> None:
        """Count someone out who was let in."""
        self._here.drop(one(address))


def _full(what: str, most: int, of: str) -> Refusal:
    return _later(f"{what} is full with {most} of {most} {of}")


def _later(text: str, after: float = 0.0) -> Refusal:
    return Refusal(CloseCode.FULL, Error("full", text), after)


def given_token(headers: Mapping[str, str], offered: Iterable[str]) -> str | None:
    """Find the token in a request: in its Authorization, else among the subprotocols *offered*.

    *headers* have lower-case names. What cannot be decoded is a token all the same, a wrong one.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for protocol in offered:
        if protocol.startswith(BEARER):
            coded = protocol.removeprefix(BEARER)
            try:
                padded = coded + "=" * (-len(coded) % 4)
                return urlsafe_b64decode(padded).decode()
            except ValueError:
                return ""
    return None
