"""The typed texts: what was typed for messages that have no answer yet. Pure.

A message that is rejected reached nobody. If a corrected one can, such as a shorter text, what was
typed is given back to whoever typed it.
"""

from __future__ import annotations

from broadcast_server.client.message_limit import ANY_LIMIT
from broadcast_server.client.session import ClientSession
from broadcast_server.protocol.messages import (
    Error,
    Event,
    Message,
    PrivateMessage,
    validate_message,
)

MAX_TEXTS = 500
"""Texts that are kept at most: as many as a session has messages without an answer."""

NOT_TO_EDIT = frozenset({"duplicate", "not_confirmed", "muted", "announce_only"})
"""Codes of errors after which nobody should send the text again: it may have been received, or no
other text would be. What is typed next would only be appended to it."""


class TypedTexts:
    """The typed lines by the ids of their messages, the oldest first."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def add(self, id: str | None, line: str) -> None:
        """Note that *line* was typed for the message *id*."""
        if id is not None:
            self._lines[id] = line
            if len(self._lines) > MAX_TEXTS:
                del self._lines[next(iter(self._lines))]

    def settle(self, event: Event) -> str | None:
        """Forget what *event* answers. Return what was typed if it is to be edited."""
        if not isinstance(event, Message | PrivateMessage | Error) or event.id is None:
            return None
        line = self._lines.pop(event.id, None)
        is_rejected = isinstance(event, Error) and event.code not in NOT_TO_EDIT
        return line if is_rejected else None


def why_not_sent(session: ClientSession, text: str) -> str | None:
    """Return why *text* is longer than a message may be, in the server's words; None if it is not.

    Before the welcome it is compared with the highest limit that a server can have.
    """
    limit = (session.outbox.limit if session.is_welcomed else ANY_LIMIT).max_bytes
    checked = validate_message(text, None, limit)
    is_long = isinstance(checked, Error) and checked.code in ("too_long", "too_many_lines")
    return checked.text if is_long and isinstance(checked, Error) else None
