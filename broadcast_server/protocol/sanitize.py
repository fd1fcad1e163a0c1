"""Sanitizing: removing from text of the network whatever could control a terminal.

Control characters could move the cursor, an escape sequence could do almost anything, and a
bidirectional override could make a line look like another one. Our terminal and the pipe keep tabs,
because logs are full of them.
"""

from __future__ import annotations

import re
from functools import cache

from .control_sequences import CONTROL_SEQUENCE

_UNSAFE = (
    "\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f"  # C0 without tab, DEL, C1
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u206f"  # bidirectional controls
    "\\u2028\\u2029\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff"  # line breaks, BOM, surrogates
)
_CHARACTER = re.compile(f"[{_UNSAFE}]")
_CONTROL_TO_SPACE = bytes(32 if octet < 32 or octet == 127 else octet for octet in range(256))
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")


def strip_control(text: str) -> str:
    """Return *text* on one line, without anything that a terminal would obey."""
    return text if _CHARACTER.search(text) is None else _unsafe_sequences().sub("", text)


@cache
def _unsafe_sequences() -> re.Pattern[str]:
    """Return the pattern of what is removed. Compiled when it is needed, which takes 10 ms.

    A sequence is removed as a whole, so that a coloured log does not leave [31m behind.
    """
    return re.compile(f"{CONTROL_SEQUENCE}|[{_UNSAFE}]")


def strip_keys(text: str) -> str:
    """Return a typed or pasted *text* without what keys other than characters have left in it."""
    if _CONTROL.search(text) is None:
        return text
    pattern = re.compile(f"{CONTROL_SEQUENCE}|[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")
    return "\n".join(pattern.sub("", line) for line in text.split("\n"))


def lines_to_print(name: str, text: str) -> list[str]:
    """Return a message as lines to print at our terminal or in a pipe, each with the name."""
    author = strip_control(name)
    return [f"{author}: {strip_control(line)}" for line in text.splitlines() or [""]]


def is_plain(text: str) -> bool:
    """Return whether *text* is one line, and safe as it is. Unusual text may be safe as well."""
    # For a long text this takes half the time of isprintable, for 64 characters three times it.
    if len(text) > 256 and text.isascii():
        octets = text.encode()
        return octets.translate(_CONTROL_TO_SPACE) == octets
    return text.isprintable()


def replace_control(line: str) -> str:
    """Return *line* for a text client, which may be a terminal: without control characters.

    Each becomes U+FFFD, so that it is seen that there was one, and a tab becomes a space. Whatever
    else is unsafe could only reorder the line, and is removed.
    """
    marked = _CONTROL.sub("\ufffd", line.replace("\t", " "))
    return _CHARACTER.sub("", marked)


def escape_control(line: str) -> str:
    """Return a line of JSON with the same meaning, in which all unsafe characters are escaped."""
    if line.isprintable():  # nearly every line is, and the pattern takes longer
        return line
    return _CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
