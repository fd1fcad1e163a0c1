"""Which names are valid, and which are the same. No character is newer than Unicode 13."""

import re
import unicodedata
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from broadcast_server.protocol import names
from broadcast_server.protocol.look_alikes import BLANK, COLON_LETTERS
from broadcast_server.protocol.names import (
    MAX_NAME_CHARS,
    name_key,
    validate_name,
    validate_room,
    with_suffix,
)

# Ordinary characters of names and problematic ones, few enough to be drawn side by side.
TRICKY = (
    "aA1 -\u00a0\u0301\u0316\u200c\u200d\ufe0f\u2764\U0001f469\u00df\u0130\uff21\u0645\uac00*/:"
)
BLOCKS = (
    (0x20, 0x24F),
    (0x370, 0x3FF),
    (0x400, 0x4FF),
    (0x5D0, 0x6FF),
    (0x900, 0x97F),
    (0x20, 0x2FFF),
)
"""Characters of one alphabet: a word that mixes alphabets is rejected."""

NAMES = st.one_of(
    [
        st.text(
            st.sampled_from(TRICKY) | st.characters(min_codepoint=first, max_codepoint=last),
            max_size=40,
        )
        for first, last in BLOCKS
    ]
)

# Most texts at random are no names. These tests are about those that are.
of_names = settings(suppress_health_check=[HealthCheck.filter_too_much], deadline=None)


@pytest.mark.parametrize(
    "name",
    [
        "bob",
        "Zoë",
        "rock\u00b4n\u00b4roll",  # U+00B4 has a space in its NFKC form
        "two words",
        "a*b/c",
        "x" * MAX_NAME_CHARS,
        "\U0001f469" * MAX_NAME_CHARS,
        "می\u200cخواهم",  # Persian with its ZWNJ
        "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f469",  # a couple: ZWJ after a variation selector
        "\U0001f9d1\U0001f3fd\u200d\U0001f680",  # ZWJ after a skin tone
        "葛\U000e0100",
        *("Анна", "李雷", "مريم", "Ελένη", "José", "O'Brien", "Dr. Anna Müller", "김철수", "सीता"),
        *("ノア", "一郎", "山田\u3000太郎", "Мар'яна", "สมชาย", "ကိုကို", "Nguyễn Thị Hồng", "மணி"),
        *(
            "1\ufe0f\u20e3",
            "#\ufe0f\u20e3",
            "★ Anna ★",
            "\U0001f1e9\U0001f1ea Anna",
            "(bob)",
            "-bob",
        ),
        *("মোঃ", "মোঃ আব্দুল করিম", "दुःशासन", "रामः-2", "ကျော်စိုး", "Kyaw ကျော်စိုး", "នាងរះ"),
        *(
            "มานะ",
            "มานะ Smith",
            "ພະ",
            "ⵓⵙⵎⴰⵏ",
            "ᱥᱟᱱᱛᱟᱲᱺ",
            "രാമഃ",
            "ཨཿ",
            "יְהוּדָה",
            "مُحَمَّد",
            "ក្រុម",
            "ኃይለ",
        ),
        *("Νίκος Smith", "李Lee", "bob-2", "left", "joined", "Isnow", "Left Eye", "is", "more"),
    ],
)
def test_a_valid_name_is_returned_unchanged(name: str) -> None:
    """A name in any script, with emoji and the joiners that its spelling needs, is valid."""
    assert validate_name(name) == name


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
        ("a, b", "name contains a comma"),
        ("a\u060c b", "name contains U+060C, which looks like a comma"),
        ("alice \u2714", "name contains U+2714, which looks like the mark of an account"),
        ("-- 3 messages missed --", "name begins with dashes"),
        ("\u2013\u2212 3 messages missed --", "name begins with dashes"),
        ("\u2014 bob", "name begins with dashes"),
        ("-", "name begins with dashes"),  # bob-2 of it would be --2
        ("bob.\u0307 hi", "name contains U+0307 in a wrong place"),
        ("bob \u0307", "name contains U+0307 in a wrong place"),
        ("a\ufe0fb", "name contains U+FE0F in a wrong place"),
        ("\u2764\ufe0f\ufe0f", "name contains U+FE0F in a wrong place"),
        ("bob\ufe30 hi", "name contains U+FE30, which looks like another character"),
        ("b\u03bfb", "name mixes Greek and Latin letters in one word"),
        ("Ann\u0430", "name mixes Cyrillic and Latin letters in one word"),
        ("\u0391\u043d\u043d\u0430", "name mixes Cyrillic and Greek letters in one word"),
    ],
)
def test_an_invalid_name_raises_the_rule(name: str, rule: str) -> None:
    """A name that could look like something else is rejected with the rule that it breaks."""
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        validate_name(name)


