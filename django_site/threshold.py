"""The threshold: who may come to the rooms of this process, and how many are here already.

It is the gate of the single file, filled in from the settings, but for the token: whether
one is right the database says. What it counts is this process's own: others count for
themselves.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple, TypeVar

from django.conf import settings

from broadcast_server.brake import Brake
from broadcast_server.gate import GUESSED, Gate, Limits, Refusal
from broadcast_server.listener import most_clients
from broadcast_server.proxies import one

from .ends import End, Refused

logger = logging.getLogger(__name__)


class Seat(NamedTuple):
    """What someone who is let in takes up."""

    address: str | None
    room: str
    session: str | None


class Threshold:
    """What stands before all rooms of one process."""

    def __init__(self, limits: Limits) -> None:
        self._gate = Gate(None, limits)
        self._brake = Brake()
        self._rooms: Counter[str] = Counter()
        self._sessions: Counter[tuple[str, str]] = Counter()

    def come(self, address: str | None, now: float) -> None:
        """Note that someone comes. Raises `Refused` if too many do."""
        _heed(self._gate.knock(address, None, now).refusal)

    def guess(self, address: str | None, now: float, *, wrong: bool) -> float:
        """Return how long who brings a token has to wait, to be `waited` for in the end.

        Raises `Refused` if too many wait already. It may be *wrong* at a first look.
        """
        where = one(address) or ""
        wait = self._brake.wait(where, now)
        if wait is None:
            raise _refused(GUESSED)
        if wrong:
            self._brake.failed(where, now)
        if wait:
            self._brake.begin(where)
        return wait

    def waited(self, address: str | None) -> None:
        """Note that someone from *address* waits no more."""
        self._brake.end(one(address) or "")

    def failed(self, address: str | None, now: float) -> None:
        """Note that a token that looked like one was wrong after all."""
        self._brake.failed(one(address) or "", now)

    def enter(self, seat: Seat) -> None:
        """Let someone take a *seat*, given back by `leave`. Raises `Refused` if it is full."""
        address, room, session = seat
        again = session is not None and (room, session) in self._sessions
        new = room not in self._rooms
        _heed(self._gate.enter(address, len(self._rooms), new=new, again=again))
        self._rooms[room] += 1
        if session is not None:
            self._sessions[room, session] += 1

    def say(self, address: str | None, now: float) -> None:
        """Let someone say one thing without being in. Raises `Refused` if it is too much."""
        _heed(self._gate.say(address, now))

    def leave(self, seat: Seat) -> None:
        """Count someone out who was let in."""
        address, room, session = seat
        self._gate.leave(address)
        _drop(self._rooms, room)
        if session is not None:
            _drop(self._sessions, (room, session))


def limits(files: int | None) -> Limits:
    """Return the limits that are set, with fewer clients if too few *files* may be open."""
    clients: int = settings.BROADCAST_MAX_CLIENTS
    most = most_clients(files)
    if most < clients:
        text = "at most %d clients fit, as few files may be open (raise ulimit -n)"
        logger.warning(text, most)
    return Limits(
        clients=min(clients, most),
        clients_per_address=settings.BROADCAST_MAX_CLIENTS_PER_ADDRESS,
        rooms=settings.BROADCAST_MAX_ROOMS,
        joins=settings.BROADCAST_MAX_JOINS,
        rate=settings.BROADCAST_RATE,
    )


def _heed(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _refused(refusal)


def _refused(refusal: Refusal) -> Refused:
    return Refused(End(refusal.code, refusal.error.code, refusal.error.text, refusal.after))


_Key = TypeVar("_Key")


def _drop(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
