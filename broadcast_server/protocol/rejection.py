"""Rejections: why a client may not join or may not stay, the same for both servers."""

from __future__ import annotations

from typing import NamedTuple

from .messages import CloseCode, Error


class Rejection(NamedTuple):
    """A close code, and the error that the client gets before the close.

    *retry_after* is the number of seconds after which a client that exceeded a rate may try again,
    0 for every other reason. It is a named tuple because each dataclass adds 2 ms to the start of
    the single file.
    """

    code: CloseCode
    error: Error
    retry_after: float = 0.0

    @property
    def text(self) -> str:
        """The text of the error, which is also the reason in the close frame."""
        return self.error.text


STOPPING = Rejection(CloseCode.STOPPING, Error("stopping", "the server is stopping"))
REPLACED = Rejection(
    CloseCode.REPLACED,
    Error("replaced", "a newer connection of your session took your place"),
)
UNREADABLE = Rejection(
    CloseCode.STOPPING,
    Error("no_log", "the messages of this room cannot be read, ask who runs the server"),
)
TOO_SLOW = Rejection(CloseCode.TOO_SLOW, Error("too_slow", "you read too slowly"))
BINARY = Rejection(CloseCode.FAULTS, Error("binary", "binary frames are not understood"))
