"""Sanitizing: text from the network cannot control a terminal."""

from __future__ import annotations

import json
import time
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broadcast_server.protocol.names import validate_name
from broadcast_server.protocol.sanitize import (
    escape_control,
    lines_to_print,
    strip_control,
    strip_keys,
)

ANYTHING = st.text(st.characters() | st.sampled_from("\x1b[]m31;\r\n\t\x07\x9b\u202e\u2066\u2028"))


def is_obeyed(char: str) -> bool:
    """Return whether a terminal would do anything else with *char* than show it."""
    if char == "\t":
        return False
    if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(char) in {
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    } or char in "\u200e\u200f\u061c"  # fmt: skip


@given(ANYTHING)
def test_everything_that_a_terminal_obeys_is_removed(text: str) -> None:
    """Whatever the text is, the result has nothing that a terminal would obey."""
    assert not any(map(is_obeyed, strip_control(text)))


@given(ANYTHING)
def test_removing_creates_no_new_sequence(text: str) -> None:
    """Removing a sequence does not join the rest into another one."""
    assert strip_control(strip_control(text)) == strip_control(text)


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_ordinary_text_is_unchanged(text: str) -> None:
    """Letters, digits, punctuation, symbols and spaces of every script are kept."""
    assert strip_control(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mERROR\x1b[0m disk full", "ERROR disk full"),
        ("FAILED\x1b(B\x1b[m here", "FAILED here"),  # a character set, as of `tput sgr0`
        ("\x1b)0\x1b%G\x1b#8\x1b F\x1b$(Dtext", "text"),
        ("\x1b7\x1b[3Ca\x1b8\x1b=\x1b>\x1bcb\x1bM", "ab"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]2;title\x1b\\b", "ab"),
        ("\x1b]8;id=1;https://example.org/\x1b\\link\x1b]8;;\x1b\\!", "link!"),
        ("\x1b]8;;https://example.org/\x07link\x1b]8;;\x07!", "link!"),
        ("\x1b]P1ff0000red\x1b]R!", "red!"),  # the palette of the Linux console has no end
        ("a\x1bPq#0;2;0;0;0~-\x1b\\b", "ab"),  # a picture
        ("a\x1b^privacy\x1b\\b\x1b_Gf=24;AAAA\x1b\\c", "abc"),
        ("a\x1bXany \x1b[31m\x07 string\x1b\\b", "ab"),
        ("a\x1bktitle\x1b\\b", "ab"),  # a title in screen
        ("a\x1bkb", "ab"),
        ("a\x1bPtmux;\x1b\x1b]52;c;AAAA\x07\x1b\\b", "ab"),
        ("\x9b31mred\x9bm \x9d0;title\x9cb\x90q~\x9cc\x98s\x9cd\x9ep\x9ce\x9fa\x9cf", "red bcdef"),
        ("\x9d0;title\x07b\x85c\x84d", "bcd"),
        ("never ended \x1b[31", "never ended "),
        ("never ended \x1b", "never ended "),
        ("never ended \x1b(", "never ended "),
        ("never ended \x1b]0;title", "never ended "),
        ("never ended \x1b]8;;https://example.org/\x1b", "never ended "),
        ("never ended \x1bPq~", "never ended "),
        ("never ended \x1bXq\x1b[31mred", "never ended red"),  # an escape ends it for xterm
        ("cancelled \x1b[31\x18red \x1b]0;title\x1ared", "cancelled red red"),
        ("\x1b]0;ti\x1b[31mred", "red"),
        ("\x1b[3\x081m\x1b[1 q\x1b[?25h\x1b[>4;1m\x1b[38:2::1:2:3mred", "red"),
        ("\x1b[31é \x1bé", "é é"),
        ("\x1b[31\x1b[32mred", "red"),
        ("\x1b\x1b[2J[2J", "[2J"),
        ("100%\rbob: I quit", "100%bob: I quit"),
        ("ls\t-l", "ls\t-l"),
        ("\u202eevil\u202c", "evil"),
        ("👩\u200d🚒", "👩\u200d🚒"),
    ],
)
def test_sequences_and_control_characters_are_removed(text: str, shown: str) -> None:
    """A control sequence is removed as a whole, and never more than its line."""
    assert strip_control(text) == shown


def test_a_sequence_ends_with_its_line() -> None:
    """What has no end in its line leaves the next lines of a message as they are."""
    lines = lines_to_print("bob", "a\x1b]0;tit\nle\x07b\n\x1bP\nc")
    assert lines == ["bob: a", "bob: leb", "bob: ", "bob: c"]


