"""Sanitizing: removing from text of the network whatever could control a terminal.

Control characters could move the cursor, an escape sequence could do almost anything, and a
bidirectional override could make a line look like another one. Tab is kept, because logs are
full of it.
"""

from __future__ import annotations

import re

_UNSAFE = (
    "\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f"  # C0 without tab, DEL, C1
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u206f"  # bidirectional controls
    "\\u2028\\u2029\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff"  # line breaks, BOM, surrogates
)
# A CSI sequence is removed as a whole, so that a coloured log does not leave [31m behind. Of any
# other sequence only the escape is removed: an unterminated one would take the rest of the line.
_SEQUENCE = re.compile(f"\\x1b\\[[0-?]*[ -/]*[@-~]|[{_UNSAFE}]")
_CHARACTER = re.compile(f"[{_UNSAFE}]")


def strip_control(text: str) -> str:
    """Return *text* on one line, without anything that a terminal would obey."""
    return _SEQUENCE.sub("", text)


def escape_control(line: str) -> str:
    """Return a line of JSON with the same meaning, in which all unsafe characters are escaped."""
    return _CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
