"""The range of a whole number that an operator sets, and the ranges of the server's limits.

Both servers read their limits with these: the standalone server from options, the Django
deployment from its settings.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from broadcast_server.protocol.bounds import MAX_TEXT_BYTES

_NUMBER = re.compile("[+-]?[0-9]{1,20}")


class IntRange(NamedTuple):
    """The whole numbers from *minimum* to *maximum*."""

    minimum: int
    maximum: int

    def parse(self, value: str) -> int:
        """Return *value* as a number. Raises ValueError if it is none, or not in the range."""
        # `int` also accepts 1_000 and the digits of all scripts.
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{value!r} is not a whole number")
        parsed = int(value)
        if not self.minimum <= parsed <= self.maximum:
            raise ValueError(f"{parsed} is not between {self.minimum} and {self.maximum}")
        return parsed


CLIENTS = ROOMS = JOINS = IntRange(1, 10**6)
RATE = IntRange(0, 10**6)
MESSAGE_BYTES = IntRange(1, MAX_TEXT_BYTES)


def parse_choice(value: str, known: tuple[str, ...]) -> str:
    """Return *value*. Raises ValueError if it is not one of *known*."""
    if value not in known:
        raise ValueError(f"{value!r} is not one of {', '.join(known)}")
    return value
