"""The read budget: how much of what one client sends is processed in one batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.admission.message_cost import chargeable_size
from broadcast_server.server.frame_splitter import FrameSplitter
from broadcast_server.server.read_budget import ReadBudget


def apply_zero_mask(data: bytes, mask: bytes) -> bytes:
    """Return *data*, whose mask consists of zeros, as it is."""
    assert mask == bytes(4)
    return data


def frame(text: bytes, first: int = 0x81) -> bytes:
    """Serialize a frame with a mask of zeros."""
    size = len(text)
    length = bytes([size]) if size < 126 else bytes([127]) + size.to_bytes(8, "big")
    return bytes([first, 0x80 | length[0]]) + length[1:] + bytes(4) + text


def take_batches(
    budget: ReadBudget, max_messages: int, max_bytes: int
) -> list[list[tuple[int, bytes]]]:
    """Take batch after batch until nothing is left."""
    batches = []
    while True:
        batches.append(list(budget.take(max_messages, max_bytes)))
        if not budget.pending:
            return batches


def test_a_batch_is_limited_in_messages() -> None:
    """Messages over the budget wait for the next batch, in their order."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(b"".join(frame(b"%d" % number) for number in range(5)))
    assert take_batches(budget, 2, 1000) == [
        [(2, b"0\n1")],
        [(2, b"2\n3")],
        [(1, b"4")],
    ]


def test_a_frame_of_many_messages_is_split_between_them() -> None:
    """Each line of a frame counts as one message, so a frame may take several batches."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"1\n2\n3\n4\n5") + frame(b"6"))
    assert take_batches(budget, 2, 1000) == [
        [(1, b"1\n2\n")],
        [(1, b"3\n4\n")],
        [(1, b"5"), (1, b"6")],
        [],
    ]


def test_a_batch_is_limited_in_bytes() -> None:
    """Once the bytes are used up nothing more is taken, but every batch takes one message."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"x" * 50 + b"\n" + b"y" * 50) + frame(b"z"))
    assert take_batches(budget, 100, 10) == [
        [(1, b"x" * 50 + b"\n")],
        [(1, b"y" * 50)],
        [(1, b"z")],
    ]


def test_a_run_is_limited_in_bytes() -> None:
    """Messages that are one piece end the batch before the one that there are no bytes for."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"x" * 10) * 5)
    counts = [sum(count for count, _ in batch) for batch in take_batches(budget, 100, 25)]
    assert counts == [2, 2, 1]


@pytest.mark.parametrize("long", [b"y" * 50, b"y" * 50 + b"\nz", b"y\n" + b"z" * 50])
def test_a_long_message_waits_for_a_batch_of_its_own(long: bytes) -> None:
    """What there are no bytes left for is taken first in the next batch, and is known before."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"x" * 5) + frame(long) + frame(b"last"))
    first, *rest = take_batches(budget, 100, 10)
    assert sum(len(piece) for _, piece in first) <= 10
    taken = [line for batch in (first, *rest) for _, piece in batch for line in piece.split()]
    assert taken == [b"x" * 5, *long.split(), b"last"]


def test_the_next_size_is_that_of_a_long_message() -> None:
    """A client waits for as much as its next message costs, or as its next short ones do."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"x" * 5) + frame(b"y" * 500 + b"\n" + b"z" * 600) + frame(b"s" * 9000))
    sizes = []
    while budget.next_size(10) and (batch := list(budget.take(1, 10000))):
        sizes.append(len(batch[0][1].rstrip(b"\n")))
        budget.unread = 10 if len(sizes) == 4 else budget.unread
        sizes.append(budget.next_size(10))
    assert sizes[:7] == [5, 501, 500, 600, 600, 4096, 9000]


def test_pings_count_as_messages() -> None:
    """A client that sends only pings gets no larger share of a batch than others."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    ping = frame(b"", 0x89)
    budget.add(ping * 5)
    assert [len(batch) for batch in take_batches(budget, 2, 1000)] == [2, 2, 1]


