"""The reply: what a server's answer to a message means for whether it is sent again."""

from __future__ import annotations

import pytest

from broadcast_server.reply import Later, Refused, Reply, Taken, reply_of

PLAIN = {"content-type": "text/plain; charset=utf-8"}
LINE = '{"seq":42,"name":"ci","room":"lobby","count":3,"id":"a7"}'
NOBODY = Refused("no broadcast server is there")


@pytest.mark.parametrize(
    ("status", "headers", "body", "reply"),
    [
        (200, {}, LINE + "\n", Taken("ci", "lobby", 3, LINE)),
        (200, PLAIN, "hello", NOBODY),
        (200, {}, "[" * 100_000, NOBODY),
        (200, {}, '{"seq":42}', NOBODY),
        (200, {}, LINE.replace("3", '"3"'), NOBODY),
        (400, PLAIN, "message is empty\n", Refused("message is empty")),
        (401, PLAIN, "token is wrong\nreally\n", Refused("token is wrong")),
        (413, PLAIN, "message is 5 bytes, limit is 4\n", Refused("message is 5 bytes, limit is 4")),
        (409, PLAIN, "1 is here, 3 are required\n", Later("1 is here, 3 are required")),
        (429, {**PLAIN, "retry-after": "3"}, "too many\n", Later("too many", 3.0)),
        (503, {**PLAIN, "retry-after": "x"}, "stopping\n", Later("stopping", sure=False)),
        (503, {**PLAIN, "retry-after": "9" * 99}, "stopping\n", Later("stopping", sure=False)),
        (502, {"content-type": "text/html"}, "<h1>", Later("HTTP status 502", sure=False)),
        (
            301,
            {"location": "https://h/"},
            "",
            Refused("it is at https://h/ now, give that address"),
        ),
        (
            405,
            PLAIN,
            "no\n",
            Refused("no broadcast server that takes messages is there: HTTP status 405"),
        ),
    ],
)
def test_what_an_answer_means(
    status: int, headers: dict[str, str], body: str, reply: Reply
) -> None:
    """What may be said later is told from what never will be, and whether it is known."""
    assert reply_of(status, headers, body.encode()) == reply


def test_bytes_of_any_kind_are_no_answer() -> None:
    """What is not UTF-8 is not from a broadcast server, or is shown as it can be."""
    assert reply_of(200, {}, b"\xff") == NOBODY
    assert reply_of(400, PLAIN, b"a\xff\n") == Refused("a\ufffd")
