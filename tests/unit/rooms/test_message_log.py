"""The message log: it numbers messages, keeps the newest, and finds them by number and id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from log_files import read_messages

from broadcast_server.rooms.message_log import MessageLog

AT = "2026-11-25T09:00:00.000Z"


def append(log: MessageLog, *texts: str) -> None:
    """Append messages without ids."""
    for text in texts:
        log.append("bob", text, AT, None, "bob's")


def test_numbers_have_no_gaps() -> None:
    """Messages are numbered 1, 2, 3, and `read_after` finds them by their numbers."""
    log = MessageLog()
    assert (log.first, log.head, log.read_after(0, 10)) == (1, 0, [])
    append(log, "one", "two", "three")
    assert [(each.seq, each.text) for each in read_messages(log, 1, 10)] == [
        (2, "two"),
        (3, "three"),
    ]
    assert [message.seq for message in log.read_after(0, 2)] == [1, 2]
    assert log.read_after(3, 10) == []


def test_epochs_differ() -> None:
    """Every log has its own epoch, without the dot that separates the parts of a cursor."""
    epochs = {MessageLog().epoch for _ in range(100)}
    assert len(epochs) == 100
    assert not any("." in epoch for epoch in epochs)


def test_bound_in_messages() -> None:
    """A full log drops its oldest message, and forgets the id of that message."""
    log = MessageLog(max_messages=2)
    for number in (1, 2, 3):
        log.append("bob", "x", AT, str(number), "bob's")
    assert (log.first, log.head) == (2, 3)
    assert [log.seq_of("bob's", str(number)) for number in (1, 2, 3)] == [None, 2, 3]
    assert len(log._entries) == len(log._seqs) == 2


def test_bound_in_bytes() -> None:
    """The bound in bytes counts UTF-8. A single message over the bound is dropped, too."""
    log = MessageLog(max_bytes=10)
    append(log, "12345", "1234ö")
    assert log.first == 2
    append(log, "12345678901")
    assert (log.first, log.head, log.read_after(3, 10)) == (4, 3, [])
    append(log, "x")
    assert [message.seq for message in log.read_after(3, 10)] == [4]


def test_a_log_that_keeps_no_messages() -> None:
    """A log that keeps no messages still numbers them."""
    log = MessageLog(max_messages=0)
    append(log, "one", "two")
    assert (log.first, log.head) == (3, 2)


def test_ids_count_in_their_scope() -> None:
    """The same id in two scopes is two messages, and a message without an id is not found."""
    log = MessageLog()
    log.append("bob", "x", AT, "1", "bob's")
    log.append("carol", "x", AT, "1", "carol's")
    assert (log.seq_of("bob's", "1"), log.seq_of("carol's", "1")) == (1, 2)
    assert log.seq_of("dave's", "1") is None
    assert log.seq_of("bob's", None) is None


@given(
    st.lists(st.text(min_size=1, max_size=6), max_size=40), st.integers(0, 8), st.integers(0, 30)
)
def test_bounds_hold(texts: list[str], messages: int, size: int) -> None:
    """For any messages, both bounds hold, and the log keeps the newest messages unchanged."""
    log = MessageLog(messages, size)
    texts = [text.encode(errors="replace").decode() for text in texts]
    append(log, *texts)
    kept = [message.text for message in read_messages(log, log.first - 1, 1000)]
    assert len(kept) <= messages
    assert sum(len(text.encode()) for text in kept) <= size
    assert kept == texts[len(texts) - len(kept) :]
    assert log.first == log.head + 1 - len(kept)


@given(
    st.lists(st.lists(st.text("ab", max_size=6), min_size=1, max_size=9), max_size=6),
    st.integers(0, 8),
    st.integers(0, 30),
)
def test_lines_are_appended_as_messages_are(
    batches: list[list[str]], messages: int, size: int
) -> None:
    """Several at once have the same numbers, and leave the same log, as one by one."""
    one_by_one, at_once = MessageLog(messages, size, "e"), MessageLog(messages, size, "e")
    for number, texts in enumerate(batches):
        append(one_by_one, f"{number}")
        append(at_once, f"{number}")
        expected = [one_by_one.append("bob", text, AT, None, "bob's") for text in texts]
        assert at_once.append_lines("bob", texts, AT) == expected
        assert (at_once.first, at_once.head, at_once.bytes) == (
            one_by_one.first,
            one_by_one.head,
            one_by_one.bytes,
        )
        first = at_once.first - 1
        assert at_once.read_after(first, 99) == one_by_one.read_after(first, 99)
