"""The TLS handshakes of one listener: each starts when it has a slot, and ends when it loses it.

`admission.handshake_slots` decides whose turn it is. This module carries that out.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Protocol

from broadcast_server.admission.handshake_slots import HandshakeSlots

from .listen_socket import LOG_INTERVAL_S

logger = logging.getLogger("broadcast_server")

STARTS_PER_TURN = 16
"""How many handshakes start in one turn of the event loop. Each of them computes for a millisecond,
in which the members of rooms wait."""

RECEIVE_BYTES = 64 * 2**10
"""How much is received from a connection at once."""


class Handshaking(Protocol):
    """A connection that needs a slot for its handshake."""

    def start_handshake(self) -> None:
        """Go on: there is a slot."""

    def abort(self) -> None:
        """Cut the connection."""


class Handshakes:
    """The handshakes of one listener, each known by a number.

    Args:
        key_of: Returns the key of a peer's address, under which its handshakes are counted.
        slots: The slots, for tests.

    """

    def __init__(
        self, key_of: Callable[[object], str | None], slots: HandshakeSlots | None = None
    ) -> None:
        self._key_of = key_of
        self._slots = HandshakeSlots() if slots is None else slots
        self._connections: dict[int, Handshaking] = {}
        self._numbers = itertools.count(1)
        self._turn: asyncio.Handle | None = None
        self._turn_at = 0.0  # the time of that turn
        self._logged_at = -LOG_INTERVAL_S
        # Received bytes are decrypted at once, so all connections can use the same buffer.
        self.receive_buffer = memoryview(bytearray(RECEIVE_BYTES))

    def __len__(self) -> int:
        return len(self._connections)

    def request(self, peer: object, connection: Handshaking) -> int:
        """Start the handshake of *connection* as soon as it has a slot. Return its number.

        *peer* is the address of the client as the socket reports it.
        """
        number = next(self._numbers)
        self._connections[number] = connection
        self._slots.add(number, self._key_of(peer))
        self._take_turn_at(0.0)
        return number

    def release(self, number: int) -> None:
        """Note that a connection needs no slot any more: it is closed, or has sent its request."""
        if self._connections.pop(number, None) is not None:
            self._slots.remove(number)
            self._take_turn_at(0.0)

    def close(self) -> None:
        """Cut all connections whose handshakes are not complete."""
        if self._turn is not None:
            self._turn.cancel()
        for connection in tuple(self._connections.values()):
            connection.abort()

    def _take_turn_at(self, time: float) -> None:
        if self._turn is not None:
            if self._turn_at <= time:
                return
            self._turn.cancel()
        loop = asyncio.get_running_loop()
        self._turn_at = time
        self._turn = (
            loop.call_at(time, self._take_turn)
            if time > loop.time()
            else loop.call_soon(self._take_turn)
        )

    def _take_turn(self) -> None:
        self._turn = None
        turn = self._slots.next_turn(asyncio.get_running_loop().time(), STARTS_PER_TURN)
        for number in turn.end:
            self._log_end()
            self._connections.pop(number).abort()
        for number in turn.start:
            self._connections[number].start_handshake()
        if turn.again_at is not None:
            self._take_turn_at(turn.again_at)

    def _log_end(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            text = "%d TLS handshakes do not go on, the oldest are closed for new ones"
            logger.warning(text, len(self._slots))
