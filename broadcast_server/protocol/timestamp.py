"""Timestamps: the format of a time on the wire and in the logs. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone

# As many digits of a fraction as Python 3.10 reads.
_FORMAT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}(?:\d{3})?)?Z"


def rfc3339(moment: datetime) -> str:
    """Write *moment*, which must have a time zone, as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """Return the moment that *text* names, as `rfc3339` writes it. Raises ValueError."""
    if re.fullmatch(_FORMAT, text, re.ASCII) is None:
        raise ValueError(f"{text[:40]!r} is not a time (2026-11-24T13:00:00.123Z is one)")
    return datetime.fromisoformat(f"{text[:-1]}+00:00")
