"""The message limit: what is split can be joined again, and what is cut says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.client.message_limit import DEFAULT_LIMIT, MessageLimit
from broadcast_server.client.oversize import CUT, SPLIT
from broadcast_server.protocol.bounds import MAX_MESSAGE_BYTES
from broadcast_server.protocol.messages import SayRequest, validate_message

CLUSTERS = ["e\u0301", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "\u1100\u1161\u11a8"]
"""Each is seen as one character."""

TEXTS = st.lists(
    st.sampled_from(
        ["a", " ", "é", "e\u0301", "👩\u200d👩", "👍🏽", "🇩🇪", "\n", "\u2028", "각", "\r\n"]
    )
    | st.text(max_size=3),
    max_size=60,
).map("".join)


@given(TEXTS, st.integers(1, 60))
def test_each_part_is_a_message_and_nothing_is_lost(text: str, max_bytes: int) -> None:
    """The server takes every part. Together they are the text, but for line breaks."""
    limit = MessageLimit.of_bytes(max_bytes)
    parts = limit.fit(text, SPLIT)
    for part in parts if text else ():
        assert isinstance(validate_message(part, None, max_bytes), SayRequest), part
    if max_bytes >= 4:
        assert "".join(parts).replace("\n", "") == text.replace("\n", "")
    if limit.fits(text):
        assert parts == [text]


@given(TEXTS, st.integers(1, 60))
def test_what_is_cut_is_one_message_with_a_mark(text: str, max_bytes: int) -> None:
    """The beginning of the text and a mark, as long as the limit allows."""
    limit = MessageLimit.of_bytes(max_bytes)
    (cut,) = limit.fit(text, CUT)
    if text:
        assert isinstance(validate_message(cut, None, max_bytes), SayRequest)
    if not limit.fits(text):
        assert cut.endswith("… (cut off)" if max_bytes >= 13 else ("…", ".")[max_bytes < 3])
        begin = cut.removesuffix("… (cut off)" if max_bytes >= 13 else cut[-1])
        assert text.startswith(begin)


@pytest.mark.parametrize(
    "cluster", ["e\u0301", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "\u1100\u1161\u11a8"]
)
def test_no_character_is_taken_apart(cluster: str) -> None:
    """What people see as one character stays in one message."""
    for max_bytes in range(30, 60):
        parts = MessageLimit.of_bytes(max_bytes).fit("x" + cluster * 30, SPLIT)
        assert all(set(part.removeprefix("x").split(cluster)) == {""} for part in parts)


def test_lines_stay_whole() -> None:
    """A text is taken apart between lines if there are some."""
    lines = [f"line {number:03}" for number in range(50)]
    parts = MessageLimit(100, 1000).fit("\n".join(lines), SPLIT)
    assert [line for part in parts for line in part.split("\n")] == lines
    parts = MessageLimit(1000, 7).fit("\n".join(lines), SPLIT)
    assert [line for part in parts for line in part.split("\n")] == lines


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("message is 40000 bytes, limit is 4096", (4096, 256)),
        ("message is 40000 bytes, limit is 4096 (something raises it)", (4096, 256)),
        ("message is more than 102 bytes, limit is 100", (100, 6)),
        ("message is 300 lines, limit is 256", (MAX_MESSAGE_BYTES, 256)),
        ("message is 40000 bytes, limit is 40000", None),
        ("message is 40000 bytes, limit is 0", None),
        ("body is 40000 bytes, limit is 100", None),
        ("message is empty", None),
    ],
)
def test_an_error_tells_the_limit(error: str, expected: tuple[int, int] | None) -> None:
    """Only a lower limit than the known one is news: what fits it was rejected for another."""
    assert DEFAULT_LIMIT.lowered_by(error) == expected


def test_a_long_text_takes_linear_time() -> None:
    """A megabyte is split into the smallest messages at once."""
    assert len(MessageLimit(4, 1).fit("x" * 2**20, SPLIT)) == 2**18
