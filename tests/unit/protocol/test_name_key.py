"""Keys of names and the first character of a name, checked with every character of Unicode."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from functools import cache

import pytest

from broadcast_server.protocol.names import name_key, validate_name


@cache  # not when the module is imported: each worker imports it, and one has these tests
def chars() -> list[str]:
    """Return all characters that this Python's Unicode assigns, but private ones and surrogates."""
    return [
        char
        for char in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(char) not in ("Cn", "Co", "Cs")
    ]


@cache
def marks() -> list[str]:
    """Return all characters that combine with the one before: of category Mn, Mc or Me."""
    return [char for char in chars() if unicodedata.category(char)[0] == "M"]


@pytest.mark.parametrize("name", ["{}", "a{}", "{}\u0301"])
def test_a_key_is_in_nfkc_and_is_its_own_key(name: str) -> None:
    """No key can be composed further, and the key of a key is itself."""
    keys = [name_key(name.format(char)) for char in chars()]
    assert [key for key in keys if not unicodedata.is_normalized("NFKC", key)] == []
    assert [key for key in keys if name_key(key) != key] == []


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: unicodedata.normalize("NFD", name),
        lambda name: unicodedata.normalize("NFKC", name),
        lambda name: unicodedata.normalize("NFKD", name),
        str.lower,
        str.casefold,
        # Python writes the Turkish dotless i in capitals as an ordinary I, which is another letter.
        lambda name: name if "\u0131" in name else name.upper(),
    ],
    ids=["NFD", "NFKC", "NFKD", "lower", "casefold", "upper"],
)
def test_every_spelling_of_a_character_has_the_same_key(spell: Callable[[str], str]) -> None:
    """The normal forms of a character have one key, and so do its small and capital letters."""
    names = [(name, spell(name)) for name in map("a{}".format, chars())]
    others = [(name, spelling) for name, spelling in names if spelling != name]
    assert len(others) > 1000
    assert [name for name, spelling in others if name_key(spelling) != name_key(name)] == []


@pytest.mark.parametrize(
    ("small", "capital"),
    [
        # Unicode has the small letter as one character, and the capital only as two. Case folding
        # takes the small one apart and not the capital, so that the result has to be normalised.
        ("τα\u0390ζω", "ΤΑ\u03aa\u0301ΖΩ"),
        ("\u03b0", "\u03ab\u0301"),
        ("\u1fd3", "\u03aa\u0301"),  # which NFC turns into U+0390
    ],
)
def test_a_capital_letter_without_a_character_of_its_own(small: str, capital: str) -> None:
    """A name in capitals has the key of the same name in small letters, however it is composed."""
    assert validate_name(capital) == capital
    assert name_key(capital) == name_key(small)


@pytest.mark.parametrize(
    ("base", "char"),
    [
        ("b", "\u0301"),  # category Mn: an acute accent
        ("\u0915", "\u093e"),  # category Mc: a Devanagari vowel sign
        ("\U0001d158", "\U0001d165"),  # category Mc: the stem of a note
        ("b", "\u20dd"),  # category Me: a circle around the character before it
    ],
)
def test_a_mark_at_the_beginning_is_rejected(base: str, char: str) -> None:
    """A mark of any category would change the text before the name, so no name begins with one."""
    rule = f"name begins with U\\+{ord(char):04X}, which belongs to a letter"
    for name in (char, f"{char}bob"):
        with pytest.raises(ValueError, match=f"^{rule}$"):
            validate_name(name)
    assert validate_name(f"{base}{char}b") == f"{base}{char}b"


def test_no_name_begins_with_a_mark() -> None:
    """Every mark of Unicode is rejected as the first character of a name."""
    for char in marks():
        with pytest.raises(ValueError, match=r"which (belongs to|cannot be seen|looks like)"):
            validate_name(f"{char}bob")
