"""Names: which are allowed, and which two people would take for one.

A name goes in front of every message, so it must not be able to pass for
anything else: a line of the server's, a command, another member. This module
knows Unicode and nothing of rooms or lines.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 32
"""The longest name, in characters (code points after NFC)."""

_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ: spelling in some scripts, glue in emoji
# What changes its neighbour's look at most: joiners and variation selectors.
_UNSEEN = re.compile(f"[{_JOINERS}\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Unicode does not put these among its controls, but they show as nothing.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))


def check_name(name: str) -> str:
    """Return *name* in NFC, or raise ValueError with the rule that it breaks."""
    # NFC makes one character of four at the most, and takes long for a run of marks.
    if len(name) <= 4 * MAX_NAME:
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= MAX_NAME:
        raise ValueError(f"name is {len(name)} characters, allowed are 1 to {MAX_NAME}")
    for before, char, after in zip(" " + name, name, name[1:] + " ", strict=False):
        if char in _JOINERS:
            if not (_joins(before) and _joins(after)):
                raise ValueError(f"name contains U+{ord(char):04X} in a wrong place")
        elif unicodedata.category(char) in _HIDDEN or _BLANK.match(char):
            raise ValueError(f"name contains U+{ord(char):04X}, which cannot be seen")
    if unicodedata.category(name[0])[0] == "M":  # it would change what is printed before
        raise ValueError(f"name begins with U+{ord(name[0]):04X}, which belongs to a letter")
    seen = _UNSEEN.sub("", name)
    if seen != seen.strip():
        raise ValueError("name begins or ends with white space")
    if re.search(r"\s\s", seen):
        raise ValueError("name contains a run of white space")
    plain = unicodedata.normalize("NFKC", name)
    if ":" in plain:
        raise ValueError("name contains a colon")
    if plain[0] in "*/":
        raise ValueError(f"name begins with {plain[0]}")
    return name


def _joins(char: str) -> bool:
    """Tell whether *char* is a letter or mark, or of the kinds that emoji are."""
    # Unassigned is what a newer emoji is to an older Python.
    category = unicodedata.category(char)
    return category[0] in "LMS" or category == "Cn"


def name_key(name: str) -> str:
    """Return what two names have in common that people would take for one."""
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", name)).casefold()
    return unicodedata.normalize("NFKC", folded)


def numbered(name: str, number: int) -> str:
    """Return *name* with the suffix ``-number``, cut so that it stays a name."""
    suffix = f"-{number}"
    return name[: MAX_NAME - len(suffix)].rstrip(_JOINERS + " ") + suffix
