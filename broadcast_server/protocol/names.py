"""Names of members and of rooms: which are valid.

A member's name stands in front of each of its messages. So a name must not look like anything
else: a line from the server, a command, or another member. docs/protocol.md states the rules. This
module knows Unicode, and nothing about rooms or connections.
"""

from __future__ import annotations

import re
import unicodedata

from . import look_alikes
from .appearance import ASCII_LOOK, IGNORED, name_key

__all__ = [
    "MAX_NAME_CHARS",
    "name_key",
    "validate_name",
    "validate_room",
    "with_suffix",
    "without_number",
]

MAX_NAME_CHARS = 32
"""The longest name of a member, in code points after normalisation to NFC."""

# These patterns are compiled when a name first needs them: a start takes as long as it imports.
_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, which some scripts and composed emoji need
# Cn: a character that this Python's Unicode does not know may be anything.
_HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))
# Any other space is hardly seen, or looks like a dash.
_ODD_SPACE = "[^\\S \u00a0\u3000]"
# NFKC, which compares names, reads these as something else than they look like, or as themselves.
_MISLEADING = "[\u017f\u02db\u037a\u03f2\u03f9\u302f\ufe19\ufe30\uffe8]"
_LONG_DASHES = "\u2014\u2015\u2e3a\u2e3b"

_MARKS = {":": "a colon", ",": "a comma", "\u2713": "the mark of an account"}  # in a key
_LEADERS = {"*": "*", "/": "/", "\u00b7": "\u2022"}  # as they look in a key, and as we write them
# The words of a notice, of the server or of the page, and of a list that is cut off.
_NOTICE = "|".join(
    before + r"[\W_]+".join(words.translate(ASCII_LOOK).split()) + after
    for words, before, after in (
        ("joined the chat", "", ""),
        ("left the chat", "", ""),
        ("is now", r"(?<![^\W_])", r"(?![^\W_])"),
        ("joined", r"(?<=[\W_])", "$"),
        ("left", r"(?<=[\W_])", "$"),
        ("more", r"(?<=[\W_])and[\W_]+(?:[lo]|\d)+[\W_]+", "$"),
    )
)
# A name that breaks no rule: it has no separator in front of a word, and so no word of a notice.
_SIMPLE = "[A-Za-z0-9]+(?:-[0-9]+)?"
_NUMBERED = "(.+)-(?:[2-9]|[1-9][0-9]{1,3})"  # as far as rooms number names
_ROOM = "[a-z0-9][a-z0-9._-]{0,63}"


def validate_name(name: str) -> str:
    """Return *name* in NFC, or raise ValueError with the rule that it breaks."""
    if len(name) <= MAX_NAME_CHARS and re.fullmatch(_SIMPLE, name):
        return name  # nearly always; the rest takes ten times as long
    # NFC composes at most four characters into one, and is slow for a long run of marks.
    if len(name) <= 4 * MAX_NAME_CHARS:
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise ValueError(f"name is {len(name)} characters, allowed are 1 to {MAX_NAME_CHARS}")
    if not (name.isascii() and name.isprintable()):
        _check_characters(name)
    visible = IGNORED.sub("", name)
    if visible != visible.strip():
        raise ValueError("name begins or ends with white space")
    if re.search(r"\s\s", visible):
        raise ValueError("name contains a run of white space")
    if not name.isascii():
        _check_places(name)
        _check_scripts(name)
        _check_colon_letters(visible)
    _check_look(visible, name_key(name))
    return name


def _check_characters(name: str) -> None:
    """Check that each character can be seen, or is a joiner between letters or emoji."""
    for before, char, after in zip(" " + name, name, name[1:] + " ", strict=False):
        if char in _JOINERS:
            if not (_is_joinable(before) and _is_joinable(after)):
                raise ValueError(f"name contains U+{ord(char):04X} in a wrong place")
        elif _is_hidden(char):
            raise ValueError(f"name contains U+{ord(char):04X}, which cannot be seen")
        elif re.match(_MISLEADING, char):
            raise ValueError(f"name contains U+{ord(char):04X}, which looks like another character")
    if unicodedata.category(name[0])[0] == "M":  # it would change the text before the name
        raise ValueError(f"name begins with U+{ord(name[0]):04X}, which belongs to a letter")


def _is_hidden(char: str) -> bool:
    if unicodedata.category(char) in _HIDDEN or re.match(_ODD_SPACE, char):
        return True
    return bool(re.match(look_alikes.BLANK, char))


def _is_joinable(char: str) -> bool:
    """Return whether *char* is a letter, a mark, or in a category of emoji."""
    return unicodedata.category(char)[0] in "LMS"


def _check_places(name: str) -> None:
    """Check that marks and variation selectors belong to the character before them.

    A mark on punctuation could make a colon of a full stop. A selector changes no cased letter. A
    stacker changes the letter after it, and nothing is seen of it if there is none.
    """
    base, was_selector = " ", False
    for char, after in zip(name, name[1:] + " ", strict=True):
        is_selector = bool(IGNORED.match(char)) and char not in _JOINERS
        if is_selector:
            misplaced = was_selector or base == " " or base.lower() != base.upper()
        else:
            is_mark = unicodedata.category(char)[0] == "M"
            misplaced = is_mark and not _takes_mark(base, char)
            misplaced = misplaced or (char in look_alikes.STACKERS and not after.isalpha())
            if not is_mark and char not in _JOINERS:
                base = char
        if misplaced:
            raise ValueError(f"name contains U+{ord(char):04X} in a wrong place")
        was_selector = is_selector


