"""The typed line: what keys do, and what the terminal shows of it."""

from __future__ import annotations

import pytest

from broadcast_server.terminal.typed_line import MAX_TYPED_CHARS, TypedLine


def typed(*keys: str) -> tuple[list[str], str, str]:
    """Return the lines, what is half typed, and what the terminal shows."""
    line, lines, shown = TypedLine(), list[str](), ""
    for each in keys:
        for stroke in line.feed(each):
            shown += stroke.echo
            lines += [] if stroke.line is None else [stroke.line]
            lines += ["(end)"] if stroke.is_end else []
    return lines, line.text, shown


@pytest.mark.parametrize(
    ("keys", "lines", "text", "shown"),
    [
        (["hi\r"], ["hi"], "", "hi\n"),
        (["a", "b", "\n", "c"], ["ab"], "c", "ab\nc"),
        (["one\ntwo\nth"], ["one", "two"], "th", "one\ntwo\nth"),
        (["abc\x7f\x7f"], [], "a", "abc" + "\b \b" * 2),
        (["\x7f\x08"], [], "", ""),
        (["日\x7f"], [], "", "日" + "\b \b" * 2),
        (["ae\u0301\x7f"], [], "a", "ae\u0301" + "\b \b"),
        (["two words\x17"], [], "two ", "two words" + "\b \b" * 5),
        (["two words  \x17\x17"], [], "", "two words  " + "\b \b" * 11),
        (["two words\x15"], [], "", "two words" + "\b \b" * 9),
        (["a\tb\x00\x1b[A\x1b[31mc\x1bOP"], [], "a bc", "a bc"),
        (["a\x04", "\x15\x04"], ["(end)"], "", "a\b \b"),
    ],
)
def test_keys(keys: list[str], lines: list[str], text: str, shown: str) -> None:
    """Each key changes the line as a terminal's own editor does, and shows what has changed."""
    assert typed(*keys) == (lines, text, shown)


def test_a_long_line_is_bounded() -> None:
    """What is typed beyond the limit is ignored."""
    assert len(typed("x" * (MAX_TYPED_CHARS + 10))[1]) == MAX_TYPED_CHARS
