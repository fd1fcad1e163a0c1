"""HTTP responses as values, and the ones that several routes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

from broadcast_server.protocol.messages import CloseCode
from broadcast_server.protocol.rejection import Rejection
from broadcast_server.protocol.sanitize import replace_control

PLAIN_TEXT = "text/plain; charset=utf-8"
NO_CACHE = ("Cache-Control", "no-cache")

SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    # A page of another site can neither show a response nor embed it.
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
"""What every response has."""

RETRY_WHEN_FULL_S = 5
"""The Retry-After of a server that is full."""

RETRY_WHEN_STOPPING_S = 1
"""The Retry-After of a server that stops, because it usually restarts."""

STATUS_BY_CLOSE_CODE = {
    CloseCode.STOPPING: 503,
    CloseCode.FULL: 503,
    CloseCode.REJECTED: 400,
    CloseCode.SIGN_IN: 401,
    CloseCode.REMOVED: 403,
}
"""The HTTP status for the close code that a WebSocket would get. All others are 403."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response with a *body* of *length* bytes, in chunks to be sent one after another."""

    status: int
    type: str
    length: int
    body: Iterator[bytes]
    headers: tuple[tuple[str, str], ...] = field(default=())


def forbidden_origin() -> Response:
    """Return the response to a page whose origin is not allowed."""
    return plain_response(403, "this origin is not allowed")


def reject_response(rejection: Rejection) -> Response:
    """Return the response that rejects a client, with Retry-After if it may try again."""
    code, text = rejection.code, rejection.text
    if rejection.retry_after:
        return plain_response(429, text, ("Retry-After", str(ceil(rejection.retry_after))))
    match STATUS_BY_CLOSE_CODE.get(code, 403):
        case 401:
            return plain_response(401, text, ("WWW-Authenticate", "Bearer"))
        case 503:
            wait = RETRY_WHEN_FULL_S if code is CloseCode.FULL else RETRY_WHEN_STOPPING_S
            return plain_response(503, text, ("Retry-After", str(wait)))
        case status:
            return plain_response(status, text)


def plain_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """Return a response with *text* and a line break as plain text.

    It may contain what the client sent, and end up at a terminal.
    """
    lines = map(replace_control, text.splitlines())
    return text_response(status, PLAIN_TEXT, "\n".join(lines) + "\n", *headers)


def text_response(status: int, type: str, text: str, *headers: tuple[str, str]) -> Response:
    """Return a response with *text* that no cache may reuse without asking the server again."""
    body = text.encode()
    return Response(status, type, len(body), iter([body]), (*headers, NO_CACHE))
