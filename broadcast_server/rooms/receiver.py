"""The receiver: the connection of one participant, as a live room writes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from broadcast_server.protocol.messages import Cursor

FrameEncoder = Callable[[bytes], Any]
"""Makes the frame of a payload, in the form that the transport writes."""


class Receiver(Protocol):
    """The connection of one participant, to write to."""

    @property
    def paused(self) -> bool:
        """Whether its buffer is full, so that nothing more should be written for now."""

    @property
    def encode(self) -> FrameEncoder:
        """The encoder of its frames.

        Receivers of the same kind must return the same function. It is called once for all of them.
        """

    def write(self, frames: Iterable[Any]) -> None:
        """Write *frames*, which `encode` has made, without waiting."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection after everything that was written."""


class StreamReceiver(Receiver, Protocol):
    """The connection of a subscriber: an HTTP response that is an event stream."""

    def start(self, at: Cursor) -> None:
        """Send the head of the response. The first events will be those after *at*."""
