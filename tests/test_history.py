"""The log: numbers, keeps, finds again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.history import Log

AT = "2026-11-25T09:00:00.000Z"


def said(log: Log, *texts: str) -> None:
    """Append messages without ids."""
    for text in texts:
        log.append("bob", text, AT, None, "bob's")


def test_numbers_have_no_gaps() -> None:
    """Messages are numbered 1, 2, 3 and found by their numbers."""
    log = Log()
    assert (log.first, log.head, log.after(0, 10)) == (1, 0, [])
    said(log, "one", "two", "three")
    assert [(each.seq, each.text) for each in log.after(1, 10)] == [(2, "two"), (3, "three")]
    assert [each.seq for each in log.after(0, 2)] == [1, 2]
    assert log.after(3, 10) == []


def test_epochs_differ() -> None:
    """Every log has an epoch of its own, which fits into a cursor."""
    epochs = {Log().epoch for _ in range(100)}
    assert len(epochs) == 100
    assert not any("." in epoch for epoch in epochs)


def test_bound_in_messages() -> None:
    """A full log drops its oldest message, and the memory of its id with it."""
    log = Log(messages=2)
    for number in (1, 2, 3):
        log.append("bob", "x", AT, str(number), "bob's")
    assert (log.first, log.head) == (2, 3)
    assert [log.seq_of("bob's", str(number)) for number in (1, 2, 3)] == [None, 2, 3]
    assert len(log._kept) == len(log._seqs) == 2


def test_bound_in_bytes() -> None:
    """The bound in bytes counts UTF-8, and holds for a message that is over it alone."""
    log = Log(size=10)
    said(log, "12345", "1234ö")
    assert log.first == 2
    said(log, "12345678901")
    assert (log.first, log.head, log.after(3, 10)) == (4, 3, [])
    said(log, "x")
    assert [each.seq for each in log.after(3, 10)] == [4]


def test_a_log_of_nothing() -> None:
    """A log that keeps nothing still numbers."""
    log = Log(messages=0)
    said(log, "one", "two")
    assert (log.first, log.head) == (3, 2)


def test_ids_count_in_their_source() -> None:
    """The same id of two sources is two messages, and no id is never known."""
    log = Log()
    log.append("bob", "x", AT, "1", "bob's")
    log.append("carol", "x", AT, "1", "carol's")
    assert (log.seq_of("bob's", "1"), log.seq_of("carol's", "1")) == (1, 2)
    assert log.seq_of("dave's", "1") is None
    assert log.seq_of("bob's", None) is None


@given(st.lists(st.text(max_size=6), max_size=40), st.integers(0, 8), st.integers(0, 30))
def test_bounds_hold(texts: list[str], messages: int, size: int) -> None:
    """Whatever is said, both bounds hold, and what is kept is the newest, whole."""
    log = Log(messages, size)
    texts = [text.encode(errors="replace").decode() for text in texts]
    said(log, *texts)
    kept = [each.text for each in log.after(log.first - 1, 1000)]
    assert len(kept) <= messages
    assert sum(len(text.encode()) for text in kept) <= size
    assert kept == texts[len(texts) - len(kept) :]
    assert log.first == log.head + 1 - len(kept)
