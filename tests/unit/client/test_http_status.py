"""HTTP statuses: one table for the handshake of `connect`, and the messages of `send` and `run`."""

from __future__ import annotations

from email.utils import formatdate
from time import time

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from broadcast_server.client.handshake_errors import describe_handshake_error
from broadcast_server.client.http_status import StatusFailure, describe_status
from broadcast_server.client.publish_result import Rejected, Retry, parse_publish_response

URL = "ws://h:1/chat/"
USE = "use that address"


@pytest.mark.parametrize("body", [b"", b"not now\n"])
@pytest.mark.parametrize("location", [None, "https://h/", "/x"])
def test_connect_and_send_agree(body: bytes, location: str | None) -> None:
    """Whatever status a server answers with, both have the same words, and both try again or not.

    A success is none for a handshake, and another one for a message.
    """
    for status in [*range(100, 200), *range(300, 600)]:
        headers = {"content-type": "text/plain", "retry-after": "7"}
        if location is not None:
            headers["location"] = location
        result = parse_publish_response(status, headers, body, URL)
        error = InvalidStatus(Response(status, "", Headers(headers), body))
        failure = describe_handshake_error(error, plain=True, url=URL)
        assert isinstance(result, Retry | Rejected)
        assert failure.reason == result.why
        assert failure.temporary is isinstance(result, Retry)
        assert failure.wait == (result.wait if isinstance(result, Retry) else 0.0)


@pytest.mark.parametrize(
    ("status", "headers", "body", "failure"),
    [
        (503, {}, b"", StatusFailure("HTTP status 503", temporary=True)),
        (503, {"content-type": "text/html"}, b"<h1>", StatusFailure("HTTP status 503", True)),
        (502, {}, b"bad gateway\nmore", StatusFailure("bad gateway", True)),
        (429, {"retry-after": " 7 "}, b"", StatusFailure("HTTP status 429", True, 7.0)),
        (429, {"retry-after": "1e9"}, b"", StatusFailure("HTTP status 429", True)),
        (429, {"retry-after": "-5"}, b"", StatusFailure("HTTP status 429", True)),
        (429, {"retry-after": "9" * 5000}, b"", StatusFailure("HTTP status 429", True, 3600.0)),
        (429, {"retry-after": formatdate(0)}, b"", StatusFailure("HTTP status 429", True)),
        (101, {}, b"", StatusFailure("no broadcast server is there: HTTP status 101")),
        (301, {"location": "javascript:alert"}, b"",
         StatusFailure("no broadcast server is there: HTTP status 301")),
        (307, {"location": "x/"}, b"", StatusFailure(f"the server redirects to {URL}x/, {USE}")),
        (304, {}, b"", StatusFailure("no broadcast server is there: HTTP status 304")),
        (426, {}, b"use http/2", StatusFailure("no broadcast server is there: HTTP status 426")),
        (400, {}, b"host is not valid", StatusFailure("host is not valid")),
    ],
)  # fmt: skip
def test_statuses(
    status: int, headers: dict[str, str], body: bytes, failure: StatusFailure
) -> None:
    """A status says whether to retry, when at the earliest, and why the request failed."""
    assert describe_status(status, headers, body, URL) == failure


def test_a_date_in_retry_after() -> None:
    """A Retry-After may be a date, but nobody waits for longer than an hour."""
    for seconds, expected in ((60, 60), (86400, 3600)):
        headers = {"retry-after": formatdate(time() + seconds, usegmt=True)}
        wait = describe_status(503, headers, b"").wait
        assert 0 < wait <= expected
        assert wait > expected - 30
