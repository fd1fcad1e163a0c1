"""Publishing by POST: how requests are read, and the responses to them."""

from __future__ import annotations

import pytest

from broadcast_server.http.post import check_head, max_body_bytes, parse_publish, publish_response
from broadcast_server.http.responses import Response
from broadcast_server.protocol.join import JoinRequest
from broadcast_server.protocol.messages import limit_text
from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
from broadcast_server.protocol.session_key import SessionKey

KEY = SessionKey(b"key")


def body_text(response: Response | None) -> str:
    """Return the body of a response."""
    assert response is not None
    return b"".join(response.body).decode()


def test_a_post_becomes_a_publish_request() -> None:
    """The query has the name and the room, and the body has the message."""
    query = "name=ci&room=ops&session=0123456789abcdef&id=7&require=2"
    request = parse_publish(query, b"a\nb\n", 4096, KEY)
    join = JoinRequest(name="ci", room="ops", session=KEY.digest("0123456789abcdef"))
    assert request == PublishRequest(join, "a\nb", "7", 2)
    header = parse_publish("name=ci&room=ops", b"hi", 4096, KEY, ["0123456789abcdef"])
    assert header == PublishRequest(join, "hi", None, 0)


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
def test_one_line_break_at_the_end_is_removed(body: str, text: str) -> None:
    """One line break at the end of the body is removed; all others belong to the message."""
    request = parse_publish("", body.encode(), 4096, KEY)
    assert isinstance(request, PublishRequest) and request.text == text


def test_a_body_may_have_a_line_break_beyond_the_limit() -> None:
    """A message of exactly the limit may be followed by a line break."""
    body = b"x" * 4096 + b"\r\n"
    assert len(body) == max_body_bytes(4096)
    assert isinstance(parse_publish("", body, 4096, KEY), PublishRequest)
    response = parse_publish("", b"x" * 4097, 4096, KEY)
    assert isinstance(response, Response)
    assert body_text(response) == f"message is 4097 bytes, {limit_text(4096)}\n"


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
def test_a_post_without_a_valid_length_is_rejected(
    headers: dict[str, str], status: int | None
) -> None:
    """A body that is too long, or of unknown length, is rejected before it is read."""
    response = check_head(headers, 4096)
    assert (response and response.status) == status


@pytest.mark.parametrize(
    ("result", "required", "line"),
    [
        (Published(1, "ci", 0), 0, '{"seq":1,"name":"ci","room":"lobby","count":0,"id":"a"}\n'),
        (
            Published(1, "\u00fc", 2, repeated=True),
            9,
            '{"seq":1,"name":"\u00fc","room":"lobby","count":2,"id":"a","repeated":true}\n',
        ),
        (NotEnoughReceivers(0), 1, "0 are here, 1 is required\n"),
        (NotEnoughReceivers(1), 2, "1 is here, 2 are required\n"),
    ],
)
def test_the_response_to_a_post(
    result: Published | NotEnoughReceivers, required: int, line: str
) -> None:
    """The response is one line, which is JSON if the message was published."""
    response = publish_response(PublishRequest(JoinRequest(), "hi", "a", required), result)
    assert body_text(response) == line
    assert response.length == len(line.encode())
    assert response.status == (409 if isinstance(result, NotEnoughReceivers) else 200)
