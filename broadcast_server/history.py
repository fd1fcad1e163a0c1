"""The log: numbers the messages of one room, keeps the last of them, finds them again.

It lives in memory and ends with the process; that it is another one after a restart
shows in its epoch, unless it was restored from a file. It knows no room and no wire.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from .protocol import Message

MESSAGES = 50_000
"""How many messages a log keeps by default."""

BYTES = 16 * 2**20
"""How many bytes of text a log keeps by default."""


class LogFileError(Exception):
    """A log cannot be kept in its file; the text says why, and what helps."""


def new_epoch() -> str:
    """Return a random name for a log."""
    return secrets.token_urlsafe(9)


@dataclass(slots=True)  # not frozen, for the reason in protocol.py
class _Kept:
    message: Message
    key: tuple[str, str] | None  # source and id
    size: int


class Log:
    """The ordered log of one room, bounded in messages and in bytes of text.

    When it is full the oldest message goes, and with it the memory of its id:
    a repeat is found out for as far back as the log reaches.
    """

    def __init__(
        self, messages: int = MESSAGES, size: int = BYTES, epoch: str | None = None
    ) -> None:
        self.epoch = epoch or new_epoch()
        self.first = 1
        self.head = 0
        self.bytes = 0  # of text, in all that it keeps
        self._most = messages
        self._most_bytes = size
        # By number and not in a deque, whose middle is slow to reach.
        self._kept: dict[int, _Kept] = {}
        self._seqs: dict[tuple[str, str], int] = {}

    def append(self, name: str, text: str, at: str, id: str | None, source: str) -> Message:
        """Give what *name* said the next number, and keep it."""
        message = Message(self.head + 1, name, text, at, id)
        self._keep(message, source)
        return message

    def restore(self, epoch: str, head: int, kept: Iterable[tuple[Message, str]]) -> None:
        """Become the log of *epoch* that had come to *head*; it must be new.

        *kept* are its last messages in order, each with its source. Those before a gap go.
        """
        self.epoch = epoch
        for message, source in kept:
            if message.seq != self.head + 1:
                self._begin(message.seq)
            self._keep(message, source)
        if self.head != head:
            self._begin(head + 1)

    def _begin(self, first: int) -> None:
        while self._kept:
            self._drop()
        self.first, self.head = first, first - 1

    def _keep(self, message: Message, source: str) -> None:
        self.head = message.seq
        text = message.text
        size = len(text) if text.isascii() else len(text.encode())
        key = None if message.id is None else (source, message.id)
        if key is not None:
            self._seqs[key] = self.head
        self._kept[self.head] = _Kept(message, key, size)
        self.bytes += size
        while len(self._kept) > self._most or (self.bytes > self._most_bytes and self._kept):
            self._drop()

    def seq_of(self, source: str, id: str | None) -> int | None:
        """Return the number of the message that *source* said under *id*, if it is here."""
        return None if id is None else self._seqs.get((source, id))

    def after(self, seq: int, most: int) -> list[Message]:
        """Return up to *most* messages after number *seq*, none of which may be gone."""
        last = min(self.head, seq + most)
        return [self._kept[number].message for number in range(seq + 1, last + 1)]

    def _drop(self) -> None:
        kept = self._kept.pop(self.first)
        self.first += 1
        self.bytes -= kept.size
        if kept.key is not None and self._seqs.get(kept.key) == kept.message.seq:
            del self._seqs[kept.key]
