"""The outbox: messages of one client that have no echo yet. Pure.

Each stays until its echo arrives, however many connections that takes, and is sent again with the
same id on each of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from broadcast_server.protocol.messages import SayRequest

from .message_limit import DEFAULT_LIMIT, MessageLimit

MAX_UNCONFIRMED = 250
MAX_UNCONFIRMED_CHARS = 64 * 2**10
"""Messages, and characters of them, that may be without their echo; a reader of input waits when
there are as many. At its default rate, a server reads so much, and one message more, within 8 s. A
ping, whose pong the client awaits for 20 s, is read after it."""


class Outbox:
    """The messages without their echo, in the order in which they were added."""

    def __init__(self) -> None:
        self.added = 0
        """How many messages were ever added; one that was split counts as its parts."""
        self.limit = DEFAULT_LIMIT
        """How long a message may be, as far as the server has said it."""
        self.oversize: str | None = None
        """What to do with a message over the limit, see `OVERSIZE`. None: it is rejected."""
        self._says: dict[str, SayRequest] = {}  # by id
        self._chars = 0
        self._withdrawn: set[str] = set()  # not to be sent again

    def __len__(self) -> int:
        return len(self._says)

    def __iter__(self) -> Iterator[SayRequest]:
        return iter(self._says.values())

    def __contains__(self, id: object) -> bool:
        return id in self._says

    @property
    def full(self) -> bool:
        """Whether so much is without its echo that nothing should be added."""
        return self._chars >= MAX_UNCONFIRMED_CHARS or len(self._says) >= MAX_UNCONFIRMED

    def add(self, text: str) -> SayRequest:
        """Add a message, and return the request that sends it."""
        id = secrets.token_urlsafe(9)
        self._says[id] = say = SayRequest(text, id)
        self._chars += len(text)
        self.added += 1
        return say

    def withdraw(self, id: str) -> SayRequest | None:
        """Return the request of the message *id*, which is to be sent no more.

        It stays until `drop_withdrawn`, so that its echo is still known.
        """
        say = self._says.get(id)
        if say is not None:
            self._withdrawn.add(id)
        return say

    def drop_withdrawn(self) -> None:
        """Drop what was withdrawn and has no echo by now."""
        for id in self._withdrawn:
            self._chars -= len(self._says.pop(id).text)
        self._withdrawn.clear()

    def remove(self, id: str) -> str:
        """Remove the message *id*, and return its text."""
        self._withdrawn.discard(id)
        text = self._says.pop(id).text
        self._chars -= len(text)
        return text

    # -- messages that may be over the server's limit --

    def set_limit(self, max_bytes: int | None) -> None:
        """Take note of the limit in a welcome. Without one it is the default, or what we know."""
        if max_bytes is not None:
            self.limit = MessageLimit.of_bytes(max_bytes)

    def refit(self) -> None:
        """Fit the messages to the limit, which may be another one than when they were added."""
        for id, say in tuple(self._says.items()):
            if self.oversize is None or self.limit.fits(say.text):
                self._says[id] = self._says.pop(id)
            else:
                self._replace(id, self.oversize)

    def shorten(self, id: str, code: str, error: str) -> list[SayRequest]:
        """Return what to send instead of the message *id*, which was rejected with *error*.

        There is nothing unless the error is about a limit that was not known: a server of an
        earlier version does not have its limit in the welcome.
        """
        known = self.limit.lowered_by(error) if code in ("too_long", "too_many_lines") else None
        if self.oversize is None or known is None:
            return []
        self.limit = known
        return self._replace(id, self.oversize)

    def _replace(self, id: str, oversize: str) -> list[SayRequest]:
        self.added -= 1
        return [self.add(text) for text in self.limit.fit(self.remove(id), oversize)]
