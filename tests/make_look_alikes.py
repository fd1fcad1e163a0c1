"""Generate broadcast_server/protocol/look_alikes.py from the confusables of Unicode.

    pip install pyicu-wheels==2.15.2
    PYTHONPATH=. python tests/make_look_alikes.py

ICU contains confusables.txt and all other properties that are needed here. So the result depends
on the version of ICU and not on that of Python: pyicu-wheels 2.15.2 has ICU 77 with Unicode 16.0.
"""

from __future__ import annotations

import importlib
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

from broadcast_server.protocol.appearance import ASCII_LOOK, IGNORED

TARGET = Path(__file__).parents[1] / "broadcast_server" / "protocol" / "look_alikes.py"

# Small capitals and letters in a black shape: decorations, which UTS #39 does not cover.
_NAMED_LETTER = re.compile(
    r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])"
)
_SMALL_CAPITALS = {"\u0138": "k", "\u028d": "m"}  # the skeletons of small letters ka and em

# Letters with the same picture in Chromium and DejaVu Sans, in one of their cases, that keys would
# distinguish: as which other letter each counts.
_TWINS = {
    "\u00f0": "\u0111",
    "\u0256": "\u0111",
    "\u019e": "\u03b7",
    "\u03c9": "\u0461",
    "\u025b": "e",
    "\u0511": "e",
    "\u028c": "\u03bb",
    "\u2c76": "\u0371",
    "\u0265": "\u0447",
    "\u2c68": "\u04a3",
    "\u2d4d": "\u0438",
    "\u050b": "\u0195",
    "\u0183": "\u0431",
}

# Found by their outlines in the fonts of Noto and DejaVu: dots above each other.
_COLONS = (
    "\u02d1\u0831\u0f34\u0fd2\u1361\u1362\u1367\u1392\u1393\u17d6\u1b5d\u1cd3\u205d\u205e\u2237"
    "\u22ee\u254f\u2999\u2e3d\ua829\ua9c7\ufbbd\ufbbe\U0001015b\U0001123a\U000112a9\U0001d108"
    "\U0001d1d4"
)

# What a name must not imitate, beyond UTS #39: by the names of characters, and by characters.
_MORE = {
    ":": (
        "|".join(
            (
                r"\bCOLON\b(?! SIGN)",
                "^BRAILLE PATTERN DOTS-(?:[1237]{2,}|[4568]{2,})$",
                r"\b(?:QUADRANT|SEXTANT|OCTANT)-(?:[1357]{2,}|[2468]{2,})$",
                r"\bPUNCTUATION (?:TWO DOTS|DOUBLE DOT|TRIPLE DOT|FOUR DOTS)$",
            )
        ),
        _COLONS,
    ),
    ",": (r"\bCOMMA\b", ""),
    "*": (r"\bASTERIS(?:K|KS|M)\b", "\u2055\u22c6\u26b9\u2736"),
    "/": (r"^VERY HEAVY SOLIDUS", ""),
    "\u00b7": (r"(?<!HYPHEN )\bBULLET$", "\u25cf\u2981\u26ab\u2b24\U0001f784"),
    "\u2713": (r"\bCHECK MARK\b|\bBALLOT BOX WITH (?:BOLD )?CHECK\b", "\u221a"),
}

# Letters and marks in use that look like a colon, besides those that Unicode classes as visargas.
_COLON_LETTERS = "\u0e30\u0eb0\u17c8\u1c7a\u2d42\u2d53\u2d57\ua952\U00011af0"

_VISARGA = "\u0983"  # the skeleton of most of them

# Characters that ought to be visible by their properties, but have no ink.
_WITHOUT_INK = (
    r"BRAILLE PATTERN BLANK|BRAHMI NUMBER JOINER|EGYPTIAN HIEROGLYPH (?:FULL BLANK|HALF BLANK"
    r"|MIRROR HORIZONTALLY)|KHITAN SMALL SCRIPT FILLER|MUSICAL SYMBOL NULL NOTEHEAD"
    r"|OBJECT REPLACEMENT CHARACTER|TIFINAGH CONSONANT JOINER"
)


