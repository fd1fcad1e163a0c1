"""Admission control of one process: limits and throttles that apply before a client joins a room.

The limits are those of the standalone server, set by Django's settings. Tokens are different: the
database says whether one is valid, and this module only delays attempts. Each process counts its
own clients and attempts.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import NamedTuple, TypeVar

from django.conf import settings

from broadcast_server.admission.admission import (
    TOO_MANY_GUESSES,
    AdmissionControl,
    AdmissionLimits,
    ClientPlace,
)
from broadcast_server.admission.allowances import Allowance
from broadcast_server.admission.auth_throttle import AuthThrottle
from broadcast_server.admission.place import Place
from broadcast_server.admission.token import Credentials
from broadcast_server.admission.trusted_proxies import client_key
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.server.file_limit import max_clients_for
from django_site.store.rejections import Rejected

logger = logging.getLogger(__name__)


class Admitted(NamedTuple):
    """A client that was admitted: what it counts as."""

    place: ClientPlace
    room: str
    session: str | None


ProcessPlace = Place[Admitted]
"""The place of a client in this process."""


class ProcessAdmission:
    """The admission control of all rooms of one process."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._admission = AdmissionControl(None, limits)
        self._throttle = AuthThrottle()
        self._rooms: Counter[str] = Counter()
        self._sessions: Counter[tuple[str, str]] = Counter()

    def check_join_rate(self, address: str | None, session: str | None, now: float) -> None:
        """Count a join from *address*. Raises `Rejected` if it has too many a second."""
        _raise_if_rejected(
            self._admission.authenticate(address, Credentials(), now, session).rejection
        )

    def start_attempt(self, address: str | None, now: float, *, wrong: bool) -> float:
        """Return the seconds that a client with a token has to wait, 0 if it need not.

        Call `end_wait` after any other wait. *wrong* is whether the token is malformed, which
        counts as a failure at once. Raises `Rejected` if too many of this address wait already.
        """
        key = client_key(address) or ""
        wait = self._throttle.delay(key, now)
        if wait is None:
            raise Rejected(TOO_MANY_GUESSES)
        if wrong:
            self._throttle.record_failure(key, now)
        if wait:
            self._throttle.start_wait(key)
        return wait

    def end_wait(self, address: str | None) -> None:
        """Note that a client from *address* has waited, or is gone."""
        self._throttle.end_wait(client_key(address) or "")

    def record_failure(self, address: str | None, now: float) -> None:
        """Record that a token of the right form was not valid after all."""
        self._throttle.record_failure(client_key(address) or "", now)

    def admit(self, address: str | None, room: str, session: str | None) -> ProcessPlace:
        """Count a client in, and return its place. Raises `Rejected` if a limit is reached."""
        takes_over = session is not None and (room, session) in self._sessions
        new_room = room not in self._rooms
        place = self._admission.admit(
            address, len(self._rooms), new_room=new_room, takes_over=takes_over
        )
        if isinstance(place, Rejection):
            raise Rejected(place)
        self._rooms[room] += 1
        if session is not None:
            self._sessions[room, session] += 1
        return Place(self, Admitted(place, room, session))

    def open_allowance(
        self, address: str | None, session: str | None, now: float
    ) -> Allowance | None:
        """Return what a new connection may send, None if it has no limit. Close it in the end."""
        return self._admission.open_allowance(address, session, now)

    def close_allowance(self, allowance: Allowance, now: float) -> None:
        """End *allowance*, because its connection is closed."""
        self._admission.close_allowance(allowance, now)

    def check_publish_rate(
        self, address: str | None, session: str | None, size: int, now: float
    ) -> None:
        """Count a message of *size* bytes that a client publishes without joining.

        Raises `Rejected` if it publishes too many a second.
        """
        _raise_if_rejected(self._admission.check_publish_rate(address, session, size, now))

    def remove(self, admitted: Admitted) -> None:
        """Count a client out. Its `ProcessPlace` calls this."""
        place, room, session = admitted
        place.release()
        _decrement(self._rooms, room)
        if session is not None:
            _decrement(self._sessions, (room, session))


def limits_from_settings(files: int | None) -> AdmissionLimits:
    """Return the limits from the settings, with fewer clients if only *files* may be open.

    *files* is the limit on open files, None if there is none.
    """
    clients: int = settings.BROADCAST_MAX_CLIENTS
    max_clients = max_clients_for(files)
    if max_clients < clients:
        text = "the limit on open files allows only %d clients (raise ulimit -n)"
        logger.warning(text, max_clients)
    return AdmissionLimits(
        clients=min(clients, max_clients),
        clients_per_address=settings.BROADCAST_MAX_CLIENTS_PER_ADDRESS,
        rooms=settings.BROADCAST_MAX_ROOMS,
        joins=settings.BROADCAST_MAX_JOINS,
        rate=settings.BROADCAST_RATE,
    )


def _raise_if_rejected(rejection: Rejection | None) -> None:
    if rejection is not None:
        raise Rejected(rejection)


_Key = TypeVar("_Key")


def _decrement(counter: Counter[_Key], key: _Key) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
