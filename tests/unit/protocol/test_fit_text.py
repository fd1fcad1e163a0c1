"""Stored texts: what no frame has room for is replaced by a note."""

from __future__ import annotations

import pytest

from broadcast_server.protocol.bounds import MAX_TEXT_BYTES
from broadcast_server.protocol.messages import fit_text
from broadcast_server.rooms.log_rows import read_message


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", None),
        ("x" * MAX_TEXT_BYTES, None),
        ("\N{PARTY POPPER}" * (MAX_TEXT_BYTES // 4), None),
        ("x" * (MAX_TEXT_BYTES + 1), MAX_TEXT_BYTES + 1),
        ("\N{PARTY POPPER}" * (MAX_TEXT_BYTES // 4 + 1), MAX_TEXT_BYTES + 4),
    ],
    ids=["empty", "longest", "longest of four", "longer", "longer of four"],
)
def test_a_stored_text(text: str, size: int | None) -> None:
    """A text of the largest size is kept, and a note has the size of a longer one."""
    expected = text
    if size is not None:
        expected = f"(message of {size} bytes is not shown, the limit is {MAX_TEXT_BYTES})"
    assert fit_text(text) == expected
    if text:  # a log file with an empty message is damaged
        assert read_message((1, "bob", text, "now", None, "s"))[0].text == expected
