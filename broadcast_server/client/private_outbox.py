"""The private outbox: private messages of one client that have no answer yet. Pure.

The room does not keep a private message. So it is sent once, on a live connection, and never again:
the server answers it with a copy or an error, unless the connection breaks before that.
"""

from __future__ import annotations

import secrets

from broadcast_server.protocol.messages import Error, PrivateRequest

MAX_UNANSWERED = 250
"""Private messages that may be without their answer."""


class PrivateOutbox:
    """The private messages of one client that have no answer yet."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}  # of the recipients, by id
        self._lost: list[str] = []  # names

    @property
    def full(self) -> bool:
        """Whether so many are without their answer that nothing should be added."""
        return len(self._names) >= MAX_UNANSWERED

    def add(self, to: str, text: str) -> PrivateRequest:
        """Add a message to the member *to*, and return the request that sends it."""
        id = secrets.token_urlsafe(9)
        self._names[id] = to
        return PrivateRequest(to, text, id)

    def settle(self, id: str) -> bool:
        """Forget the message *id*, which was answered. Return whether there was one."""
        return self._names.pop(id, None) is not None

    def connection_lost(self) -> list[tuple[str, Error]]:
        """Give up the messages that have no answer. Return for each its id and an error."""
        names, self._names = self._names, {}
        self._lost += names.values()
        return [(id, _not_confirmed(name, id)) for id, name in names.items()]

    def take_lost(self) -> list[str]:
        """Return to whom messages were given up since the last call."""
        lost, self._lost = self._lost, []
        return lost


def _not_confirmed(name: str, id: str) -> Error:
    text = f"{name} may not have got the message: the connection broke before the answer"
    return Error("not_confirmed", text, id)
