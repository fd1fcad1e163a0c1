"""Publishing by POST: reading the request, and writing the response.

A client publishes a message by a POST to the address of the WebSocket, without joining the room.
This module is pure and the same for both servers. It does not know how the message gets its number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from broadcast_server.protocol.join import (
    join_from_parameters,
    parse_count,
    parse_query,
    session_from,
)
from broadcast_server.protocol.messages import (
    BAD_ID,
    Error,
    Format,
    is_valid_id,
    limit_text,
    validate_message,
)
from broadcast_server.protocol.publish import NotEnoughReceivers, Published, PublishRequest
from broadcast_server.protocol.sanitize import escape_control
from broadcast_server.protocol.session_key import SessionKey

from .responses import RETRY_WHEN_FULL_S, Response, plain_response, text_response
from .site import is_socket_path

BODY_TIMEOUT_S = 20.0
"""How long the server waits for the whole body."""

MAX_LENGTH_DIGITS = 19
"""A Content-Length with more digits is too long, and is not converted to a number."""


def is_post(method: str, path: str) -> bool:
    """Return whether a request publishes a message: a POST to the address of the WebSocket."""
    return method == "POST" and is_socket_path(path)


def max_body_bytes(limit: int) -> int:
    """Return the longest body for messages of *limit* bytes: it may end with a line break."""
    return limit + 2


def check_head(headers: Mapping[str, str], limit: int) -> Response | None:
    """Return the response that rejects a post before its body is read, or None to read the body.

    *limit* is the longest message, in bytes of UTF-8. *headers* have lower-case names.
    """
    if "transfer-encoding" in headers:
        return None
    length = headers.get("content-length", "")
    if not length.strip().isdecimal():
        text = "request has no Content-Length and is not chunked: send the message as its body"
        return plain_response(411, text)
    if len(length.strip()) > MAX_LENGTH_DIGITS or int(length) > max_body_bytes(limit):
        return too_long_response(f"{length.strip()[: MAX_LENGTH_DIGITS + 1]} bytes", limit)
    return None


def has_body(headers: Mapping[str, str]) -> bool:
    """Return whether a request announces a body. *headers* have lower-case names."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip() != "0"


def check_length(headers: Mapping[str, str], max_bytes: int) -> Response | None:
    """Return the response to a request that announces a body of more than *max_bytes*, else None.

    This is for requests that publish nothing, which need no body but may have one.
    """
    length = headers.get("content-length", "").strip()
    if not length.isdecimal() or (len(length) <= MAX_LENGTH_DIGITS and int(length) <= max_bytes):
        return None
    return long_body_response(f"{length[: MAX_LENGTH_DIGITS + 1]} bytes", max_bytes)


def long_body_response(size: str, max_bytes: int) -> Response:
    """Return the response to a body that is too long. *size* is what is known of its size."""
    return plain_response(413, f"body is {size}, limit is {max_bytes}")


def too_long_response(size: str, limit: int) -> Response:
    """Return the response to a message that is too long. *size* is what is known of its size."""
    return plain_response(413, f"message is {size}, {limit_text(limit)}")


def timeout_response(seconds: float) -> Response:
    """Return the response to a client that did not send the whole body in time."""
    return plain_response(408, f"message did not arrive within {seconds:g} s")


def busy_response() -> Response:
    """Return the response to an upload that was cut for the sake of newer ones."""
    text = f"too many uploads, try again in {RETRY_WHEN_FULL_S} s"
    return plain_response(503, text, ("Retry-After", str(RETRY_WHEN_FULL_S)))


def parse_publish(
    query: str, body: bytes, limit: int, key: SessionKey, sessions: Sequence[str] = ()
) -> PublishRequest | Response:
    """Read the query and the body of a post, or return the response that rejects it.

    *limit* is the longest message, in bytes of UTF-8, *key* the key for the digest of the session,
    and *sessions* are the values of all headers that carry one.
    """
    parameters = parse_query(query)
    if isinstance(parameters, Error):
        return plain_response(400, parameters.text)
    session = session_from(parameters, key, headers=sessions)
    join = join_from_parameters(parameters, Format.TEXT, session)
    if isinstance(join, Error):
        return plain_response(400, join.text)
    require = parse_count(parameters, "require")
    if isinstance(require, Error):
        return plain_response(400, require.text)
    id = parameters.get("id")
    if id is not None and not is_valid_id(id):
        return plain_response(400, BAD_ID.text)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        return plain_response(
            400, f"message is not UTF-8: {error.reason} at position {error.start}"
        )
    text = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    message = validate_message(text, id, limit)
    if isinstance(message, Error):
        return plain_response(400 if message.code == "empty" else 413, message.text)
    return PublishRequest(join=join, text=message.text, id=id, require=require)


def publish_response(request: PublishRequest, result: Published | NotEnoughReceivers) -> Response:
    """Return the response that tells the client the result of its request."""
    if isinstance(result, NotEnoughReceivers):
        present = "1 is" if result.count == 1 else f"{result.count} are"
        required = "1 is" if request.require == 1 else f"{request.require} are"
        return plain_response(409, f"{present} here, {required} required")
    fields: dict[str, object] = {
        "seq": result.seq,
        "name": result.name,
        "room": request.join.room,
        "count": result.count,
    }
    if request.id is not None:
        fields["id"] = request.id
    if result.repeated:
        fields["repeated"] = True
    line = escape_control(json.dumps(fields, ensure_ascii=False, separators=(",", ":")))
    return text_response(200, "application/json", line + "\n")
