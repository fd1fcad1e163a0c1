"""Control sequences: what programs write to a terminal that is no text, by ECMA-48 and xterm.

A terminal takes the end of a sequence from its grammar, and so does this pattern. It never goes
beyond the text that it is applied to, which is one line: a sequence that is cut off there ends
there.
"""

from __future__ import annotations

# Inside a sequence, a terminal obeys these and goes on with the sequence: C0 without CAN and SUB,
# which cancel it, and ESC, which begins another one.
_C0 = "\\x00-\\x17\\x19\\x1c-\\x1f\\x7f"
_ESC = f"\\x1b[{_C0}]*"
_CANCEL = "\\x18\\x1a"
_ST = "\\x1b\\\\|\\x9c"
_STRING = f"[^{_CANCEL}\\x1b\\x80-\\x9f]*(?:{_ST}|[{_CANCEL}])?"

CONTROL_SEQUENCE = "|".join(
    (
        # CSI (5.4): parameters, intermediate octets and a final one, such as colours.
        f"(?:{_ESC}\\[|\\x9b)[{_C0}\\x20-\\x3f]*[\\x40-\\x7e{_CANCEL}]?",
        # The palette of the Linux console, which has the introducer of a string and no end.
        f"{_ESC}\\](?:R|P[0-9A-Fa-f]{{7}})",
        # OSC (8.3.89), such as titles and links. xterm lets BEL end it, as nearly all programs do.
        f"(?:{_ESC}\\]|\\x9d)[^\\x07{_CANCEL}\\x1b\\x80-\\x9f]*(?:\\x07|{_ST}|[{_CANCEL}])?",
        # SOS (8.3.143) may have anything in it but SOS and ST. What begins it also ends the search
        # for its end, or many of them would take quadratic time.
        f"(?:\\x1bX|\\x98)(?:(?!\\x1b[X\\\\]|[\\x98\\x9c])[\\x00-\\U0010ffff])*(?:{_ST})",
        # DCS, PM and APC (5.6), such as pictures, and SOS without an end.
        f"(?:{_ESC}[P^_X]|[\\x90\\x98\\x9e\\x9f]){_STRING}",
        # The title of a window in screen and tmux. Elsewhere it is a sequence without a string.
        f"{_ESC}k[^{_CANCEL}\\x1b\\x80-\\x9f]*(?:{_ST})",
        # Any other escape sequence (ECMA-35, 13.2), such as those that choose a character set.
        f"{_ESC}[\\x20-\\x2f{_C0}]*[\\x30-\\x7e{_CANCEL}]?",
    )
)
"""A regular expression for one control sequence. It has no groups."""
