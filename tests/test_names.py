"""Which names are allowed, and which are one. No character here is newer than Unicode 13."""

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from broadcast_server.names import MAX_NAME, check_name, name_key, numbered

# What names are made of, and what could spoil one, close enough together to meet.
TRICKY = (
    "aA1 -\u00a0\u0301\u0316\u200c\u200d\ufe0f\u2764\U0001f469\u00df\u0130\uff21\u0645\uac00*/:"
)
NAMES = st.text(st.sampled_from(TRICKY) | st.characters(max_codepoint=0x2FFF), max_size=40)


@pytest.mark.parametrize(
    "name",
    [
        "bob",
        "Zoë",
        "rock\u00b4n\u00b4roll",  # U+00B4 has a space in its NFKC form
        "two words",
        "a*b/c",
        "x" * MAX_NAME,
        "\U0001f469" * MAX_NAME,
        "می\u200cخواهم",  # Persian with its ZWNJ
        "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f469",  # a couple: ZWJ after a variation selector
        "\U0001f9d1\U0001f3fd\u200d\U0001f680",  # ZWJ after a skin tone
        "葛\U000e0100",
    ],
)
def test_a_name_may_be_what_people_are_called(name: str) -> None:
    """A name in any script, with emoji and with what its spelling needs, is allowed as it is."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "name is 0 characters, allowed are 1 to 32"),
        ("x" * 33, "name is 33 characters, allowed are 1 to 32"),
        ("e\u0301" * 33, "name is 33 characters, allowed are 1 to 32"),
        ("x" * 100_000, "name is 100000 characters, allowed are 1 to 32"),
        (" bob", "name begins or ends with white space"),
        ("bob\u3000", "name begins or ends with white space"),
        ("bob \ufe0f", "name begins or ends with white space"),
        ("a  b", "name contains a run of white space"),
        ("a \u00a0b", "name contains a run of white space"),
        ("a \ufe0f b", "name contains a run of white space"),
        ("a:b", "name contains a colon"),
        ("a\uff1ab", "name contains a colon"),
        ("* server", "name begins with *"),
        ("\uff0aserver", "name begins with *"),
        ("/who", "name begins with /"),
        ("\uff0fwho", "name begins with /"),
        ("\ufe0f* server", "name begins with U+FE0F, which belongs to a letter"),
        ("\u0301bob", "name begins with U+0301, which belongs to a letter"),
        ("\ufe0f", "name begins with U+FE0F, which belongs to a letter"),
    ],
)
def test_a_name_that_breaks_a_rule_is_told_which(name: str, rule: str) -> None:
    """A name that could pass for something else is refused with the rule that it breaks."""
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        check_name(name)


@pytest.mark.parametrize(
    "char",
    [
        *"\x00\t\n\x0b\x0c\r\x1b\x1c\x7f\x85\u2028\u2029",  # controls and line breaks
        *"\u00ad\u061c\u200b\u200e\u202e\u2066\u2060\ufeff\U000e0041",  # format, bidirectional
        *"\ue000\U000f0000\U0010fffd",  # private use
        *"\ud800\udfff",  # half a surrogate pair
        *"\u034f\u115f\u2800\u3164\uffa0\U000e0002",  # letters and others that show as nothing
    ],
)
def test_a_name_holds_nothing_that_cannot_be_seen(char: str) -> None:
    """A character that shows as nothing, or moves others about, is refused wherever it stands."""
    for name in (char, f"a{char}b", f"a{char}", f"{char}b"):
        with pytest.raises(ValueError, match=rf"U\+{ord(char):04X}, which cannot be seen"):
            check_name(name)


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
@pytest.mark.parametrize("name", ["{}", "{}a", "a{}", "a{}{}b", "a {}b", "1{}2", "a-{}b"])
def test_a_joiner_stands_between_letters_or_emoji(name: str, joiner: str) -> None:
    """A joiner anywhere else has nothing to join, and is refused."""
    with pytest.raises(ValueError, match="in a wrong place"):
        check_name(name.format(joiner, joiner))


def test_a_name_is_kept_in_nfc() -> None:
    """A name typed in pieces comes out whole, and is measured so."""
    assert check_name("e\u0301" * 32) == "é" * 32


@given(NAMES)
def test_a_name_that_was_checked_stays_as_it_is(text: str) -> None:
    """Checking a name twice gives what checking it once gave."""
    try:
        name = check_name(text)
    except ValueError:
        assume(False)
    assert check_name(name) == name


@given(NAMES, st.integers(2, 10**6))
def test_a_numbered_name_is_a_name(text: str, number: int) -> None:
    """Any name with a number is a name that nothing has to be done to."""
    try:
        name = check_name(text)
    except ValueError:
        assume(False)
    assert check_name(numbered(name, number)) == numbered(name, number)


def test_a_long_name_is_cut_for_its_number() -> None:
    """The number is whole and the name gives way, without a joiner or space before the dash."""
    assert numbered("bob", 2) == "bob-2"
    assert numbered("x" * 32, 10) == "x" * 29 + "-10"
    assert numbered("x" * 29 + " yz", 2) == "x" * 29 + "-2"
    assert numbered("x" * 29 + "\u200dyz", 2) == "x" * 29 + "-2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob", "BOB"),
        ("bob", "\uff42\uff4f\uff42"),  # full-width
        ("straße", "STRASSE"),
        ("Zo\u00eb", "Zoe\u0308"),
        ("two words", "two\u00a0words"),
        ("ab", "a\u200db"),
        ("\u00e9", "e\u200d\u0301"),  # the joiner keeps NFC from composing
        ("\u2764", "\u2764\ufe0f"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("x\u00b2", "x2"),
    ],
)
def test_names_that_people_take_for_one_have_one_key(one: str, other: str) -> None:
    """Case, width, composition, and what cannot be seen do not tell names apart."""
    check_name(one), check_name(other)  # both allowed: else they could not meet
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("bob", "rob"), ("bob", "bob-2"), ("e", "é")])
def test_names_that_differ_have_two_keys(one: str, other: str) -> None:
    """Names that anyone can tell apart are two."""
    assert name_key(one) != name_key(other)


@given(NAMES)
def test_a_key_is_the_same_for_every_way_to_write_a_name(text: str) -> None:
    """No normal form of a name gets another key, and the key of a key is that key."""
    try:
        name = check_name(text)
    except ValueError:
        assume(False)
    key = name_key(name)
    assert key
    assert name_key(key) == key
    for form in ("NFD", "NFKC", "NFKD"):
        assert name_key(unicodedata.normalize(form, name)) == key