@pytest.mark.parametrize(
    "char",
    [
        *"\x00\t\n\x0b\x0c\r\x1b\x1c\x7f\x85\u2028\u2029",  # controls and line breaks
        *"\u00ad\u061c\u200b\u200e\u202e\u2066\u2060\ufeff\U000e0041",  # format, bidirectional
        *"\ue000\U000f0000\U0010fffd",  # private use
        *"\ud800\udfff",  # half a surrogate pair
        *"\u034f\u115f\u2800\u3164\uffa0\U000e0002",  # letters and others that are invisible
        *"\u1160\u17b4\u180e\u2065\ufffc\ufff0\U00016fe4\U0001d159\U0001d173\U000e01f0",
        *"\u1680\u2007\u2009\u200a\u202f\u205f",  # spaces that are narrow, or look like a dash
        *"\u0378\ufdd0\uffff\U000e0fff\U0010ffff",  # not assigned
    ],
)
def test_a_name_contains_no_invisible_character(char: str) -> None:
    """A character that is invisible, or reorders others, is rejected wherever it stands."""
    for name in (char, f"a{char}b", f"a{char}", f"{char}b"):
        with pytest.raises(ValueError, match=rf"U\+{ord(char):04X}, which cannot be seen"):
            validate_name(name)


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
@pytest.mark.parametrize("name", ["{}", "{}a", "a{}", "a{}{}b", "a {}b", "1{}2", "a-{}b"])
def test_a_joiner_is_valid_only_between_letters_or_emoji(name: str, joiner: str) -> None:
    """A joiner anywhere else joins nothing, and is rejected."""
    with pytest.raises(ValueError, match="in a wrong place"):
        validate_name(name.format(joiner, joiner))


def test_a_name_is_normalised_to_nfc() -> None:
    """A name is returned in NFC, and its length is that of NFC."""
    assert validate_name("e\u0301" * 32) == "é" * 32


@of_names
@given(NAMES)
def test_validating_a_name_twice_changes_nothing(text: str) -> None:
    """A validated name is valid, and is returned unchanged."""
    try:
        name = validate_name(text)
    except ValueError:
        assume(False)
    assert validate_name(name) == name


@of_names
@given(NAMES, st.integers(2, 10**6))
def test_a_name_with_a_suffix_is_a_valid_name(text: str, number: int) -> None:
    """Any valid name with a suffix is valid, and is returned unchanged."""
    try:
        name = validate_name(text)
    except ValueError:
        assume(False)
    assert validate_name(with_suffix(name, number)) == with_suffix(name, number)


