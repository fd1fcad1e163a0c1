"""A reply: what a server's answer to a message that was sent by POST means to its sender.

Pure. How it was sent is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """It was said, and went to *count*. *line* is the answer as it came."""

    name: str
    room: str
    count: int
    line: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not said and will not be, whenever it is sent again."""

    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """It may be said when it is sent again, after *wait* seconds at the least.

    *sure* is whether it is known that it was not said this time.
    """

    why: str
    wait: float = 0.0
    sure: bool = True


Reply = Taken | Refused | Later

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
"""Statuses after which to send it again: the rest is the same the next time."""


def reply_of(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Read an HTTP response. *headers* have lower-case names."""
    if status == 200:
        return _taken(body) or Refused("no broadcast server is there")
    line = ""
    if headers.get("content-type", "").startswith("text/plain"):
        line = body.decode(errors="replace").strip().partition("\n")[0]
    if status in AGAIN:
        wait = headers.get("retry-after", "")
        # A proxy's 502 does not say whether the message came through, nor does a server that
        # stops, or whose database does not answer.
        return Later(
            line or f"HTTP status {status}",
            float(wait) if wait.isdecimal() and len(wait) < 6 else 0.0,
            sure=status in (409, 429),
        )
    if 300 <= status < 400 and headers.get("location"):
        return Refused(f"it is at {headers['location']} now, give that address")
    if line and status in (400, 401, 403, 411, 413):
        return Refused(line)
    return Refused(f"no broadcast server that takes messages is there: HTTP status {status}")


def _taken(body: bytes) -> Taken | None:
    try:
        line = body.decode().strip()
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match value:
        case {"seq": int(), "name": str(name), "room": str(room), "count": int(count)}:
            return Taken(name, room, count, line) if "\n" not in line else None
    return None
