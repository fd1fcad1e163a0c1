"""Sanitizing: text from the network cannot control a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.protocol.names import validate_name
from broadcast_server.protocol.sanitize import escape_control, strip_control

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
        ("a\x1b]0;title\x07b", "a]0;titleb"),
        ("never ended \x1b[31", "never ended [31"),
        ("\x1b\x1b[2J[2J", "[2J"),
        ("100%\rbob: I quit", "100%bob: I quit"),
        ("ls\t-l", "ls\t-l"),
        ("\u202eevil\u202c", "evil"),
        ("👩\u200d🚒", "👩\u200d🚒"),
    ],
)
def test_sequences_and_control_characters_are_removed(text: str, shown: str) -> None:
    """A coloured log loses its colours, and any other sequence loses its escape."""
    assert strip_control(text) == shown


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
