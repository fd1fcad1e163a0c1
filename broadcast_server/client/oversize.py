"""What a client does with a text that is longer than a message may be: split it or cut it."""

from __future__ import annotations

SPLIT, CUT = OVERSIZE = "split", "cut"
"""Send it in several messages, or only its beginning, with `CUT_MARK`."""

CUT_MARK = "… (cut off)"
"""End of a text that was longer."""
