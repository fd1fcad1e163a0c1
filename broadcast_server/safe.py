"""Safe text: what came from the network, as it may reach a terminal.

Control characters could move the cursor, an escape sequence could do anything
at all, and a bidirectional override could make a line read as what it is not.
Tab stays: logs are full of it.
"""

from __future__ import annotations

import re

_UNSAFE = (
    "\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f"  # C0 but tab, DEL, C1
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u206f"  # bidirectional
    "\\u2028\\u2029\\ufeff\\ufff9-\\ufffb\\ud800-\\udfff"  # line breaks, and what is no text
)
# A whole CSI sequence goes, so that coloured logs do not leave [31m behind. Of
# other sequences only the escape goes: an unended one would take the rest along.
_SEQUENCE = re.compile(f"\\x1b\\[[0-?]*[ -/]*[@-~]|[{_UNSAFE}]")
_CHARACTER = re.compile(f"[{_UNSAFE}]")


def safe_text(text: str) -> str:
    """Return one line of text without anything that a terminal would obey."""
    return _SEQUENCE.sub("", text)


def safe_json(line: str) -> str:
    """Return a line of JSON that means the same and is as safe."""
    return _CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