class Unicode:
    """The properties of characters, from ICU."""

    def __init__(self) -> None:
        self.icu: Any = importlib.import_module("icu")
        self.version: str = self.icu.UNICODE_VERSION
        self._checker = self.icu.SpoofChecker()
        self._nfkc = self.icu.Normalizer2.getNFKCInstance()
        self._nfkd = self.icu.Normalizer2.getNFKDInstance()
        self._root = self.icu.Locale.getRoot()

    def skeleton(self, char: str) -> str:
        """Return the skeleton of *char* by UTS #39. A visarga is a letter, and no colon."""
        skeleton = str(self._checker.getSkeleton(0, char))
        return _VISARGA if skeleton == ":" and self.is_colon_letter(char) else skeleton

    def name(self, char: str) -> str:
        """Return the name of *char*."""
        return str(self.icu.Char.charName(char))

    def script(self, char: str) -> str:
        """Return the script of *char*, such as Latn."""
        return str(self.icu.Script.getScript(char).getShortName())

    def is_ignorable(self, char: str) -> bool:
        """Tell whether *char* is a Default_Ignorable_Code_Point."""
        ignorable = self.icu.UProperty.DEFAULT_IGNORABLE_CODE_POINT
        return bool(self.icu.Char.hasBinaryProperty(char, ignorable))

    def is_blank(self, char: str) -> bool:
        """Tell whether *char* has no ink, and is in no name."""
        if self.is_ignorable(char):
            return not IGNORED.match(char)
        return bool(re.fullmatch(_WITHOUT_INK, self.name(char)))

    def has_syllabic_category(self, char: str, category: str) -> bool:
        """Tell whether *char* has this Indic_Syllabic_Category."""
        property = self.icu.UProperty.INDIC_SYLLABIC_CATEGORY
        value = self.icu.Char.getIntPropertyValue(char, property)
        return bool(self.icu.Char.getPropertyValueName(property, value) == category)

    def is_colon_letter(self, char: str) -> bool:
        """Tell whether *char* looks like a colon to those who do not use its script."""
        return char in _COLON_LETTERS or self.has_syllabic_category(char, "Visarga")

    def is_candidate(self, char: str) -> bool:
        """Tell whether a key may need an entry for *char*.

        Compositions of Hangul are left out: normalisation has done them.
        """
        return (
            bool(self.icu.Char.isdefined(char))
            and not self.is_ignorable(char)
            and self.script(char) != "Hang"
            and str(self._nfkd.normalize(char)) == char
        )

    def nfkc(self, text: str) -> str:
        """Return *text* in NFKC."""
        return str(self._nfkc.normalize(text))

    def fold(self, text: str) -> str:
        """Return *text* with its case folded."""
        return str(self.icu.UnicodeString(text).foldCase())

    def cases(self, char: str) -> tuple[str, str]:
        """Return the small and the capital letter of a letter whose case is folded."""
        text = self.icu.UnicodeString
        upper, lower = str(text(char).toUpper(self._root)), str(text(char).toLower(self._root))
        other = upper if upper != char else lower
        return char, other if len(other) == 1 else char


