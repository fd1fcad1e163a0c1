"""The quota: how many requests of one kind each member may make between two heartbeats.

Unlike messages, some events are not in the log. They wait in memory for participants that read
slowly, and a participant for which too many events wait is closed.
"""

from __future__ import annotations

from collections import Counter

from broadcast_server.protocol.messages import Error

MAX_RENAMES_PER_HEARTBEAT = 10
"""How many renames a member can request between two heartbeats."""

MAX_ACTS_PER_HEARTBEAT = 200
"""How many acts an operator can request between two heartbeats."""


class Quota:
    """The requests that each member has made since the last heartbeat: *limit* are allowed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._requests: Counter[int] = Counter()  # by member_id

    def take(self, member_id: int) -> bool:
        """Count a request. Return whether it is allowed."""
        self._requests[member_id] += 1
        return self._requests[member_id] <= self.limit

    def error(self, what: str, id: str | None) -> Error:
        """Return the answer to the request *id*, because *what* has happened too often."""
        text = f"{what} {self.limit} times just now, try again in half a minute"
        return Error("too_often", text, id)

    def forget(self, member_id: int) -> None:
        """Forget a member that has left."""
        self._requests.pop(member_id, None)

    def reset(self) -> None:
        """Forget all requests. Call it each heartbeat."""
        self._requests.clear()
