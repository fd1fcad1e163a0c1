"""The outbox: what members of this process asked for and the database has not taken yet.

It keeps messages and renames in order, and between them the events that one member is to get
after the echo of what it sent before: an error, a pong, an answer to `/who`. Pure: the replica
says when a batch was logged and how far the room has been delivered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from broadcast_server.protocol.messages import Error, Event, Renamed
from broadcast_server.protocol.operators import OperatorEvent
from broadcast_server.rooms.actions import ClaimName, Operate
from broadcast_server.rooms.participant import Participant
from django_site.store.message_log import NO_ID_PREFIX, Logged, PendingMessage
from django_site.store.operating import OperateAttempt
from django_site.store.presence import RenameAttempt
from django_site.store.publish import AuthorGone, Outcome
from django_site.store.silence import Silenced

MAX_BATCH_MESSAGES = 1000
"""How many items one transaction takes."""

MAX_OUTBOX = 1000
MAX_OUTBOX_CHARS = 4 * 2**20
"""With this many items, or characters of messages, waiting, no further frame is taken from the
room's members. One transaction takes no more after so many characters either."""

Item = PendingMessage | ClaimName | Operate | Event
"""A message, a rename, an act of an operator, or an event that follows what its member asked for
before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The items that one transaction takes, each with the participant it is from."""

    items: Sequence[tuple[Participant, Item]]

    def messages(self) -> list[PendingMessage]:
        """Return the messages."""
        return [item for _, item in self.items if isinstance(item, PendingMessage)]

    def renames(self, connection_id_of: Callable[[Participant], str]) -> list[RenameAttempt]:
        """Return the renames as the database takes them."""
        return [
            RenameAttempt(connection_id_of(member), item.name, item.id)
            for member, item in self.items
            if isinstance(item, ClaimName)
        ]

    def operations(self, connection_id_of: Callable[[Participant], str]) -> list[OperateAttempt]:
        """Return what operators ask for as the database takes it."""
        return [
            OperateAttempt(connection_id_of(member), item.request)
            for member, item in self.items
            if isinstance(item, Operate)
        ]


class Outbox:
    """The outbox of one room in one process. *process* makes ids that no other process makes."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._ids = count()
        self._items: list[tuple[Participant, Item]] = []
        self._pending: Counter[Participant] = Counter()  # messages and renames in it
        self._answers: dict[int, list[tuple[Participant, Event]]] = {}  # by the number they follow
        self._removed = 0  # items that were taken out, since the start
        self._chars = 0  # of the messages in it

    def __len__(self) -> int:
        return len(self._items)

    @property
    def end(self) -> int:
        """The place behind the last item, counted from the start."""
        return self._removed + len(self._items)

    def end_of(self, batch: Batch) -> int:
        """Return the place behind the last item of *batch*, which is the next to be removed."""
        return self._removed + len(batch.items)

    @property
    def is_full(self) -> bool:
        """Whether so much waits that no more should be taken."""
        return len(self._items) >= MAX_OUTBOX or self._chars >= MAX_OUTBOX_CHARS

    def log_key(self, id_scope: str, id: str | None) -> tuple[str, str]:
        """Return the source and id under which the log knows a message.

        A message without an id gets one of ours, so that it is logged once even if the answer
        to its commit is lost.
        """
        if id is not None:
            return id_scope, id
        return NO_ID_PREFIX + id_scope, f"{self._process}{next(self._ids)}"

    def add_message(self, author: Participant, message: PendingMessage) -> None:
        """Add a message of a member."""
        self.add_post(author, message)
        self._pending[author] += 1

    def add_post(self, author: Participant, message: PendingMessage) -> None:
        """Add a message of a client that does not join. It has no other answers to wait for."""
        self._items.append((author, message))
        self._chars += len(message.text)

    def add_claim(self, claim: ClaimName) -> None:
        """Add a rename."""
        self._items.append((claim.member, claim))
        self._pending[claim.member] += 1

    def add_operation(self, operation: Operate) -> None:
        """Add what an operator asks for."""
        self._items.append((operation.member, operation))
        self._pending[operation.member] += 1

    def defer(self, member: Participant, event: Event) -> bool:
        """Keep *event* until what *member* asked for before is done; False if nothing is."""
        if not self._pending[member]:
            return False
        self._items.append((member, event))
        return True

    def clear(self) -> None:
        """Drop everything: the room is gone."""
        self._items.clear()
        self._chars = 0

    def next_batch(self) -> Batch:
        """Return what the next transaction takes: messages, renames, or acts, never two of them.

        A batch renames each member once at most, since everyone is to see each of its names. The
        same holds for acts, so that their answers are in order.
        """
        items: list[tuple[Participant, Item]] = []
        busy: set[Participant] = set()
        kind: type[Item] | None = None
        chars = 0
        for participant, item in self._items[:MAX_BATCH_MESSAGES]:
            own = type(item) if isinstance(item, ClaimName | Operate) else PendingMessage
            if participant in busy or (items and own is not kind):
                break
            kind = own
            if own is not PendingMessage:
                busy.add(participant)
            items.append((participant, item))
            if isinstance(item, PendingMessage):
                chars += len(item.text)
                if chars >= MAX_OUTBOX_CHARS:
                    break
        return Batch(items)

    def remove(self, batch: Batch) -> None:
        """Remove *batch*, which the database has taken."""
        del self._items[: len(batch.items)]
        self._removed += len(batch.items)
        self._chars -= sum(len(message.text) for message in batch.messages())

    def sort_answers(
        self,
        batch: Batch,
        outcomes: Sequence[Outcome],
        renamed: Sequence[Renamed | Error],
        operated: Sequence[OperatorEvent | Error | None] = (),
    ) -> Iterator[tuple[Participant, PendingMessage, Outcome]]:
        """File the answers in *batch* under the log number that each follows.

        Yields each message of the batch with its outcome, whose own answer the caller decides
        on and files with `answer_after`. Answers that follow no message are filed under 0.
        """
        next_outcome, next_renamed, next_operated = iter(outcomes), iter(renamed), iter(operated)
        last_seq: dict[Participant, int] = {}
        for participant, item in batch.items:
            if isinstance(item, ClaimName):
                self._pending[participant] -= 1
                answer = next(next_renamed)
                if isinstance(answer, Error) or answer.name == answer.to:
                    self.answer_after(0, participant, answer)
            elif isinstance(item, Operate):
                self._pending[participant] -= 1
                result = next(next_operated)
                if result is not None:
                    self.answer_after(0, participant, result)
            elif isinstance(item, PendingMessage):
                outcome = next(next_outcome)
                if isinstance(outcome, Logged | AuthorGone | Silenced):
                    self._pending[participant] -= 1
                if isinstance(outcome, Silenced):
                    id = None if item.source[0] == NO_ID_PREFIX else item.client_id
                    error = replace(outcome.error, id=id)
                    self.answer_after(last_seq.get(participant, 0), participant, error)
                if isinstance(outcome, Logged):
                    last_seq[participant] = outcome.seq
                yield participant, item, outcome
            else:
                self.answer_after(last_seq.get(participant, 0), participant, item)
        self._pending = +self._pending  # drop the zeros

    def answer_after(self, seq: int, participant: Participant, event: Event) -> None:
        """Have *participant* get *event* once everything up to number *seq* is delivered."""
        self._answers.setdefault(seq, []).append((participant, event))

    def take_answers(self, head: int) -> Iterator[tuple[Participant, Event]]:
        """Yield the answers that are due, now that everything up to *head* is delivered."""
        for seq in sorted(seq for seq in self._answers if seq <= head):
            yield from self._answers.pop(seq)
