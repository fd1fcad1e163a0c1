"""Query options: what the query of a service's address may set, and how each value is read.

No error text contains a value or an unknown option: a piece of a password may look like one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from broadcast_server.admission.int_range import IntRange

from .environment import NO, YES

MAX_LISTED = 30
"""How many options an error lists. The parameters of libpq are more."""


class QueryOption(NamedTuple):
    """An option: *parse* raises ValueError for a value that is not *valid*, in words."""

    parse: Callable[[str], Any]
    valid: str


def parse_options(query: Mapping[str, str], known: Mapping[str, QueryOption]) -> dict[str, Any]:
    """Return the value of each option of *query*. Raises ValueError for one that is not *known*."""
    values = {}
    for number, (name, text) in enumerate(query.items(), 1):
        if name not in known:
            names = ", ".join(known) if len(known) < MAX_LISTED else "what docs/django.md lists"
            options = f"it may have {names or 'none'}"
            raise ValueError(f"option {number} of its query is unknown ({options})")
        try:
            values[name] = known[name].parse(text)
        except (ValueError, OSError):
            raise ValueError(f"{name} in its query is not {known[name].valid}") from None
    return values


def whole(minimum: int, maximum: int, *, none: bool = False) -> QueryOption:
    """Return an option that is a whole number, or the word "none" where that is allowed."""
    allowed = IntRange(minimum, maximum)

    def parse(text: str) -> int | None:
        return None if none and text.lower() == "none" else allowed.parse(text)

    return QueryOption(parse, f"a number from {minimum} to {maximum}{', or none' if none else ''}")


def seconds(maximum: int) -> QueryOption:
    """Return an option that is a time in seconds, more than 0."""

    def parse(text: str) -> float:
        value = float(text)
        if not text.isascii() or "_" in text or not math.isfinite(value):
            raise ValueError
        if not 0 < value <= maximum:
            raise ValueError
        return value

    return QueryOption(parse, f"a number of seconds up to {maximum}")


def choice(*known: str) -> QueryOption:
    """Return an option that is one of *known* words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise ValueError
        return text.lower()

    return QueryOption(parse, f"one of {', '.join(known)}")


def _flag(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError
    return text.lower() in YES


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _file(text: str) -> str:
    if not Path(text).exists():
        raise ValueError
    return text


FLAG = QueryOption(_flag, "one of yes, no")
TEXT = QueryOption(_text, "a text of at least one character")
FILE = QueryOption(_file, "the path of a file")
