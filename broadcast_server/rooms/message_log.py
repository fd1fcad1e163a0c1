"""The message log: numbers the messages of one room, and keeps the newest of them in memory.

The log ends with the process, unless `SQLiteLog` restores it. Each log has a random *epoch*, so a
client that reconnects after a restart learns that the numbers it knows are those of another log.
This module knows nothing of rooms or of the wire format.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from typing import Protocol

from broadcast_server.protocol.messages import (
    LogEntry,
    Message,
    MessageHidden,
)

DEFAULT_MAX_MESSAGES = 50_000
"""How many messages the log of a room keeps by default."""

DEFAULT_MAX_BYTES = 16 * 2**20
"""How many bytes of text the log of a room keeps by default."""


class LogFileError(Exception):
    """The log file cannot be used. The text says why, and what to do about it."""


class DamagedRoomError(LogFileError):
    """One room cannot be read from the log file. The others are not affected."""


def new_epoch() -> str:
    """Return a random epoch: 12 characters that are valid in a cursor."""
    return secrets.token_urlsafe(9)


def derive_epoch(key: bytes, room: str, drops: int = 0) -> str:
    """Return the epoch of *room*: the same as long as *key* is, and the room was not dropped.

    *drops* says how often its log was dropped, after which its numbers began again.
    """
    text = f"{room} {drops}" if drops else room  # a room's name has no spaces
    return urlsafe_b64encode(blake2b(text.encode(), key=key, digest_size=9).digest()).decode()


_Entry = tuple[Message, tuple[str, str] | None, int]
"""A message, its id scope and id or None without an id, and the size of its text in bytes. A tuple
takes a fifth of the time of a class with these names. A message that was hidden has no text."""


class MessageLog:
    """The ordered log of one room, bounded in messages and in bytes of text (UTF-8).

    A log that is full drops its oldest message, and forgets the id of that message. So duplicates
    are recognised as far back as the log reaches.
    """

    def __init__(
        self,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        epoch: str | None = None,
    ) -> None:
        self.epoch = epoch or new_epoch()
        self.first = 1
        """The number of the oldest message in the log; `head` + 1 if the log is empty."""
        self.head = 0
        """The number of the newest message, 0 before the first one."""
        self.bytes = 0
        """Bytes of text of all messages in the log."""
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        # By number. A deque would be slow to read in the middle.
        self._entries: dict[int, _Entry] = {}
        self._seqs: dict[tuple[str, str], int] = {}  # by id scope and id

    def append(self, name: str, text: str, at: str, id: str | None, id_scope: str) -> Message:
        """Add a message with the next number, and return it.

        *name* is that of its author, and *at* its time (RFC 3339).
        """
        message = Message(self.head + 1, name, text, at, id)
        self._store(message, id_scope)
        return message

    def append_lines(self, name: str, texts: Iterable[str], at: str) -> list[Message]:
        """Add messages of ASCII without ids, and return them: the same as `append` for each."""
        seq = self.head
        messages = [Message(seq := seq + 1, name, text, at) for text in texts]
        self.head = seq
        sizes = [len(message.text) for message in messages]
        entries = [(message, None, size) for message, size in zip(messages, sizes, strict=True)]
        self._entries.update(zip(range(seq - len(messages) + 1, seq + 1), entries, strict=True))
        self.bytes += sum(sizes)
        self._drop_excess()
        return messages

    def restore(self, epoch: str, head: int, messages: Iterable[tuple[Message, str]]) -> None:
        """Continue a stored log, with its *epoch* and *head*. This log must be new.

        *messages* are the newest of the stored log in order, each with its id scope. If numbers are
        missing among them, only those after the last gap are kept. Raises ValueError if their
        numbers do not rise, or are higher than *head*: the next message would get one of them.
        """
        self.epoch = epoch
        for message, id_scope in messages:
            if not self.head < message.seq <= head:
                raise ValueError(f"message {message.seq} is not between {self.head} and {head}")
            if message.seq != self.head + 1:
                self._restart_at(message.seq)
            self._store(message, id_scope)
        if self.head != head:
            self._restart_at(head + 1)

    def _restart_at(self, first: int) -> None:
        """Drop all messages, so that the next one has the number *first*."""
        while self._entries:
            self._drop_oldest()
        self.first, self.head = first, first - 1

    def _store(self, message: Message, id_scope: str) -> None:
        self.head = message.seq
        text = message.text
        size = len(text) if text.isascii() else len(text.encode())
        key = None if message.id is None else (id_scope, message.id)
        if key is not None:
            self._seqs[key] = self.head
        self._entries[self.head] = message, key, size
        self.bytes += size
        self._drop_excess()

    def _drop_excess(self) -> None:
        while len(self._entries) > self._max_messages or (
            self.bytes > self._max_bytes and self._entries
        ):
            self._drop_oldest()

    def seq_of(self, id_scope: str, id: str | None) -> int | None:
        """Return the number of the message with *id* in *id_scope*, None if it is not in the log.

        A message without an id is never found.
        """
        return None if id is None else self._seqs.get((id_scope, id))

    def read_after(
        self, seq: int, limit: int, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> list[LogEntry]:
        """Return the next messages after number *seq*: at most *limit*, none after *max_bytes*.

        The first of them must still be in the log: *seq* + 1 is not less than `first`.
        """
        messages: list[LogEntry] = []
        for number in range(seq + 1, min(self.head, seq + limit) + 1):
            message, _, size = self._entries[number]
            messages.append(message if message.text else MessageHidden(number, message.id))
            max_bytes -= size
            if max_bytes <= 0:
                break
        return messages

    def find(self, seq: int) -> Message | None:
        """Return message number *seq*, without its text if it is hidden, None if it is not here."""
        entry = self._entries.get(seq)
        return None if entry is None else entry[0]

    def hide(self, seq: int) -> tuple[Message, str]:
        """Forget the text of message *seq*, which must be here. Return what is left of it.

        With it comes its id scope, empty if it has no id.
        """
        message, key, size = self._entries[seq]
        hidden = replace(message, text="")
        self._entries[seq] = hidden, key, 0
        self.bytes -= size
        return hidden, "" if key is None else key[0]

    def _drop_oldest(self) -> None:
        message, key, size = self._entries.pop(self.first)
        self.first += 1
        self.bytes -= size
        # `append` does not check for duplicates. Of two messages with one id, the newer counts.
        if key is not None and self._seqs.get(key) == message.seq:
            del self._seqs[key]


class LogExtent(Protocol):
    """What a room has to know about its log: the epoch, and which numbers it holds."""

    @property
    def epoch(self) -> str:
        """The random id of this log. Numbers of different epochs cannot be compared."""

    @property
    def first(self) -> int:
        """The number of the oldest message that is still in the log; `head` + 1 if none is."""

    @property
    def head(self) -> int:
        """The number of the newest message, 0 before the first one."""

    def seq_of(self, id_scope: str, id: str | None) -> int | None:
        """Return the number of the message with *id* in *id_scope*, None if it is not known."""
