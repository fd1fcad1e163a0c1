"""An event stream: what happens in a room, over HTTP, for who listens and is not here.

As lines of JSON or as server-sent events. Pure: a request in, bytes and answers out, by which
both houses speak alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .entry import Entry, entry_of, parse_cursor, parse_query
from .protocol import Cursor, Error, Format
from .web import Answer, plain

STALLED = 40.0
"""Seconds in which a client that takes nothing is cut, as one is that answers no ping."""

RETRY = 500
"""Milliseconds after which a browser comes back at the soonest, and at the latest three times
that: not all at once."""


@dataclass(frozen=True, slots=True)
class Listen:
    """What someone wants to hear: all from now on, or with *poll* what there is."""

    entry: Entry
    poll: bool


def is_stream(method: str, path: str) -> bool:
    """Tell whether a request wants a stream: beside the socket."""
    return method in ("GET", "HEAD") and path.rpartition("/")[2] == "stream"


def parse_listen(query: str, headers: Mapping[str, str]) -> Listen | Answer:
    """Read what someone wants to hear, or say what is wrong. *headers* have lower-case names."""
    given = parse_query(query)
    if isinstance(given, Error):
        return plain(400, given.text)
    events = "text/event-stream" in headers.get("accept", "").lower()
    without = {key: value for key, value in given.items() if key not in ("name", "session")}
    entry = entry_of(without, Format.SSE if events else Format.JSON)
    if isinstance(entry, Error):
        return plain(400, entry.text)
    since = entry.since
    last = headers.get("last-event-id", "")
    if last:  # a browser's, which is further on than the address that it began with
        since = parse_cursor(last)
        if since is None:
            return plain(400, "Last-Event-ID is not a cursor EPOCH.SEQ")
    poll = given.get("poll", "0")
    if poll not in ("0", "1"):
        return plain(400, "poll is not 0 or 1")
    return Listen(replace(entry, name="", since=since), poll == "1")


def type_of(format: Format) -> str:
    """Return the Content-Type of a stream."""
    return "text/event-stream" if format is Format.SSE else "application/x-ndjson"


HEADERS = (
    ("Cache-Control", "no-cache"),
    ("Vary", "Accept"),
    ("X-Accel-Buffering", "no"),  # nginx would keep events until it has a page of them
)


def preface(format: Format, at: Cursor, chance: float) -> bytes | None:
    """Return what comes before the welcome, if anything: where a browser is, and when to retry.

    *chance* is between 0 and 1.
    """
    if format is not Format.SSE:
        return None
    return f"retry: {RETRY + int(2 * RETRY * chance)}\nid: {at}\n".encode()


def bare(payload: bytes) -> bytes:
    """End the last line of *payload*."""
    return payload + b"\n"


def chunk(payload: bytes) -> bytes:
    """Do so, and write it as a chunk of HTTP/1.1."""
    return b"%x\r\n%b\n\r\n" % (len(payload) + 1, payload)


LAST_CHUNK = b"0\r\n\r\n"
