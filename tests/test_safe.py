"""Safe text: what the network sends cannot command a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast_server.names import check_name
from broadcast_server.safe import safe_json, safe_text

ANYTHING = st.text(st.characters() | st.sampled_from("\x1b[]m31;\r\n\t\x07\x9b\u202e\u2066\u2028"))


def obeyed(char: str) -> bool:
    """Tell whether a terminal would do something else with *char* than to show it."""
    if char == "\t":
        return False
    if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp"):
        return True
    return unicodedata.bidirectional(char) in {
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    } or char in "\u200e\u200f\u061c"  # fmt: skip


@given(ANYTHING)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """Whatever comes in, nothing that a terminal would obey comes out."""
    assert not any(map(obeyed, safe_text(text)))


@given(ANYTHING)
def test_once_is_enough(text: str) -> None:
    """What is left when something is taken out is no sequence again."""
    assert safe_text(safe_text(text)) == safe_text(text)


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
def test_what_people_write_stays(text: str) -> None:
    """Letters, digits, punctuation, symbols and spaces of every script stay as they are."""
    assert safe_text(text) == text


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
def test_examples(text: str, shown: str) -> None:
    """A coloured log is read without its colours, and other sequences lose their escape."""
    assert safe_text(text) == shown


@given(st.dictionaries(st.text(), ANYTHING))
def test_json_means_the_same(value: dict[str, str]) -> None:
    """Safe JSON is read as what it was, can be encoded, and has nothing to obey in it."""
    line = safe_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(line) == value
    assert line.encode()
    assert not any(map(obeyed, line))


def test_no_name_has_what_a_terminal_would_obey() -> None:
    """Whatever is unsafe to print is refused in a name, so that the server's log is safe."""
    unsafe = [chr(code) for code in range(0x110000) if safe_text(chr(code)) != chr(code)]
    assert len(unsafe) > 2000
    for char in unsafe:
        with pytest.raises(ValueError):
            check_name(f"a{char}b")
