"""The appearance of names: names that people read as the same name have the same key.

A key follows the skeletons of Unicode Technical Standard #39, version 16.0.0, section 4, with case
folding on top: skeletons alone distinguish ``alice`` from ``Alice``. `look_alikes` has the data.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from . import look_alikes

# Each ASCII character as it is compared. Case folding makes I and i one letter, and people cannot
# tell I, l, 1 and | apart, so all of them are one letter. UTS #39 has m as rn, but not w as vv.
_ASCII = {chr(code): chr(code).lower() for code in range(128)} | {
    **dict.fromkeys("iI1|", "l"),
    **dict.fromkeys("oO0", "o"),
    **dict.fromkeys("mM", "rn"),
    **dict.fromkeys("wW", "vv"),
    **dict.fromkeys("`", "'"),
    '"': "''",
}
ASCII_LOOK = str.maketrans(_ASCII)
"""How each ASCII character looks, in the alphabet of keys."""

# Default_Ignorable_Code_Point of Unicode, where it allows a visible name: joiners and variation
# selectors are invisible, but can change how their neighbours look.
IGNORED = re.compile("[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""The characters that a name may contain and that do not count."""

# NFKC has a space in place of the letter that an accent is on.
_SPACING_ACCENT = " ([\u0300\u0301\u0313\u0314]|[\u0326\u0327])"
# A dot above is part of these two letters, and a mark on top of itself is one mark.
_UNSEEN_MARK = "(?<=[lj])\u0307+|([\u0300-\u036f])(?=\\1)"


def name_key(name: str) -> str:
    """Return the key of *name*. Names that people read as the same name have the same key."""
    if name.isascii():
        return name.translate(ASCII_LOOK)
    text = unicodedata.normalize("NFKD", IGNORED.sub("", name))
    if "\u03bd" in text or "\u03c5" in text:
        text = " ".join(map(_disambiguate, text.split(" ")))
    # Case folding may decompose a letter into letters that have look-alikes.
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text.translate(_looks()).casefold())
    text = re.sub(_SPACING_ACCENT, lambda match: "," if match[1] > "\u0320" else "'", text)
    return unicodedata.normalize("NFKC", re.sub(_UNSEEN_MARK, "", text.translate(_looks())))


def _disambiguate(word: str) -> str:
    """Replace nu and upsilon, whose small and capital letters look like different Latin letters.

    They count as their capitals N and Y, since a name in capitals is the same name. But a word of
    several letters, all of which look Latin, is read as Latin.
    """
    letters = [char for char in word if char.isalpha()]
    if len(letters) > 1 and all(char in look_alikes.GREEK_LIKE_LATIN for char in letters):
        return word.replace("\u03bd", "v").replace("\u03c5", "u")
    return word


@cache
def _looks() -> dict[int, str]:
    """Read the table: how each character looks, if not like itself in lower case."""
    looks: dict[int, str] = {code: look for code, look in ASCII_LOOK.items() if chr(code) != look}
    for group in look_alikes.LOOK_ALIKES.split(";"):
        look, *codes = group.split()
        shown = "".join(chr(int(code, 16)) for code in look.split("+"))
        looks.update(dict.fromkeys((int(code, 16) for code in codes), shown))
    return looks