FINAL = st.characters(min_codepoint=0x40, max_codepoint=0x7E)
COMMAND = st.text(
    st.sampled_from("\x08\t\x0b\x0c") | st.characters(min_codepoint=0x20, max_codepoint=0x7E)
)
ST = st.sampled_from(("\x1b\\", "\x9c"))
SEQUENCES = st.one_of(
    # ECMA-48, 5.4: parameters, intermediate octets, a final one.
    st.tuples(
        st.sampled_from(("\x1b[", "\x9b")),
        st.text(st.characters(min_codepoint=0x30, max_codepoint=0x3F)),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2F)),
        FINAL,
    ),
    # 5.6: a command string, or a character string that has anything in it but SOS and ST.
    st.tuples(st.sampled_from(("\x1bP", "\x90", "\x1b^", "\x9e", "\x1b_", "\x9f")), COMMAND, ST),
    st.tuples(
        st.sampled_from(("\x1bX", "\x98")),
        st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\x1b\n\x98\x9c")),
        ST,
    ),
    st.tuples(
        st.sampled_from(("\x1b]", "\x9d")),
        st.from_regex(r"\A[0-9]+;[ -~]*\Z"),
        ST | st.just("\x07"),
    ),
    # 5.5 and ECMA-35, 13.2: the introducers of what is above are no sequences of their own.
    st.tuples(
        st.just("\x1b"),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2F), min_size=1),
        st.characters(min_codepoint=0x30, max_codepoint=0x7E),
    ),
    st.tuples(
        st.just("\x1b"),
        st.characters(min_codepoint=0x30, max_codepoint=0x7E, exclude_characters="PX[]^_k"),
    ),
    st.tuples(
        st.characters(categories=["Cc"], exclude_characters="\t\x1b\x90\x98\x9b\x9d\x9e\x9f")
    ),
).map("".join)  # fmt: skip
PLAIN = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")))


@settings(max_examples=60)
@given(st.lists(PLAIN | SEQUENCES.map(lambda text: (text,)), max_size=8))
def test_nothing_of_a_sequence_is_left(parts: list[str | tuple[str]]) -> None:
    """Of text with sequences of any kind in it, exactly the text is left."""
    text = "".join(part if isinstance(part, str) else part[0] for part in parts)
    assert strip_control(text) == "".join(part for part in parts if isinstance(part, str))


@given(PLAIN, SEQUENCES, st.data())
def test_nothing_of_a_sequence_that_is_cut_off_is_left(
    text: str, sequence: str, data: st.DataObject
) -> None:
    """A sequence that is cut off by the end of its line is removed as well."""
    cut = data.draw(st.integers(0, len(sequence)))
    assume("\x98" not in sequence and "\x1bX" not in sequence)  # an unfinished SOS is a guess
    assert strip_control(text + sequence[:cut]) == text


@pytest.mark.parametrize(
    "unit",
    ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1bX", "\x1b\0X", "\x1bk", "\x98", "\x1bX\x1b[", "\x1b("],
)
def test_many_sequences_take_linear_time(unit: str) -> None:
    """What has no end is not searched for its end again and again."""
    before = time.process_time()
    assert strip_control(unit * (2**17 // len(unit))) == ""
    assert time.process_time() - before < 5  # it takes 0.1 s, and quadratic time is a minute


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("hi\x1a", "hi"),
        ("a\x1b[Db", "ab"),  # an arrow, where the terminal edits lines
        ("\x1bOPx\x7f", "Px"),
        ("a\tb\n  c\u200f\u2067", "a\tb\n  c\u200f\u2067"),
        ("\x1b]0;x\nb", "\nb"),
    ],
)
def test_keys_leave_nothing_in_a_message(typed: str, sent: str) -> None:
    """What is typed has no control characters but tabs and line ends, and keeps the rest."""
    assert strip_keys(typed) == sent


@given(st.dictionaries(st.text(), ANYTHING))
def test_escaped_json_has_the_same_meaning(value: dict[str, str]) -> None:
    """Escaped JSON has the same value, is encodable, and has nothing that a terminal obeys."""
    line = escape_control(json.dumps(value, ensure_ascii=False))
    assert json.loads(line) == value
    assert line.encode()
    assert not any(map(is_obeyed, line))


def test_a_name_contains_nothing_that_a_terminal_would_obey() -> None:
    """A character that is unsafe to print is invalid in a name, so the server's log is safe."""
    unsafe = [chr(code) for code in range(0x110000) if strip_control(chr(code)) != chr(code)]
    assert len(unsafe) > 2000
    for char in unsafe:
        with pytest.raises(ValueError):
            validate_name(f"a{char}b")