def test_a_long_name_is_shortened_for_its_suffix() -> None:
    """The name is shortened and the number is not; no joiner or space is before the hyphen."""
    assert with_suffix("bob", 2) == "bob-2"
    assert with_suffix("x" * 32, 10) == "x" * 29 + "-10"
    assert with_suffix("x" * 29 + " yz", 2) == "x" * 29 + "-2"
    assert with_suffix("x" * 29 + "\u200dyz", 2) == "x" * 29 + "-2"
    assert with_suffix("က" * 29 + "\u1039ကက", 2) == "က" * 29 + "-2"


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
        ("Bill", "BiII"),
        ("alice", "a1|ce"),
        ("al\u0131\u0307ce", "alice"),  # i has a dot anyway
        ("max", "rnax"),
        ("walter", "VVALTER"),
        ("bob", "b0b"),
        ("bob", "\u0299\u1d0f\u0299"),  # small capitals
        ("bob", "\U0001f171\U0001f17e\U0001f171"),  # white on black
        ("bob-2", "bob\uff0d2"),
        ("bob-2", "bob\u20102"),
        ("O'Brien", "O\u2019Brien"),
        ("O'Brien", "O\u00b4Brien"),
        ("\u0441\u043e\u0440", "cop"),  # Cyrillic
        ("\u0392\u039f\u0392", "bob"),  # Greek
        ("\u03b1\u03bd\u03b1", "ava"),
        ("Вера", "ВЕРА"),
        ("Боб", "боб"),
        ("Ελένη", "ΕΛΈΝΗ"),
        ("Νίκος", "ΝΊΚΟΣ"),
        ("o\u0338", "o\u0338\u0338"),  # one stroke on top of the other
        ("ロ", "口"),
        *(("\u0110\u1eb7ng", "\u00d0\u1eb7ng"), ("\u03c9", "\u0461"), ("h\u025bllo", "hello")),
    ],
)
def test_names_that_look_the_same_have_the_same_key(one: str, other: str) -> None:
    """Case, width, composition, and invisible characters do not distinguish names."""
    validate_name(one), validate_name(other)  # invalid names could not be in one room
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("bob", "rob"), ("bob", "bob-2"), ("e", "é"), ("bob-2", "bob-3"), ("x12", "x21")),
        *(("Anna", "Анна"), ("Иван", "Ivan"), ("van", "nan"), ("李", "雷"), ("ひ", "ヒ")),
    ],
)
def test_different_names_have_different_keys(one: str, other: str) -> None:
    """Names that people can tell apart have different keys."""
    assert name_key(one) != name_key(other)


@pytest.mark.parametrize(
    "sign",
    "\u02d0\u02f8\u0589\u05c3\u0703\u0831\u0903\u0a83\u0f34\u0fd2\u1361\u1362\u1367\u1392\u1393\u16ec"
    "\u17d6\u1803\u1804\u1b5d\u1cd3\u205a\u205d\u205e\u2236\u2237\u22ee\u254f\u2806\u2841\u28b8\u2982"
    "\u2999\u29f4\u2a74\u2e3d\u302f\ua4fd\ua6f4\ua789\ua829\ua9c7\ufbbd\ufe13\ufe19\ufe30\ufe55\uff1a"
    "\U0001015b\U00010af5\U0001104a\U0001123a\U000112a9\U0001d108\U0001d1d4",
)
def test_nothing_looks_like_a_colon(sign: str) -> None:
    """A look-alike of the colon that ends a name is rejected wherever it stands."""
    for name in (f"bob{sign} I resign", f"\u4e00{sign}"):
        with pytest.raises(ValueError, match=r"colon|another character|wrong place"):
            validate_name(name)


@pytest.mark.parametrize("sign", sorted(COLON_LETTERS))
def test_a_letter_like_a_colon_stands_only_among_letters_of_its_script(sign: str) -> None:
    """A visarga and its kind are rejected after a letter of another script, or before one."""
    names = [f"bob{sign} I resign", f"bob{sign}", f"Анна {sign}", f"李2{sign}", f"\U0001f600{sign}"]
    if sign not in "\u0e30\u0eb0":
        letter = letters().get(unicodedata.name(sign, "").split(" ")[0], "a")
        names.append(f"{letter}{sign} I resign")
    for name in names:
        with pytest.raises(ValueError, match=r"looks like a colon|wrong place|cannot be seen"):
            validate_name(name)


@cache
def letters() -> dict[str, str]:
    """Return a letter of each script, by the first word of its name."""
    found = (char for char in map(chr, range(0x20000)) if unicodedata.category(char) == "Lo")
    return {unicodedata.name(char, "").split(" ")[0]: char for char in found}


