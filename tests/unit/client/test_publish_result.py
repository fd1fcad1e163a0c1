"""Publish results: what a server's response means, and whether to send the message again."""

from __future__ import annotations

import pytest

from broadcast_server.client.publish_result import (
    Accepted,
    PublishResult,
    Rejected,
    Retry,
    parse_publish_response,
)

PLAIN = {"content-type": "text/plain; charset=utf-8"}
LINE = '{"seq":42,"name":"ci","room":"lobby","count":3,"id":"a7"}'
NO_SERVER = Rejected("HTTP status 200, but not the response of a broadcast server", sure=False)


@pytest.mark.parametrize(
    ("status", "headers", "body", "result"),
    [
        (200, {}, LINE + "\n", Accepted("ci", "lobby", 3, LINE)),
        (200, PLAIN, "hello", NO_SERVER),
        (200, {}, "[" * 100_000, NO_SERVER),
        (200, {}, '{"seq":42}', NO_SERVER),
        (200, {}, LINE.replace("3", '"3"'), NO_SERVER),
        (200, {}, LINE.replace("3", "true"), NO_SERVER),
        (200, {}, LINE.replace("3", "-1"), NO_SERVER),
        (200, {}, LINE.replace("3", "9" * 19), NO_SERVER),
        (200, {}, LINE.replace("3", "9" * 5000), NO_SERVER),
        (200, {}, LINE.replace("lobby", "../etc"), NO_SERVER),
        (200, {}, LINE.replace("lobby", "\\ud800"), NO_SERVER),
        (200, {}, LINE.replace("ci", ""), NO_SERVER),
        (200, {}, LINE.replace(",", ",\r"), NO_SERVER),
        (400, PLAIN, "message is empty\n", Rejected("message is empty")),
        (401, PLAIN, "token is wrong\nreally\n", Rejected("token is wrong")),
        (
            413,
            PLAIN,
            "message is 5 bytes, limit is 4\n",
            Rejected("message is 5 bytes, limit is 4"),
        ),
        (
            421,
            PLAIN,
            "a.b is not a name of this server\n",
            Rejected("a.b is not a name of this server"),
        ),
        (409, PLAIN, "1 is here, 3 are required\n", Retry("1 is here, 3 are required")),
        (429, {**PLAIN, "retry-after": "3"}, "too many\n", Retry("too many", 3.0)),
        (503, {**PLAIN, "retry-after": "x"}, "stopping\n", Retry("stopping", sure=False)),
        (
            503,
            {**PLAIN, "retry-after": "9" * 99},
            "stopping\n",
            Retry("stopping", 3600.0, sure=False),
        ),
        (502, {"content-type": "text/html"}, "<h1>", Retry("HTTP status 502", sure=False)),
        (524, {"content-type": "text/html"}, "<h1>", Retry("HTTP status 524", sure=False)),
        (103, {"link": "</a.css>"}, "", Retry("HTTP status 103", sure=False)),
        (
            202,
            {},
            LINE,
            Rejected("HTTP status 202, but not the response of a broadcast server", sure=False),
        ),
        (
            501,
            {},
            "<h1>",
            Rejected("no broadcast server is there: HTTP status 501"),
        ),
        (
            301,
            {"location": "https://h/"},
            "",
            Rejected("the server redirects to https://h/, use that address"),
        ),
        (
            405,
            PLAIN,
            "no\n",
            Rejected("no broadcast server is there: HTTP status 405"),
        ),
    ],
)
def test_responses(status: int, headers: dict[str, str], body: str, result: PublishResult) -> None:
    """A response says whether the message was published, and whether a retry can help."""
    assert parse_publish_response(status, headers, body.encode()) == result


def test_responses_that_are_not_utf8() -> None:
    """A success that is not UTF-8 is not ours; in an error's text, bad bytes are replaced."""
    assert parse_publish_response(200, {}, b"\xff") == NO_SERVER
    assert parse_publish_response(400, PLAIN, b"a\xff\n") == Rejected("a\ufffd")
