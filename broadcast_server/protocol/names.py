"""Names of members and of rooms: which are valid, and which names people read as the same.

A member's name stands in front of each of its messages. So a name must not look like anything
else: a line from the server, a command, or another member. This module knows Unicode, and nothing
about rooms or connections.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NAME_CHARS = 32
"""The longest name of a member, in code points after normalisation to NFC."""

_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, which some scripts and composed emoji need
# Joiners and variation selectors are invisible, but can change how their neighbours look.
_UNSEEN = re.compile(f"[{_JOINERS}\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# These characters are invisible although Unicode does not put them in a category of `_HIDDEN`.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_HIDDEN = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
_NUMBERED = re.compile(r"(.+)-(?:[2-9]|[1-9][0-9]{1,3})", re.DOTALL)  # as far as rooms number names
_ROOM = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def validate_name(name: str) -> str:
    """Return *name* in NFC, or raise ValueError with the rule that it breaks."""
    # NFC composes at most four characters into one, and is slow for a long run of marks.
    if len(name) <= 4 * MAX_NAME_CHARS:
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise ValueError(f"name is {len(name)} characters, allowed are 1 to {MAX_NAME_CHARS}")
    for before, char, after in zip(" " + name, name, name[1:] + " ", strict=False):
        if char in _JOINERS:
            if not (_is_joinable(before) and _is_joinable(after)):
                raise ValueError(f"name contains U+{ord(char):04X} in a wrong place")
        elif unicodedata.category(char) in _HIDDEN or _BLANK.match(char):
            raise ValueError(f"name contains U+{ord(char):04X}, which cannot be seen")
    if unicodedata.category(name[0])[0] == "M":  # it would change the text before the name
        raise ValueError(f"name begins with U+{ord(name[0]):04X}, which belongs to a letter")
    visible = _UNSEEN.sub("", name)
    if visible != visible.strip():
        raise ValueError("name begins or ends with white space")
    if re.search(r"\s\s", visible):
        raise ValueError("name contains a run of white space")
    compatible = unicodedata.normalize("NFKC", name)  # a full-width colon is a colon here
    if ":" in compatible:
        raise ValueError("name contains a colon")
    if compatible[0] in "*/":
        raise ValueError(f"name begins with {compatible[0]}")
    return name


def _is_joinable(char: str) -> bool:
    """Return whether *char* is a letter, a mark, or in a category of emoji."""
    # To an older Python a newer emoji is unassigned (Cn).
    category = unicodedata.category(char)
    return category[0] in "LMS" or category == "Cn"


def name_key(name: str) -> str:
    """Return the key of *name*. Names that people read as the same name have the same key."""
    folded = unicodedata.normalize("NFKC", _UNSEEN.sub("", name)).casefold()
    return unicodedata.normalize("NFKC", folded)


def validate_room(room: str) -> str:
    """Return *room*, the name of a room, or raise ValueError with the rule that it breaks."""
    if not _ROOM.fullmatch(room):
        raise ValueError("room is not 1 to 64 of a-z 0-9 . _ - beginning with a-z 0-9")
    return room


def without_number(name: str) -> str:
    """Return the base of *name*: ``bob`` for ``bob-2``, which the room may have called it.

    A client that was ``bob-2`` asks for that name when it comes back. If another has it now, the
    client is to be ``bob-3`` and not ``bob-2-2``.
    """
    match = _NUMBERED.fullmatch(name)
    return match[1] if match else name


def with_suffix(name: str, number: int) -> str:
    """Return *name* with the suffix ``-number``, shortened as needed to stay a valid name."""
    suffix = f"-{number}"
    return name[: MAX_NAME_CHARS - len(suffix)].rstrip(_JOINERS + " ") + suffix
