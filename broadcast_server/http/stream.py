"""Event streams: subscribing to the events of a room over HTTP, without joining it.

A stream is lines of JSON or server-sent events. This module reads the request and frames the
response. It is pure, and the same for both servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from broadcast_server.protocol.codec import encode_sse
from broadcast_server.protocol.join import (
    JoinRequest,
    join_from_parameters,
    parse_cursor,
    parse_query,
)
from broadcast_server.protocol.messages import Cursor, Error, Format
from broadcast_server.protocol.rejection import Rejection

from .responses import NO_CACHE, Response, plain_response, reject_response

STALL_TIMEOUT_S = 40.0
"""After this time a client that reads nothing is disconnected, like one that answers no ping."""

MIN_RETRY_MS = 500
"""A browser reconnects after this time at the earliest, and after three times this at the latest.
The time is random, so that not all browsers reconnect at once. If it was rejected, it waits as long
as the rejection says, and up to twice this in addition."""

EVENT_STREAM = "text/event-stream"
"""The media type of server-sent events."""

STREAM_HEADERS = (
    NO_CACHE,
    ("Vary", "Accept"),
    ("X-Accel-Buffering", "no"),  # otherwise nginx holds events back until its buffer is full
)

LAST_CHUNK = b"0\r\n\r\n"
"""The chunk that ends a response with chunked transfer coding (RFC 9112, section 7.1)."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A subscription: *join* has the room and the position.

    With *poll* the response ends after the messages that are in the log now.
    """

    join: JoinRequest
    poll: bool


def is_stream(method: str, path: str) -> bool:
    """Return whether a request asks for a stream: its path ends with ``/stream``."""
    return method in ("GET", "HEAD") and path.rpartition("/")[2] == "stream"


def parse_stream(query: str, headers: Mapping[str, str]) -> StreamRequest | Response:
    """Read a request for a stream, or return the response that rejects it.

    A subscriber has no name and no session, so both are ignored. *headers* have lower-case names.
    """
    parameters = parse_query(query)
    if isinstance(parameters, Error):
        return plain_response(400, parameters.text)
    format = Format.SSE if EVENT_STREAM in headers.get("accept", "").lower() else Format.JSON
    nameless = {key: value for key, value in parameters.items() if key != "name"}
    join = join_from_parameters(nameless, format)
    if isinstance(join, Error):
        return plain_response(400, join.text)
    since = join.since
    last_event_id = headers.get("last-event-id", "")
    if last_event_id:  # from a browser that reconnects, so it is later than the cursor of its URL
        since = parse_cursor(last_event_id)
        if since is None:
            return plain_response(400, "Last-Event-ID is not a cursor EPOCH.SEQ")
    poll = parameters.get("poll", "0")
    if poll not in ("0", "1"):
        return plain_response(400, "poll is not 0 or 1")
    return StreamRequest(replace(join, name="", since=since), poll == "1")


def content_type(format: Format) -> str:
    """Return the Content-Type of a stream in *format*."""
    return EVENT_STREAM if format is Format.SSE else "application/x-ndjson"


def sse_preamble(format: Format, at: Cursor, chance: float) -> bytes | None:
    """Return what a stream of server-sent events begins with, before the welcome; None for JSON.

    It tells a browser its cursor *at*, and how long to wait before it reconnects. *chance* is a
    random number from 0 up to 1, which determines that time. Both are fields of the first event,
    which is not ended here: Firefox and other clients forget the id of an event without data.
    """
    if format is not Format.SSE:
        return None
    return f"retry: {_retry_ms(MIN_RETRY_MS, chance)}\nid: {at}".encode()


def reject_stream(rejection: Rejection, request: StreamRequest, chance: float) -> Response:
    """Return the response that rejects a subscriber, which sent *request*.

    An EventSource gives up for ever at any status but 200 (HTML, section 9.2.3). So if it may come
    back later, it gets an event that says why, and a time. *chance* is that of `sse_preamble`.
    """
    response = reject_response(rejection)
    wait = dict(response.headers).get("Retry-After")
    if wait is None or request.join.format is not Format.SSE:
        return response
    lines = [f"retry: {_retry_ms(max(MIN_RETRY_MS, 1000 * int(wait)), chance)}"]
    if request.join.since is not None:  # an event without an id would have it forget its cursor
        lines.append(f"id: {request.join.since}")
    body = "\n".join([*lines, encode_sse(rejection.error, ""), ""]).encode()
    return Response(200, EVENT_STREAM, len(body), iter([body]), STREAM_HEADERS)


def _retry_ms(least: int, chance: float) -> int:
    return least + int(2 * MIN_RETRY_MS * chance)


def frame_plain(payload: bytes) -> bytes:
    """Return *payload* with its last line ended, for a response without chunked transfer coding."""
    return payload + b"\n"


def frame_chunked(payload: bytes) -> bytes:
    """Return *payload* with its last line ended, as a chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\n\r\n" % (len(payload) + 1, payload)
