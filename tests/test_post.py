"""A post, as it is read and answered."""

from __future__ import annotations

import pytest

from broadcast_server.entry import Entry
from broadcast_server.post import Post, Said, TooFew, body_limit, outcome, parse_post, refuse_head
from broadcast_server.web import Answer


def words(answer: Answer | None) -> str:
    """Return what an answer says."""
    assert answer is not None
    return b"".join(answer.body).decode()


def test_a_post_is_read() -> None:
    """The query says who and where, the body what."""
    query = "name=ci&room=ops&session=0123456789abcdef&id=7&require=2"
    found = parse_post(query, b"a\nb\n", 4096)
    entry = Entry(name="ci", room="ops", session="0123456789abcdef")
    assert found == Post(entry, "a\nb", "7", 2)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("a", "a"),
        ("a\n", "a"),
        ("a\r\n", "a"),
        ("a\r", "a\r"),
        ("a\n\n", "a\n"),
        ("\na", "\na"),
        ("a\r\r\n", "a\r"),
    ],
)
def test_one_line_break_at_the_end_is_dropped(body: str, text: str) -> None:
    """Of the line breaks in a body one at its end is curl's, and the others the message's."""
    found = parse_post("", body.encode(), 4096)
    assert isinstance(found, Post) and found.text == text


def test_a_body_may_be_as_long_as_a_message_with_its_end() -> None:
    """A message of just the limit can come with a line break."""
    body = b"x" * 4096 + b"\r\n"
    assert len(body) == body_limit(4096)
    assert isinstance(parse_post("", body, 4096), Post)
    found = parse_post("", b"x" * 4097, 4096)
    assert isinstance(found, Answer)
    assert words(found) == "message is 4097 bytes, limit is 4096\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "4098"}, None),
        ({"content-length": "0"}, None),
        ({"transfer-encoding": "chunked"}, None),
        ({"content-length": "4099"}, 413),
        ({"content-length": "9" * 5000}, 413),
        ({"content-length": "x"}, 411),
        ({"content-length": "\xb2"}, 411),
        ({}, 411),
    ],
)
def test_the_head_of_a_post(headers: dict[str, str], status: int | None) -> None:
    """A body that is too long is refused before it is read, and so is none at all."""
    found = refuse_head(headers, 4096)
    assert (found and found.status) == status


@pytest.mark.parametrize(
    ("of", "required", "line"),
    [
        (Said(1, "ci", 0), 0, '{"seq":1,"name":"ci","room":"lobby","count":0,"id":"a"}\n'),
        (
            Said(1, "\u00fc", 2, repeated=True),
            9,
            '{"seq":1,"name":"\u00fc","room":"lobby","count":2,"id":"a","repeated":true}\n',
        ),
        (TooFew(0), 1, "0 are here, 1 is required\n"),
        (TooFew(1), 2, "1 is here, 2 are required\n"),
    ],
)
def test_what_became_of_it(of: Said | TooFew, required: int, line: str) -> None:
    """The answer is one line, of JSON if it was said."""
    found = outcome(Post(Entry(), "hi", "a", required), of)
    assert words(found) == line
    assert found.length == len(line.encode())
    assert found.status == (409 if isinstance(of, TooFew) else 200)