def test_a_message_of_fragments_is_next() -> None:
    """A message assembled from fragments is split like any other, before later messages."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"", 0x89) + frame(b"last"))
    batch = budget.take(3, 1000)
    assert next(batch)[0] == 0
    budget.push_front(b"1\n2\n3")
    assert list(batch) == [(1, b"1\n2\n")]
    assert [list(budget.take(3, 1000)), budget.pending] == [[(1, b"3"), (1, b"last")], False]


def test_nothing_is_taken_without_a_budget() -> None:
    """With a budget of zero messages everything waits."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    budget.add(frame(b"1"))
    assert list(budget.take(0)) == [] and budget.pending
    assert list(budget.take(1)) == [(1, b"1")]


def test_reads_before_a_batch_wait_for_it() -> None:
    """Nothing is lost of several reads before the first batch."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    for number in range(3):
        budget.add(frame(b"%d" % number))
    assert take_batches(budget, 9, 1000) == [[(3, b"0\n1\n2")]]


def feed(take: Callable[[ReadBudget], bytes], data: bytes, step: int) -> bytes:
    """Feed *data* in reads of *step* bytes, calling *take* after each, and join the results."""
    budget = ReadBudget(FrameSplitter(apply_zero_mask), 4096)
    taken = b""
    for place in range(0, len(data), step):
        budget.add(data[place : place + step])
        taken += take(budget)
    return taken


@given(
    st.lists(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), min_size=1)),
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 30),
)
def test_nothing_is_lost_or_moved(
    frames: list[list[bytes]], step: int, max_messages: int, max_bytes: int
) -> None:
    """However it is read and split, every byte is taken once and in order, each line as a whole."""
    lines = [line for frame_lines in frames for line in frame_lines]
    data = b"".join(frame(b"\n".join(frame_lines)) for frame_lines in frames)
    all_complete = [True]

    def take(budget: ReadBudget) -> bytes:
        taken = b""
        for batch in take_batches(budget, max_messages, max_bytes):
            count = 0
            for frame_count, piece in batch:
                if not frame_count:  # a frame that begins in one read and ends in another
                    all_complete[0] = False
                    continue
                parts = piece.split(b"\n")
                count += len(parts) - (piece.endswith(b"\n") and len(parts) > 1)
                taken += piece if piece.endswith(b"\n") else piece + b"\n"
            assert count <= max_messages
        return taken

    taken = feed(take, data, step)
    if all_complete[0]:
        assert taken.split() == b"\n".join(lines).split()


PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"", b"\n", b"a\nb", b"\xc3", b"x" * 70])


@given(
    st.lists(PAYLOADS | st.none(), max_size=20),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 200)), max_size=30),
)
def test_a_run_is_what_its_messages_are(
    payloads: list[bytes | None], limits: list[tuple[int, int]]
) -> None:
    """Messages that are one piece cost what they do one by one, and end a batch at the same."""
    longest = 60
    data = b"".join(frame(b"", 0x89) if each is None else frame(each) for each in payloads)
    budget = ReadBudget(FrameSplitter(apply_zero_mask), longest)
    budget.add(data)
    single = ReadBudget(FrameSplitter(apply_zero_mask), longest)
    single.add(data)
    ahead = ReadBudget(FrameSplitter(apply_zero_mask), 1000)  # at the same place
    ahead.add(data)
    for max_messages, max_bytes in [*limits, (1000, 10_000)]:
        pieces = list(budget.take(max_messages, max_bytes))
        assert all(piece.count(b"\n") == count - 1 for count, piece in pieces if count > 1)
        expected: list[tuple[int, bytes]] = []
        spent = spent_bytes = 0
        bytes_left = max_bytes
        while spent < max_messages and bytes_left > 0:
            if spent and ahead.next_size(0) > bytes_left:
                break
            step = list(single.take(1, bytes_left))
            assert list(ahead.take(1, bytes_left)) == step
            expected += step
            spent += single.spent
            spent_bytes += sum(chargeable_size(piece, longest) for count, piece in step if count)
            bytes_left -= sum(len(piece) for _, piece in step)
            if not step:
                break
        assert requests(pieces) == requests(expected)
        assert (budget.spent, budget.spent_bytes) == (spent, spent_bytes)


def requests(pieces: list[tuple[int, bytes]]) -> list[tuple[bool, bytes]]:
    """Return the lines of *pieces* that are requests, and what is for the library."""
    return [
        (count > 0, line)
        for count, piece in pieces
        for line in (piece.split(b"\n") if count else [piece])
        if line or not count
    ]