@pytest.mark.parametrize(
    "name",
    [
        *("bob\u0743", "bob\u05b0", "al\u064bice", "李\u0951", "राम\u0982"),
        *("bob\ua4f8\u0307", "bob\u0660\u0307", "bob\ua78f\u0323"),  # a dot on a dot
        *("မောင်\u1039", "ក\u17d2-2", "က\u1039 က"),  # nothing to stack
    ],
)
def test_a_mark_follows_a_letter_of_its_script(name: str) -> None:
    """A mark after another script, on a letter that is a dot, or without effect, is rejected."""
    with pytest.raises(ValueError, match="in a wrong place"):
        validate_name(name)


def test_what_is_blank_does_not_depend_on_the_version_of_python() -> None:
    """Blanks that this Python may not know yet are in the table: these are of Unicode 15."""
    for char in "\U00013440\U00013441\U00013442\u2d7f\U0001107f":
        assert re.fullmatch(BLANK, char)
        with pytest.raises(ValueError, match="cannot be seen"):
            validate_name(f"\U00013000{char}")


@pytest.mark.parametrize(
    ("leader", "signs"),
    [
        ("\\*", "*\u066d\u204e\u2217\u22c6\u2731\ufe61\uff0a\U0001031f"),
        ("/", "/\u2044\u2215\u2571\u27cb\u29f8\uff0f\U0001f67c"),
        ("\u2022", "\u2022\u00b7\u2027\u2219\u22c5\u25cf\u30fb\uff65"),
    ],
)
def test_nothing_looks_like_the_beginning_of_another_line(leader: str, signs: str) -> None:
    """A name does not begin like a line of the server, a command or an action, in any font."""
    for sign in signs:
        with pytest.raises(ValueError, match=f"name begins with .*{leader}$"):
            validate_name(f"{sign} the server is stopping")
        assert sign == "/" or validate_name(f"a{sign}b")


@pytest.mark.parametrize(
    "name",
    [
        *("bob joined the chat", "alice is now bob", "bob left the chat", "is now x", "x is now"),
        *("bob JOINED  the chat".replace("  ", "\u00a0"), "bob j\u00f3ined the chat"),
        *(
            "bob jo1ned the chat",
            "x ls now y",
            "x-is-now-y",
            "bob joined",
            "BOB left",
            "a and 7 more",
        ),
        *("\u0430 \u0456\u0455 now \u0430", "x has joined_the_chat", "x \u0131s now y"),
    ],
)
def test_a_name_does_not_read_like_a_notice(name: str) -> None:
    """The words of the server's notices, and of the page's, are not in a name in any spelling."""
    with pytest.raises(ValueError, match="name reads like a notice of the server"):
        validate_name(name)


@of_names
@given(NAMES)
def test_every_normal_form_of_a_name_has_the_same_key(text: str) -> None:
    """All normal forms of a name have one key, and the key of a key is itself."""
    try:
        name = validate_name(text)
    except ValueError:
        assume(False)
    key = name_key(name)
    assert key
    assert name_key(key) == key
    for form in ("NFD", "NFKC", "NFKD"):
        assert name_key(unicodedata.normalize(form, name)) == key


@pytest.mark.parametrize("room", ["a", "7", "lobby", "a.b-c_1", "0-._", "a" * 64])
def test_a_valid_room_name_is_returned(room: str) -> None:
    """A room name is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and is returned unchanged."""
    assert validate_room(room) == room


@pytest.mark.parametrize(
    "room",
    ["", "a" * 65, "Lobby", "-a", ".a", "_a", "a b", "a/b", "a\n", "\u0430", "\u0663", "\ud800"],
)
def test_an_invalid_room_name_raises_the_rule(room: str) -> None:
    """Any other room name raises a ValueError, whose text states the rule."""
    rule = "room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9"
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}$"):
        validate_room(room)


@given(st.from_regex(names._SIMPLE, fullmatch=True))
@example("left")
@example("and-10")
@example("1eft-0")
@example("is-2")
def test_a_simple_name_breaks_no_rule(name: str) -> None:
    """Names that are accepted at once would be accepted anyway."""
    names._check_look(name, name_key(name))
    assert name.isprintable() and not name.isspace()
