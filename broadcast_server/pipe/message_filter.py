"""The message filter: what a listener waits for (`connect --match` and `--count`)."""

from __future__ import annotations

import re

from broadcast_server.protocol.messages import Cursor, Error, Event, Message, Welcome


class MessageFilter:
    """Selects events to forward, and tells when enough messages have come.

    Args:
        pattern: If given, the only events that are forwarded are messages of others whose text it
            matches somewhere, errors, and reports of missed messages.
        count: Number of messages of others after which nothing more is forwarded; None: no limit.
    """

    def __init__(self, pattern: re.Pattern[str] | None = None, count: int | None = None) -> None:
        self._pattern = pattern
        self._count = count
        self._end: Cursor | None = None  # the position of the last message that was counted
        self.seen = 0
        """Number of messages of others that were selected."""

    @property
    def done(self) -> bool:
        """Whether `count` messages have come."""
        return self.seen == self._count

    def select(self, events: list[Event], own_name: str, epoch: str) -> list[Event]:
        """Return the events of *events* to forward, in order.

        *own_name* is the client's name, *epoch* the log that the events are from.
        """
        selected: list[Event] = []
        for event in events:
            if self.done:
                break
            if not self._is_wanted(event, own_name):
                continue
            selected.append(event)
            if isinstance(event, Message) and event.name != own_name:
                self.seen += 1
                self._end = Cursor(epoch, event.seq)
        return selected

    def limit(self, cursor: Cursor | None) -> Cursor | None:
        """Return the position in the log up to which events were forwarded or left out.

        It is *cursor*, the client's own, unless the client has received more than was wanted.
        """
        return self._end if self.done else cursor

    def progress(self) -> str:
        """Return how many messages have come, for a notice; empty if any number would do."""
        if self._count is None:
            return ""
        return f" with {self.seen} of {self._count} message{'s' * (self._count != 1)}"

    def _is_wanted(self, event: Event, own_name: str) -> bool:
        if self._pattern is None:
            return True
        match event:
            case Message(name=name, text=text):
                return name != own_name and self._pattern.search(text) is not None
            case Welcome(recovered=recovered):
                return not recovered
        return isinstance(event, Error)
