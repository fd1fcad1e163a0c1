"""The open requests: a new name and acts of an operator that have no answer yet. Pure.

They change something, and changing it twice does no harm. So they are sent again on the next
connection, if this one breaks before the answer.
"""

from __future__ import annotations

import secrets

from broadcast_server.protocol.messages import RenameRequest
from broadcast_server.protocol.operators import OperatorRequest


class OpenRequests:
    """The requests of one client that have no answer yet, besides its messages."""

    def __init__(self) -> None:
        self._rename: RenameRequest | None = None
        self._acts: dict[str, OperatorRequest] = {}  # by id

    def rename(self, name: str, id: str) -> RenameRequest:
        """Add a request for another *name*, instead of the one before, and return it."""
        self._rename = RenameRequest(name, id)
        return self._rename

    def operate(self, request: OperatorRequest) -> OperatorRequest:
        """Add a request of an operator, and return it with its id."""
        id = secrets.token_urlsafe(6)
        self._acts[id] = request._replace(id=id)
        return self._acts[id]

    def all(self) -> list[RenameRequest | OperatorRequest]:
        """Return all of them, to be sent again."""
        return [*([] if self._rename is None else [self._rename]), *self._acts.values()]

    def settle_rename(self) -> str | None:
        """Forget the request for a new name. Return its id, None if there was none."""
        rename, self._rename = self._rename, None
        return None if rename is None else rename.id

    def settle(self, id: str) -> bool:
        """Forget the request *id*, which was answered. Return whether there was one."""
        if self._rename is not None and self._rename.id == id:
            self._rename = None
            return True
        return self._acts.pop(id, None) is not None
