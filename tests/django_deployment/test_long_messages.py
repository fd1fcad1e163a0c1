"""Messages of 32 KiB in the Django deployment: what waits is bounded in characters."""

from __future__ import annotations

import django_client  # noqa: F401  # it sets Django up
import pytest

from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import Format, LogEntry, Message, MessageHidden
from broadcast_server.rooms.live_room import READ_CHUNK_BYTES, READ_CHUNK_MESSAGES
from broadcast_server.rooms.participant import Participant
from django_site.replication.catch_up import chunk_end
from django_site.replication.outbox import MAX_OUTBOX, MAX_OUTBOX_CHARS, Outbox
from django_site.store.message_log import PendingMessage


@pytest.mark.parametrize(
    ("size", "fitting"),
    [(1, MAX_OUTBOX), (4096, MAX_OUTBOX), (2**15, MAX_OUTBOX_CHARS // 2**15), (2**17, 32)],
)
def test_the_outbox_is_bounded_in_characters(size: int, fitting: int) -> None:
    """Members are not read while as much waits, and a transaction takes no more either."""
    author = Participant(JoinRequest("bob", "lobby", format=Format.JSON), "session", "bob")
    outbox, count = Outbox("p"), 0
    while not outbox.is_full:
        outbox.add_message(author, PendingMessage("bob", "x" * size, "source", str(count)))
        count += 1
    assert count == fitting
    for _ in range(count):  # posts are not held back
        outbox.add_post(author, PendingMessage("bob", "x" * size, "source", "post"))
    sizes = []
    while outbox:
        batch = outbox.next_batch()
        sizes.append(sum(len(each.text) for each in batch.messages()))
        outbox.remove(batch)
    assert max(sizes) < MAX_OUTBOX_CHARS + size and sum(sizes) == 2 * count * size
    assert not outbox.is_full


def test_chunks_of_a_replay_are_bounded_in_characters() -> None:
    """A client that reads slowly has at most one chunk more in its buffer than it may."""
    page: list[LogEntry] = [Message(seq, "a", "x" * 2**15, "at") for seq in range(1, 6)]
    page += [MessageHidden(seq) for seq in range(6, 8)]
    page += [Message(seq, "a", "short", "at") for seq in range(8, 250)]
    start, chunks = 0, []
    while start < len(page):
        end = chunk_end(page, start)
        chunks.append(page[start:end])
        start = end
    assert [len(chunk) for chunk in chunks[:3]] == [2, 2, READ_CHUNK_MESSAGES]
    assert [entry for chunk in chunks for entry in chunk] == page
    texts = [[each.text for each in chunk if isinstance(each, Message)] for chunk in chunks]
    assert all(sum(map(len, chunk)) <= READ_CHUNK_BYTES for chunk in texts)
