"""The bounds of the wire: how long a message can be, and how high its number. Pure."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 2**15
"""The default limit of one message, in bytes of UTF-8: a stack trace of 400 lines."""

MAX_FRAME_BYTES = 2**20
"""The longest WebSocket frame. The library closes the connection with 1009 for a longer one."""

MAX_TEXT_BYTES = 2**17
"""The largest limit of one message that a server can have. JSON needs at most six bytes for one of
its bytes, so every message fits into a frame of `MAX_FRAME_BYTES`, which is also the longest frame
that Daphne sends and that most clients take."""

MAX_SEQ_DIGITS = 18
MAX_SEQ = 10**MAX_SEQ_DIGITS - 1
"""The highest number of a message, and of anything else that is counted."""

BYTES_PER_LINE = 16
"""A message may have one line for this many bytes of its limit."""