class Looks:
    """How characters look, in the alphabet of keys."""

    def __init__(self, unicode: Unicode) -> None:
        self.unicode = unicode
        # A cached method would keep the object for ever.
        self.look, self.ascii_look = cache(self._look), cache(self._ascii_look)

    def _ascii_look(self, char: str) -> str | None:
        """Return how *char* itself looks, None if it does not look like ASCII."""
        if char.isascii():
            return char.translate(ASCII_LOOK)
        name = self.unicode.name(char)
        for look, (pattern, chars) in _MORE.items():
            if char in chars or (re.search(pattern, name) and "COMBINING" not in name):
                return look
        letter = _NAMED_LETTER.fullmatch(name)
        if letter or char in _SMALL_CAPITALS:
            return (letter[1] if letter else _SMALL_CAPITALS[char]).translate(ASCII_LOOK)
        skeleton = self.unicode.skeleton(char)
        looks = [self.ascii_look(each) if each != char else None for each in skeleton]
        return None if None in looks else "".join(filter(None, looks))

    def _look(self, char: str) -> str:
        """Return how *char* is compared: a small letter as its capital, and as its look-alike.

        Of two cases, only one may look like ASCII. If both do, but differ, one has to count: the
        small letter of Latin, and the capital of other scripts.
        """
        folded = self.unicode.fold(char)
        if len(folded) > 1:
            return "".join(map(self.look, folded))
        if folded in _TWINS:
            return self.look(_TWINS[folded])
        small, capital = self.unicode.cases(folded)
        latin = self.unicode.script(char) == "Latn"
        for each in (small, capital) if latin else (capital, small):
            look = self.ascii_look(each)
            if look is not None:
                return look
        skeleton = self.unicode.skeleton(small)
        if skeleton == small:
            return small
        return "".join(self.ascii_look(each) or self.unicode.fold(each) for each in skeleton)

    def final_look(self, char: str) -> str:
        """Return the look of *char* that has no other look, or the first of those that go round."""
        seen = [self.unicode.nfkc(self.unicode.fold(char))]
        while True:
            look = self.unicode.nfkc("".join(map(self.look, seen[-1])))
            if look in seen:
                return min(seen[seen.index(look) :])
            seen.append(look)


def generate() -> str:
    """Return the module as text."""
    unicode = Unicode()
    looks = Looks(unicode)
    groups: dict[str, list[str]] = {}
    blank: list[range] = []
    greek, colons, stackers = [], [], []
    for code in range(0x80, sys.maxunicode + 1):
        char = chr(code)
        if 0xD800 <= code <= 0xDFFF:
            continue
        if unicode.is_blank(char):
            start = blank.pop().start if blank and blank[-1].stop == code else code
            blank.append(range(start, code + 1))
        if unicode.is_colon_letter(char):
            colons.append(_escape(code))
        if unicode.has_syllabic_category(char, "Invisible_Stacker"):
            stackers.append(_escape(code))
        if not unicode.is_candidate(char):
            continue
        look = looks.final_look(char)
        if look != unicode.nfkc(unicode.fold(char)):
            groups.setdefault("+".join(f"{ord(each):x}" for each in look), []).append(f"{code:x}")
        if unicode.script(char) == "Grek" and unicode.skeleton(char).isascii():
            greek.append(_escape(code))
    table = "; ".join(f"{look} {' '.join(codes)}" for look, codes in sorted(groups.items()))
    table = textwrap.fill(table, 98, break_long_words=False, break_on_hyphens=False)
    ranges = [
        _escape(each.start) + (f"-{_escape(each.stop - 1)}" if len(each) > 1 else "")
        for each in blank
    ]
    lines = [
        '"""Characters that look alike: generated by tests/make_look_alikes.py.',
        "",
        f"From the confusables of Unicode {unicode.version} (UTS #39). \u00a9 Unicode, Inc., under",
        "the Unicode License v3: https://www.unicode.org/license.txt",
        '"""',
        "",
        'LOOK_ALIKES = """',
        table,
        '"""',
        '"""Groups of hexadecimal code points: how all others look, then these others."""',
        "",
        "GREEK_LIKE_LATIN = frozenset(",
        *_wrap(greek),
        ")",
        '"""The Greek letters, small or capital, that look like an ASCII letter as they are."""',
        "",
        "COLON_LETTERS = frozenset(",
        *_wrap(colons),
        ")",
        '"""Letters and marks that look like a colon to those who do not use their script."""',
        "",
        "STACKERS = (",
        *_wrap(stackers),
        ")",
        '"""Marks that cannot be seen, but change how the letter after them looks."""',
        "",
        "BLANK = (",
        *_wrap(["[", *ranges, "]"]),
        ")",
        '"""A pattern of what is in no name: Default_Ignorable characters, and what has no ink."""',
        "",
    ]
    return "\n".join(lines)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _wrap(parts: list[str]) -> list[str]:
    """Return lines of a string literal with *parts*."""
    lines = textwrap.wrap(" ".join(parts), 92, break_long_words=False, break_on_hyphens=False)
    return [f'    "{line.replace(" ", "")}"' for line in lines]


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
