"""Event streams: how requests are read, and how the response is framed."""

from __future__ import annotations

import pytest

from broadcast_server.http.responses import Response
from broadcast_server.http.stream import (
    StreamRequest,
    frame_chunked,
    frame_plain,
    is_stream,
    parse_stream,
    reject_stream,
    sse_preamble,
)
from broadcast_server.protocol.messages import CloseCode, Cursor, Error, Format
from broadcast_server.protocol.rejection import STOPPING, Rejection

SSE = {"accept": "text/event-stream"}


def test_a_subscriber_has_no_name() -> None:
    """A name and a session in the query are ignored, even if they are invalid."""
    request = parse_stream("name=a:b&session=x&room=ops&history=3", {})
    assert isinstance(request, StreamRequest)
    join = request.join
    assert (join.name, join.session, join.room, join.history) == ("", None, "ops", 3)
    assert (join.format, request.poll) == (Format.JSON, False)


def test_the_last_event_id_takes_precedence() -> None:
    """The Last-Event-ID of a browser replaces the cursor of the URL that it began with."""
    request = parse_stream("since=e.1&poll=1", {**SSE, "last-event-id": "e.7"})
    assert isinstance(request, StreamRequest)
    assert (request.join.since, request.join.format) == (Cursor("e", 7), Format.SSE)
    assert request.poll is True
    empty = parse_stream("since=e.1", {"last-event-id": ""})
    assert isinstance(empty, StreamRequest) and empty.join.since == Cursor("e", 1)
    wrong = parse_stream("", {"last-event-id": "7"})
    assert isinstance(wrong, Response) and wrong.status == 400


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/stream", True),
        ("HEAD", "/a/b/stream", True),
        ("POST", "/stream", False),
        ("GET", "/stream/", False),
        ("GET", "/upstream", False),
    ],
)
def test_the_path_of_a_stream(method: str, path: str, expected: bool) -> None:
    """A stream is beside the WebSocket, under any prefix."""
    assert is_stream(method, path) is expected


def test_a_browser_gets_a_cursor_and_a_retry_time() -> None:
    """Before the welcome a browser gets its cursor, and a random time before it reconnects."""
    at = Cursor("e", 4)
    assert sse_preamble(Format.JSON, at, 0.5) is None
    assert sse_preamble(Format.SSE, at, 0.0) == b"retry: 500\nid: e.4"
    assert sse_preamble(Format.SSE, at, 0.999) == b"retry: 1499\nid: e.4"


@pytest.mark.parametrize(
    ("rejection", "retry"),
    [
        (STOPPING, 1000),
        (Rejection(CloseCode.FULL, Error("full", "full")), 5000),
        (Rejection(CloseCode.FULL, Error("full", "too many guesses"), retry_after=7.2), 8000),
    ],
)
def test_a_browser_that_may_come_back_is_told_so(rejection: Rejection, retry: int) -> None:
    """A rejection that passes is an event, with the cursor that the browser has; others are not."""
    request = parse_stream("since=e.1", SSE)
    assert isinstance(request, StreamRequest)
    response = reject_stream(rejection, request, 0.0)
    assert (response.status, response.type) == (200, "text/event-stream")
    body = b"".join(response.body)
    assert len(body) == response.length
    assert body.startswith(b"retry: %d\nid: e.1\ndata: {" % retry)
    assert body.endswith(b"}\n\n")
    lines = parse_stream("since=e.1", {})
    assert isinstance(lines, StreamRequest)
    assert reject_stream(rejection, lines, 0.0).status in (429, 503)
    final = Rejection(CloseCode.REMOVED, Error("banned", "you are banned"))
    assert reject_stream(final, request, 0.0).status == 403


def test_payloads_are_framed_as_lines_and_chunks() -> None:
    """The last line of a payload is ended, and its line break counts in the size of a chunk."""
    assert frame_plain(b"a\nb") == b"a\nb\n"
    assert frame_chunked(b"a" * 15) == b"10\r\n" + b"a" * 15 + b"\n\r\n"