def _takes_mark(base: str, mark: str) -> bool:
    """Return whether *mark* may follow *base*: of its own script, if it is not of several."""
    script, category = _script(mark), unicodedata.category(base)
    if script not in ("COMBINING", _script(base)):
        return False
    if category[0] in "LN":  # some of them look like a dot
        return not {".", "\u00b7"} & set(name_key(base))
    return category == "So" or (base in "#*" and mark == "\u20e3")


def _script(char: str) -> str:
    """Return the first word of the name of *char*, which is its script if it is a letter."""
    return unicodedata.name(char).split()[0]


def _check_scripts(name: str) -> None:
    """Check that no word mixes two of the alphabets with small and capital letters.

    This is what the Moderately Restrictive level of UTS #39 adds to keys, which cannot tell whether
    a Greek nu is meant to be read as v or as the small letter of N.
    """
    for word in re.findall(r"[^\W\d_]+", unicodedata.normalize("NFKC", name)):
        cased = (char for char in word if char.lower() != char.upper())
        alphabets = sorted({_script(char).title() for char in cased})
        if len(alphabets) > 1:
            raise ValueError(f"name mixes {' and '.join(alphabets)} letters in one word")


def _check_colon_letters(visible: str) -> None:
    """Check that what looks like a colon stands among letters of its script, where it is a letter.

    A visarga is one: readers of other scripts would take it for the end of a name. The next letter
    is of the same script, too, except after the vowel of Thai and Lao, which looks less like it.
    """
    for index, char in enumerate(visible):
        if char in look_alikes.COLON_LETTERS:
            script, before, after = _script(char), visible[:index], visible[index + 1 :]
            letters = [next(filter(str.isalpha, reversed(before)), char), before[-1:].strip()]
            if script not in ("THAI", "LAO"):
                letters.append(next(filter(str.isalpha, after), char))
            if any(letter and _script(letter) != script for letter in letters):
                raise ValueError(f"name contains U+{ord(char):04X}, which looks like a colon")


def _check_look(visible: str, key: str) -> None:
    """Check what a name looks like, by its *key* and by its *visible* characters."""
    for sign, text in _MARKS.items():
        if sign in key:
            found = next(char for char in visible if sign in name_key(char))
            plain = sign in unicodedata.normalize("NFKC", found)
            looks = "" if plain else f"U+{ord(found):04X}, which looks like "
            raise ValueError(f"name contains {looks}{text}")
    first = unicodedata.normalize("NFKC", visible)[0]
    leader = _LEADERS.get(key[0])
    script = _script(first) if first.isalpha() else ""
    if leader and script not in ("KATAKANA", "CJK"):  # their strokes are read as letters
        looks = "" if first == leader else f"U+{ord(visible[0]):04X}, which looks like "
        raise ValueError(f"name begins with {looks}{leader}")
    # A number could follow, as in bob-2.
    if first in _LONG_DASHES or all(map(_is_dash, f"{visible}-"[:2])):
        raise ValueError("name begins with dashes")
    plain_key = key if key.isascii() else _without_marks(key)
    if re.search(_NOTICE, plain_key):
        raise ValueError("name reads like a notice of the server")


def _without_marks(key: str) -> str:
    letters = unicodedata.normalize("NFD", key)
    return "".join(char for char in letters if not unicodedata.combining(char))


def _is_dash(char: str) -> bool:
    looks = not char.isalpha() and name_key(char) in ("-", "\u30fc")
    return looks or unicodedata.category(char) == "Pd"


def validate_room(room: str) -> str:
    """Return *room*, the name of a room, or raise ValueError with the rule that it breaks."""
    if not re.fullmatch(_ROOM, room):
        raise ValueError("room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9")
    return room


def room_from_text(text: str) -> str:
    """Return the name of a room as people write it, ``#My Room``, in the form ``my-room``.

    The result need not be valid. Only clients use it: the wire has the name of the room itself.
    """
    return "-".join(text.strip().removeprefix("#").lower().split())


def without_number(name: str) -> str:
    """Return the base of *name*: ``bob`` for ``bob-2``, which the room may have called it.

    A client that was ``bob-2`` asks for that name when it comes back. If another has it now, the
    client is to be ``bob-3`` and not ``bob-2-2``.
    """
    match = re.fullmatch(_NUMBERED, name, re.DOTALL)
    return match[1] if match else name


def with_suffix(name: str, number: int) -> str:
    """Return *name* with the suffix ``-number``, shortened as needed to stay a valid name."""
    suffix = f"-{number}"
    return (
        name[: MAX_NAME_CHARS - len(suffix)].rstrip(_JOINERS + look_alikes.STACKERS + " ") + suffix
    )
