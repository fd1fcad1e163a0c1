"""What the text of messages costs, see `Allowances`. This module is pure."""

from __future__ import annotations

BYTES_PER_TOKEN = 256
"""A message costs one token, and a longer one costs a token for each so many bytes. At the default
rate, a client needs as long to replace a share of a room's 50,000 messages as of its 16 MiB."""

MAX_REJECTED_BYTES = 4096
"""A message that is too long is charged as one of so many bytes, if that many are allowed."""


def chargeable_size(text: bytes, longest: int) -> int:
    """Return how many bytes of *text*, one message a line, are charged.

    A message that is longer than *longest*, the longest one allowed, is charged as one of
    `MAX_REJECTED_BYTES`: it is rejected, so it replaces no history and is sent to nobody.
    """
    if len(text) <= longest:
        return len(text)
    lines = text.split(b"\n")
    rejected = min(longest, MAX_REJECTED_BYTES)
    return len(lines) - 1 + sum([n if (n := len(line)) <= longest else rejected for line in lines])


def end_of_affordable_lines(text: str, begin: int, available: float) -> int:
    """Return where the lines of *text* from *begin* end that *available* tokens are enough for.

    There is at least one line, with its line feed, even if it costs more. Of text that is not ASCII
    the end may come earlier than it has to.
    """
    max_chars = int(available * BYTES_PER_TOKEN) // (1 if text.isascii() else 4)
    lines = text.count("\n", begin) + 1
    if lines <= available and len(text) - begin <= max_chars:
        return len(text)
    end = begin
    for _ in range(max(1, int(available))):
        next_end = text.find("\n", end) + 1 or len(text)
        if end > begin and next_end - begin > max_chars:
            break
        end = next_end
        if end == len(text):
            break
    return end
